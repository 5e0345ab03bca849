"""Endpoints: where a service answers, by interface and region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, listing, regions
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_catalog import EndpointChange, EndpointNew
from pileus.identity.tables import endpoint, region, service
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, endpoint_id: str) -> Any:
    """The row of an endpoint. Raises NotFound."""
    row = tx.first(sa.select(endpoint).where(endpoint.c.id == endpoint_id))
    if row is None:
        raise NotFound(f"Could not find endpoint: {endpoint_id}.")
    return row


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id, "service_id": row.service_id, "interface": row.interface, "url": row.url,
        "region": row.region_id, "region_id": row.region_id, "enabled": row.enabled,
        "links": links(call, "endpoints", row.id),
    }


def _region(tx: Tx, region_id: Any, older: Any) -> Any:
    """The region named by `region_id`, which must exist, or by the older `region`, which is made when missing."""
    if isinstance(region_id, str):
        if tx.first(sa.select(region.c.id).where(region.c.id == region_id)) is None:
            raise BadRequest(f"Could not find region: {region_id}.")
        return region_id
    if isinstance(older, str):
        regions.ensure(tx, older)
        return older
    return region_id if older is UNSET else older


def _check(tx: Tx, service_id: Any, url: Any) -> None:
    """Raises BadRequest for an unknown service or a URL that the catalog cannot fill in."""
    if service_id is not UNSET and tx.first(sa.select(service.c.id).where(service.c.id == service_id)) is None:
        raise BadRequest(f"Could not find service: {service_id}.")
    if url is UNSET:
        return
    filled = url
    for mark in ("project_id", "tenant_id", "user_id"):
        filled = filled.replace(f"%({mark})s", mark).replace(f"$({mark})s", mark)
    try:
        broken = not urlsplit(filled).netloc or "%(" in filled or "$(" in filled
    except ValueError:
        broken = True
    if broken:
        raise BadRequest(f"The endpoint's url {url} cannot be used: it needs a host, and may hold %(project_id)s, "
                         "%(tenant_id)s and %(user_id)s only.")


def create(call: Call) -> dict[str, Any]:
    """POST /v3/endpoints: 201."""
    call.enforce("identity:create_endpoint")
    new, extra = split_extra(EndpointNew, call.body.endpoint)
    _check(call.tx, new.service_id, new.url)
    endpoint_id = call.cloud.world.hex_id()
    call.tx.execute(endpoint.insert().values(
        id=endpoint_id, service_id=new.service_id, interface=new.interface, url=new.url, enabled=new.enabled,
        region_id=_region(call.tx, new.region_id, new.region), own=False, extra=extra,
    ))
    claims.changed(call.tx)
    return {"endpoint": _view(call, get(call.tx, endpoint_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/endpoints: 200."""
    call.enforce("identity:list_endpoints")
    filters = {
        "interface": endpoint.c.interface, "service_id": endpoint.c.service_id, "region_id": endpoint.c.region_id,
        "region": endpoint.c.region_id, "enabled": endpoint.c.enabled,
    }
    page = listing.find(call, endpoint, filters)
    return collection(call, "endpoints", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/endpoints/{endpoint_id}: 200."""
    call.enforce("identity:get_endpoint")
    return {"endpoint": _view(call, get(call.tx, call.params["endpoint_id"]))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/endpoints/{endpoint_id}: 200. One of our own that is given another URL stays as it was given."""
    call.enforce("identity:update_endpoint")
    row = get(call.tx, call.params["endpoint_id"])
    same_id(call.body.endpoint, row.id)
    change, extra = split_extra(EndpointChange, call.body.endpoint)
    _check(call.tx, change.service_id, change.url)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    for name in ("service_id", "interface", "url", "enabled"):
        given = getattr(change, name)
        if given is not UNSET:
            values[name] = given
    if change.region_id is not UNSET or change.region is not UNSET:
        values["region_id"] = _region(call.tx, change.region_id, change.region)
    if "url" in values and values["url"] != row.url:
        values["own"] = False
    call.tx.execute(endpoint.update().where(endpoint.c.id == row.id).values(**values))
    claims.changed(call.tx)
    return {"endpoint": _view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/endpoints/{endpoint_id}: 204."""
    call.enforce("identity:delete_endpoint")
    row = get(call.tx, call.params["endpoint_id"])
    call.tx.execute(endpoint.delete().where(endpoint.c.id == row.id))
    claims.changed(call.tx)
