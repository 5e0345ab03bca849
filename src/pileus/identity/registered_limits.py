"""Registered limits: how much of a resource every project may have by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import listing
from pileus.identity.schemas_limits import RegisteredLimitChange, RegisteredLimitNew
from pileus.identity.tables import limit, region, registered_limit, service
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, limit_id: str) -> Any:
    """The row of a registered limit. Raises NotFound."""
    row = tx.first(sa.select(registered_limit).where(registered_limit.c.id == limit_id))
    if row is None:
        raise NotFound(f"Could not find registered limit for {limit_id}.")
    return row


def find(tx: Tx, service_id: str, region_id: str | None, resource_name: str) -> Any:
    """The registered limit of a resource; None when there is none."""
    return tx.first(sa.select(registered_limit).where(
        registered_limit.c.service_id == service_id, registered_limit.c.region_id == (region_id or ""),
        registered_limit.c.resource_name == resource_name,
    ))


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "service_id": row.service_id, "region_id": row.region_id or None,
        "resource_name": row.resource_name, "default_limit": row.default_limit, "description": row.description,
        "links": links(call, "registered_limits", row.id),
    }


def _check(tx: Tx, service_id: str, region_id: str | None) -> None:
    if tx.first(sa.select(service.c.id).where(service.c.id == service_id)) is None:
        raise BadRequest(f"Could not find service: {service_id}.")
    if region_id and tx.first(sa.select(region.c.id).where(region.c.id == region_id)) is None:
        raise BadRequest(f"Could not find region: {region_id}.")


def create(call: Call) -> dict[str, Any]:
    """POST /v3/registered_limits: 201, all or none."""
    call.enforce("identity:create_registered_limits")
    return {"registered_limits": [_create(call, new) for new in call.body.registered_limits]}


def _create(call: Call, new: RegisteredLimitNew) -> dict[str, Any]:
    _check(call.tx, new.service_id, new.region_id)
    if find(call.tx, new.service_id, new.region_id, new.resource_name) is not None:
        raise Conflict(f"There is a registered limit of {new.resource_name} for this service and region already.")
    made = call.cloud.world.hex_id()
    call.tx.execute(registered_limit.insert().values(
        id=made, service_id=new.service_id, region_id=new.region_id or "", resource_name=new.resource_name,
        default_limit=new.default_limit, description=new.description,
    ))
    return _view(call, get(call.tx, made))


def index(call: Call) -> dict[str, Any]:
    """GET /v3/registered_limits: 200."""
    columns = registered_limit.c
    filters = {"service_id": columns.service_id, "region_id": columns.region_id, "resource_name": columns.resource_name}
    page = listing.find(call, registered_limit, filters)
    return collection(call, "registered_limits", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/registered_limits/{limit_id}: 200."""
    return {"registered_limit": _view(call, get(call.tx, call.params["limit_id"]))}


def _check_unused(tx: Tx, row: Any) -> None:
    if tx.first(sa.select(limit.c.id).where(limit.c.registered_limit_id == row.id)) is not None:
        raise Forbidden(f"Unable to update or delete registered limit {row.id} because there are project limits "
                        "associated with it.")


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/registered_limits/{limit_id}: 200."""
    call.enforce("identity:update_registered_limit")
    row = get(call.tx, call.params["limit_id"])
    change: RegisteredLimitChange = call.body.registered_limit
    values = {
        name: getattr(change, name)
        for name in ("service_id", "region_id", "resource_name", "default_limit", "description")
        if getattr(change, name) is not UNSET
    }
    if "region_id" in values:
        values["region_id"] = values["region_id"] or ""
    key = [values.get(name, getattr(row, name)) for name in ("service_id", "region_id", "resource_name")]
    if key != [row.service_id, row.region_id, row.resource_name]:
        _check_unused(call.tx, row)
        _check(call.tx, key[0], key[1])
        if find(call.tx, *key) is not None:
            raise Conflict(f"There is a registered limit of {key[2]} for this service and region already.")
    if values:
        call.tx.execute(registered_limit.update().where(registered_limit.c.id == row.id).values(**values))
    return {"registered_limit": _view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/registered_limits/{limit_id}: 204; 403 while a project or domain has a limit of its own."""
    call.enforce("identity:delete_registered_limit")
    row = get(call.tx, call.params["limit_id"])
    _check_unused(call.tx, row)
    call.tx.execute(registered_limit.delete().where(registered_limit.c.id == row.id))
