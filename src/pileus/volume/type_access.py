"""Which projects may use a private volume type."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import projects
from pileus.volume import volume_types
from pileus.volume.schemas_rest import TypeAction
from pileus.volume.tables_rest import volume_type_access
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}/os-volume-type-access: 200. Raises NotFound for public types."""
    found = volume_types.by_id(call, call.params["type_id"])
    if found.is_public:
        raise NotFound("Access list not available for public volume types.")
    rows = call.tx.scalars(
        sa.select(volume_type_access.c.project_id).where(volume_type_access.c.type_id == found.id)
        .order_by(volume_type_access.c.project_id)
    )
    return {"volume_type_access": [{"volume_type_id": found.id, "project_id": one} for one in rows]}


def act(call: Call) -> None:
    """POST /types/{type_id}/action: 202. addProjectAccess or removeProjectAccess."""
    body: TypeAction = call.body
    if (body.add is UNSET) == (body.remove is UNSET):
        raise BadRequest("There must be one action: addProjectAccess or removeProjectAccess.")
    found = volume_types.by_id(call, call.params["type_id"])
    if body.add is not UNSET:
        call.enforce("volume_extension:volume_type_access:addProjectAccess")
        _add(call, found, body.add.project)
    elif body.remove is not UNSET:
        call.enforce("volume_extension:volume_type_access:removeProjectAccess")
        _remove(call, found, body.remove.project)


def _add(call: Call, found: Any, project_id: str) -> None:
    if found.is_public:
        raise Conflict("Type access modification is not applicable to public volume type.")
    if not projects.exists(call.tx, project_id):
        raise BadRequest(f"Project ID {project_id} is not a valid project.")
    try:
        with call.tx.savepoint():
            call.tx.execute(volume_type_access.insert().values(type_id=found.id, project_id=project_id))
    except sa.exc.IntegrityError:
        raise Conflict(f"Volume type access for {found.id} / {project_id} combination already exists.") from None


def _remove(call: Call, found: Any, project_id: str) -> None:
    if found.is_public:
        raise Conflict("Type access modification is not applicable to public volume type.")
    gone = call.tx.execute(volume_type_access.delete().where(
        volume_type_access.c.type_id == found.id, volume_type_access.c.project_id == project_id
    ))
    if not gone.rowcount:
        raise NotFound(f"Volume type access not found for {found.id} / {project_id} combination.")
