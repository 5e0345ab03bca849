"""Availability zones: aggregates that say so; all other nodes are in the default zone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster.liveness import moment
from pileus.compute import nodes
from pileus.compute.tables import aggregate, aggregate_host, node
from pileus.web.call import Call
from pileus.world import iso_micro

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_ZONES = (
    sa.select(aggregate_host.c.host, aggregate.c.zone)
    .where(aggregate.c.id == aggregate_host.c.aggregate_id, aggregate.c.zone.is_not(None))
)
_ZONE_OF = _ZONES.where(aggregate_host.c.host == sa.bindparam("host")).limit(1)

# -- for other modules


def by_host(tx: Tx) -> dict[str, str]:
    """The zone of each host that an aggregate puts into one; the others are in the setting's zone."""
    return {row.host: row.zone for row in tx.all(_ZONES)}


def of_host(tx: Tx, cloud: Cloud, host: str) -> str:
    """The zone of one host."""
    row = tx.first(_ZONE_OF, {"host": host})
    return row.zone if row is not None else cloud.settings.availability_zone


def exists(tx: Tx, cloud: Cloud, zone: str) -> bool:
    """Whether a server may ask for this zone: the default one, or one with an aggregate that has hosts."""
    return zone == cloud.settings.availability_zone or zone in by_host(tx).values()


def states(call: Call) -> dict[str, bool]:
    """Whether each zone is available: while one of its nodes is enabled."""
    return {name: _available(rows) for name, rows in sorted(_zones(call).items())}


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /os-availability-zone: 200, without hosts."""
    return {"availabilityZoneInfo": [
        {"zoneName": name, "zoneState": {"available": available}, "hosts": None}
        for name, available in states(call).items()
    ]}


def detail(call: Call) -> dict[str, Any]:
    """GET /os-availability-zone/detail: 200, with each node's service."""
    return {"availabilityZoneInfo": [
        {
            "zoneName": name, "zoneState": {"available": _available(rows)},
            "hosts": {row.name: {"nova-compute": _service(call, row)} for row in rows},
        }
        for name, rows in sorted(_zones(call).items())
    ]}


def _zones(call: Call) -> dict[str, list[Any]]:
    named = by_host(call.tx)
    zones: dict[str, list[Any]] = {}
    for row in call.tx.all(sa.select(node).order_by(node.c.name)):
        zones.setdefault(named.get(row.name, call.cloud.settings.availability_zone), []).append(row)
    return zones


def _available(rows: list[Any]) -> bool:
    return any(not row.disabled for row in rows)


def _service(call: Call, row: Any) -> dict[str, Any]:
    return {
        "available": nodes.is_up(row, moment(call.cloud)), "active": not row.disabled,
        "updated_at": iso_micro(row.seen),
    }
