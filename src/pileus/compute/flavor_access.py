"""Which projects may use a private flavor."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute import flavors
from pileus.compute.schemas_rest import FlavorAction
from pileus.compute.tables import flavor_access
from pileus.identity import projects
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /flavors/{flavor_id}/os-flavor-access: 200. Raises NotFound for public flavors."""
    found = flavors.find(call.tx, call.context, call.params["flavor_id"])
    if found.is_public:
        raise NotFound("Access list not available for public flavors.")
    return _list(call, found.id)


def act(call: Call) -> dict[str, Any]:
    """POST /flavors/{flavor_id}/action: 200, the list after addTenantAccess or removeTenantAccess."""
    body: FlavorAction = call.body
    if (body.add is UNSET) == (body.remove is UNSET):
        raise BadRequest("There must be one action: addTenantAccess or removeTenantAccess.")
    if body.add is not UNSET:
        call.enforce("os_compute_api:os-flavor-access:add_tenant_access")
        return _add(call, body.add.tenant)
    assert body.remove is not UNSET
    call.enforce("os_compute_api:os-flavor-access:remove_tenant_access")
    return _remove(call, body.remove.tenant)


def _add(call: Call, project_id: str) -> dict[str, Any]:
    if not projects.exists(call.tx, project_id):
        raise BadRequest(f"Project ID {project_id} is not a valid project.")
    found = flavors.find(call.tx, call.context, call.params["flavor_id"])
    if found.is_public and call.version is not None and call.version >= (2, 7):
        raise Conflict("Can not add access to a public flavor.")
    try:
        with call.tx.savepoint():
            call.tx.execute(flavor_access.insert().values(flavor_id=found.id, project_id=project_id))
    except sa.exc.IntegrityError:
        raise Conflict(f"Flavor access already exists for flavor {found.id} and project {project_id}.") from None
    return _list(call, found.id)


def _remove(call: Call, project_id: str) -> dict[str, Any]:
    found = flavors.find(call.tx, call.context, call.params["flavor_id"])
    gone = call.tx.execute(flavor_access.delete().where(
        flavor_access.c.flavor_id == found.id, flavor_access.c.project_id == project_id
    ))
    if not gone.rowcount:
        raise NotFound(f"Flavor access not found for {found.id} / {project_id} combination.")
    return _list(call, found.id)


def _list(call: Call, flavor_id: str) -> dict[str, Any]:
    rows = call.tx.scalars(
        sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == flavor_id)
        .order_by(flavor_access.c.project_id)
    )
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project_id} for project_id in rows]}
