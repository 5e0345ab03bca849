"""The default volume type of a project, where it has one of its own."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.identity import projects
from pileus.volume import volume_types
from pileus.volume.tables_rest import default_type
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /default-types: 200."""
    rows = call.tx.all(sa.select(default_type).order_by(default_type.c.project_id))
    return {"default_types": [_shown(row) for row in rows]}


def show(call: Call) -> dict[str, Any]:
    """GET /default-types/{project_id}: 200."""
    return {"default_type": _shown(_of(call))}


def put(call: Call) -> dict[str, Any]:
    """PUT /default-types/{project_id}: 200. The project must see the type."""
    project_id = call.params["project_id"]
    if not projects.exists(call.tx, project_id):
        raise NotFound(f"Project {project_id} could not be found.")
    found = volume_types.row(call.tx, call.context, call.body.default_type.volume_type)
    if not volume_types.sees(call.tx, project_id, found.id):
        raise BadRequest(f"Volume type {found.id} is private, and project {project_id} has no access to it.")
    call.tx.execute(default_type.delete().where(default_type.c.project_id == project_id))
    call.tx.execute(default_type.insert().values(project_id=project_id, type_id=found.id))
    return {"default_type": {"project_id": project_id, "volume_type_id": found.id}}


def delete(call: Call) -> None:
    """DELETE /default-types/{project_id}: 204. The type itself stays."""
    found = _of(call)
    call.tx.execute(default_type.delete().where(default_type.c.project_id == found.project_id))


def _of(call: Call) -> Any:
    project_id = call.params["project_id"]
    found = call.tx.first(sa.select(default_type).where(default_type.c.project_id == project_id))
    if found is None:
        raise NotFound(f"Default type for project {project_id} could not be found.")
    return found


def _shown(row: Any) -> dict[str, str]:
    return {"project_id": row.project_id, "volume_type_id": row.type_id}
