"""Regions: where endpoints are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, listing
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_catalog import RegionChange, RegionNew
from pileus.identity.tables import endpoint, region
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, region_id: str) -> Any:
    """The row of a region. Raises NotFound."""
    row = tx.first(sa.select(region).where(region.c.id == region_id))
    if row is None:
        raise NotFound(f"Could not find region: {region_id}.")
    return row


def ensure(tx: Tx, region_id: str) -> None:
    """Make the region if there is none of this id."""
    if tx.first(sa.select(region.c.id).where(region.c.id == region_id)) is None:
        tx.execute(region.insert().values(id=region_id, description="", extra={}))


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id, "description": row.description, "parent_region_id": row.parent_id,
        "links": links(call, "regions", row.id),
    }


def create(call: Call) -> dict[str, Any]:
    """POST /v3/regions and PUT /v3/regions/{region_id}: 201."""
    call.enforce("identity:create_region")
    if "region_id" in call.params:
        same_id(call.body.region, call.params["region_id"])
    new, extra = split_extra(RegionNew, call.body.region)
    region_id = call.params.get("region_id") or new.id or call.cloud.world.hex_id()
    if len(region_id) > 255:
        raise BadRequest("A region's id has at most 255 characters.")
    if call.tx.first(sa.select(region.c.id).where(region.c.id == region_id)) is not None:
        raise Conflict(f"Conflict occurred attempting to store region - Duplicate ID, {region_id}.")
    if new.parent_region_id is not None:
        get(call.tx, new.parent_region_id)
    call.tx.execute(region.insert().values(
        id=region_id, description=new.description or "", parent_id=new.parent_region_id, extra=extra,
    ))
    return {"region": _view(call, get(call.tx, region_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/regions: 200."""
    page = listing.find(call, region, {"id": region.c.id, "parent_region_id": region.c.parent_id})
    return collection(call, "regions", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/regions/{region_id}: 200."""
    return {"region": _view(call, get(call.tx, call.params["region_id"]))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/regions/{region_id}: 200."""
    call.enforce("identity:update_region")
    row = get(call.tx, call.params["region_id"])
    same_id(call.body.region, row.id)
    change, extra = split_extra(RegionChange, call.body.region)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    if change.description is not UNSET:
        values["description"] = change.description or ""
    if change.parent_region_id is not UNSET:
        _check_parent(call.tx, row.id, change.parent_region_id)
        values["parent_id"] = change.parent_region_id
    call.tx.execute(region.update().where(region.c.id == row.id).values(**values))
    return {"region": _view(call, get(call.tx, row.id))}


def _check_parent(tx: Tx, region_id: str, parent_id: str | None) -> None:
    """Raises NotFound for an unknown parent, BadRequest for one that is below the region."""
    at = parent_id
    while at is not None:
        if at == region_id:
            raise BadRequest(f"Region {parent_id} is {region_id} itself or below it, and cannot be its parent.")
        at = get(tx, at).parent_id


def delete(call: Call) -> None:
    """DELETE /v3/regions/{region_id}: 204, with the regions below; 403 while an endpoint is in one of them."""
    call.enforce("identity:delete_region")
    row = get(call.tx, call.params["region_id"])
    levels = [[row.id]]
    while levels[-1]:
        levels.append(call.tx.scalars(sa.select(region.c.id).where(region.c.parent_id.in_(levels[-1]))))
    everything = [one for level in levels for one in level]
    if call.tx.first(sa.select(endpoint.c.id).where(endpoint.c.region_id.in_(everything))) is not None:
        raise Forbidden(f"Unable to delete region {row.id} because it or its child regions have associated endpoints.")
    for level in reversed(levels):
        call.tx.execute(region.delete().where(region.c.id.in_(level)))
    claims.changed(call.tx)
