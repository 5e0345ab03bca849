"""Services of the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, listing
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_catalog import ServiceChange, ServiceNew
from pileus.identity.tables import endpoint, limit, registered_limit, service
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, service_id: str) -> Any:
    """The row of a service. Raises NotFound."""
    row = tx.first(sa.select(service).where(service.c.id == service_id))
    if row is None:
        raise NotFound(f"Could not find service: {service_id}.")
    return row


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id, "type": row.type, "name": row.name, "description": row.description or "",
        "enabled": row.enabled, "links": links(call, "services", row.id),
    }


def create(call: Call) -> dict[str, Any]:
    """POST /v3/services: 201."""
    call.enforce("identity:create_service")
    new, extra = split_extra(ServiceNew, call.body.service)
    service_id = call.cloud.world.hex_id()
    call.tx.execute(service.insert().values(
        id=service_id, type=new.type, name=new.name or "", description=new.description, enabled=new.enabled,
        extra=extra,
    ))
    claims.changed(call.tx)
    return {"service": _view(call, get(call.tx, service_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/services: 200."""
    call.enforce("identity:list_services")
    filters = {"name": service.c.name, "type": service.c.type, "enabled": service.c.enabled}
    page = listing.find(call, service, filters)
    return collection(call, "services", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/services/{service_id}: 200."""
    call.enforce("identity:get_service")
    return {"service": _view(call, get(call.tx, call.params["service_id"]))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/services/{service_id}: 200. A disabled service leaves the catalog."""
    call.enforce("identity:update_service")
    row = get(call.tx, call.params["service_id"])
    same_id(call.body.service, row.id)
    change, extra = split_extra(ServiceChange, call.body.service)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    for name in ("type", "name", "description", "enabled"):
        given = getattr(change, name)
        if given is not UNSET:
            values[name] = "" if name == "name" and given is None else given
    call.tx.execute(service.update().where(service.c.id == row.id).values(**values))
    claims.changed(call.tx)
    return {"service": _view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/services/{service_id}: 204, with its endpoints and limits."""
    call.enforce("identity:delete_service")
    row = get(call.tx, call.params["service_id"])
    registered = call.tx.scalars(sa.select(registered_limit.c.id).where(registered_limit.c.service_id == row.id))
    call.tx.execute(limit.delete().where(limit.c.registered_limit_id.in_(registered)))
    call.tx.execute(registered_limit.delete().where(registered_limit.c.service_id == row.id))
    call.tx.execute(endpoint.delete().where(endpoint.c.service_id == row.id))
    call.tx.execute(service.delete().where(service.c.id == row.id))
    claims.changed(call.tx)
