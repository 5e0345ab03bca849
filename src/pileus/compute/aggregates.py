"""Host aggregates: groups of nodes with metadata, which may make an availability zone."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute import availability_zones, nodes
from pileus.compute.schemas_rest import AggregateAction, AggregateChange, AggregateNew
from pileus.compute.tables import aggregate, aggregate_host, server
from pileus.compute.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.views import Field, View

_ZONE = "availability_zone"


def _metadata(pair: Any) -> dict[str, str]:
    row = pair[0]
    return {**row.metadata, _ZONE: row.zone} if row.zone else dict(row.metadata)


_SHORT = (
    Field("id", lambda pair: pair[0].id), Field("name", lambda pair: pair[0].name),
    Field(_ZONE, lambda pair: pair[0].zone), Field("created_at", lambda pair: when(pair[0].created)),
    Field("updated_at", lambda pair: when(pair[0].updated)), Field("deleted", lambda pair: False),
    Field("deleted_at", lambda pair: None), Field("uuid", lambda pair: pair[0].uuid, since=(2, 41)),
)
_NEW = View(*_SHORT)
_WHOLE = View(*_SHORT, Field("hosts", lambda pair: pair[1]), Field("metadata", _metadata))

# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /os-aggregates: 200."""
    hosts: dict[int, list[str]] = {}
    for row in call.tx.all(sa.select(aggregate_host).order_by(aggregate_host.c.host)):
        hosts.setdefault(row.aggregate_id, []).append(row.host)
    rows = call.tx.all(sa.select(aggregate).order_by(aggregate.c.id))
    return {"aggregates": _WHOLE.render_all([(row, hosts.get(row.id, [])) for row in rows], call.version)}


def create(call: Call) -> dict[str, Any]:
    """POST /os-aggregates: 200, without hosts and metadata."""
    new: AggregateNew = call.body.aggregate
    _check_name(call, new.name)
    uuid = call.cloud.world.uuid()
    call.tx.execute(aggregate.insert().values(
        uuid=uuid, name=new.name, zone=new.availability_zone, metadata={}, created=call.now,
    ))
    row = call.tx.first(sa.select(aggregate).where(aggregate.c.uuid == uuid))
    return {"aggregate": _NEW.render((row, []), call.version)}


def _check_name(call: Call, name: str, but: int = -1) -> None:
    taken = sa.select(aggregate.c.id).where(aggregate.c.name == name, aggregate.c.id != but)
    if call.tx.first(taken) is not None:
        raise Conflict(f"Aggregate {name} already exists.")


def _find(call: Call) -> Any:
    wanted = call.params["aggregate_id"]
    if not re.fullmatch(r"-?[0-9]{1,18}", wanted):
        raise BadRequest(f"id must be an integer, not {wanted}.")
    row = call.tx.first(sa.select(aggregate).where(aggregate.c.id == int(wanted)))
    if row is None:
        raise NotFound(f"Aggregate {wanted} could not be found.")
    return row


def _hosts(call: Call, row: Any) -> list[str]:
    return call.tx.scalars(
        sa.select(aggregate_host.c.host).where(aggregate_host.c.aggregate_id == row.id).order_by(aggregate_host.c.host)
    )


def _shown(call: Call) -> dict[str, Any]:
    row = _find(call)
    return {"aggregate": _WHOLE.render((row, _hosts(call, row)), call.version)}


def show(call: Call) -> dict[str, Any]:
    """GET /os-aggregates/{aggregate_id}: 200."""
    return _shown(call)


def update(call: Call) -> dict[str, Any]:
    """PUT /os-aggregates/{aggregate_id}: 200."""
    body: AggregateChange = call.body.aggregate
    row = _find(call)
    change: dict[str, Any] = {}
    if body.name is not UNSET:
        _check_name(call, body.name, row.id)
        change["name"] = body.name
    if body.availability_zone is not UNSET:
        _check_zone(call, row, body.availability_zone)
        change["zone"] = body.availability_zone
    if not change:
        raise BadRequest("Invalid input: give a name or an availability_zone.")
    call.tx.execute(aggregate.update().where(aggregate.c.id == row.id).values(updated=call.now, **change))
    return _shown(call)


def _check_zone(call: Call, row: Any, zone: str | None) -> None:
    """A zone may change only while its nodes have no servers, and a node is in one zone at most."""
    hosts = _hosts(call, row)
    if zone == row.zone or not hosts:
        return
    if zone is not None:
        for host in hosts:
            _check_other_zone(call, host, zone, row.id)
    _check_empty(call, hosts, f"change the availability zone of aggregate {row.id}")


def _check_empty(call: Call, hosts: list[str], what: str) -> None:
    used = sa.select(server.c.host).where(server.c.host.in_(hosts), server.c.deleted.is_(False)).limit(1)
    found = call.tx.scalar(used)
    if found is not None:
        raise BadRequest(f"Cannot {what}: host {found} has servers, which would change their zone.")


def _check_other_zone(call: Call, host: str, zone: str, but: int) -> None:
    others = sa.select(aggregate.c.zone, aggregate.c.name).where(
        aggregate.c.id == aggregate_host.c.aggregate_id, aggregate_host.c.host == host, aggregate.c.id != but,
        aggregate.c.zone.is_not(None), aggregate.c.zone != zone,
    )
    other = call.tx.first(others.limit(1))
    if other is not None:
        raise Conflict(f"Host {host} is already in availability zone {other.zone}, by aggregate {other.name}.")


def delete(call: Call) -> None:
    """DELETE /os-aggregates/{aggregate_id}: 200. Only an empty one."""
    row = _find(call)
    if _hosts(call, row):
        raise BadRequest(f"Cannot remove aggregate {row.id}: it still has hosts. Remove them first.")
    call.tx.execute(aggregate.delete().where(aggregate.c.id == row.id))


def act(call: Call) -> dict[str, Any]:
    """POST /os-aggregates/{aggregate_id}/action: 200; add_host, remove_host or set_metadata."""
    body: AggregateAction = call.body
    given = [name for name in ("add_host", "remove_host", "set_metadata") if getattr(body, name) is not UNSET]
    if len(given) != 1:
        raise BadRequest("There must be one action: add_host, remove_host or set_metadata.")
    call.enforce(f"os_compute_api:os-aggregates:{given[0]}")
    row = _find(call)
    if body.add_host is not UNSET:
        _add_host(call, row, body.add_host.host)
    elif body.remove_host is not UNSET:
        _remove_host(call, row, body.remove_host.host)
    elif body.set_metadata is not UNSET:
        _set_metadata(call, row, body.set_metadata.metadata)
    return _shown(call)


def cache_images(call: Call) -> None:
    """POST /os-aggregates/{aggregate_id}/images (2.81): 400. Nodes fetch an image when its first server comes."""
    _find(call)
    raise BadRequest("Images cannot be cached beforehand here: a node keeps an image from its first server on.")


def _add_host(call: Call, row: Any, host: str) -> None:
    found = nodes.by_name(call.tx, host)
    if found is None:
        raise NotFound(f"Compute host {host} could not be found.")
    if host in _hosts(call, row):
        raise Conflict(f"Aggregate {row.id} already has host {host}.")
    if row.zone is not None:
        _check_other_zone(call, host, row.zone, row.id)
        if row.zone != availability_zones.of_host(call.tx, call.cloud, host):
            _conflict_if_used(call, host)
    call.tx.execute(aggregate_host.insert().values(aggregate_id=row.id, host=host))
    nodes.publish_aggregates(call.tx, found)


def _conflict_if_used(call: Call, host: str) -> None:
    try:
        _check_empty(call, [host], "put the host into or out of an availability zone")
    except BadRequest as problem:
        raise Conflict(problem.message) from None


def _remove_host(call: Call, row: Any, host: str) -> None:
    if host not in _hosts(call, row):
        raise NotFound(f"Cannot remove host {host} in aggregate {row.id}: it is not there.")
    if row.zone is not None and row.zone != call.cloud.settings.availability_zone:
        _conflict_if_used(call, host)
    call.tx.execute(aggregate_host.delete().where(
        aggregate_host.c.aggregate_id == row.id, aggregate_host.c.host == host
    ))
    found = nodes.by_name(call.tx, host)
    if found is not None:
        nodes.publish_aggregates(call.tx, found)


def _set_metadata(call: Call, row: Any, given: dict[str, str | None]) -> None:
    metadata = dict(row.metadata)
    change: dict[str, Any] = {}
    for key, value in given.items():
        if key == _ZONE:
            _check_zone(call, row, value)
            change["zone"] = value
        elif value is None:
            metadata.pop(key, None)
        else:
            metadata[key] = value
    call.tx.execute(
        aggregate.update().where(aggregate.c.id == row.id).values(metadata=metadata, updated=call.now, **change)
    )
