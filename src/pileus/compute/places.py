"""Nodes as filters and weighers see them: what placement says is free, the node's facts, its aggregates, its servers.

All that is known of a few nodes is read in a fixed number of statements, so that a choice costs by the nodes that are
looked at, not by those that there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import nodes
from pileus.compute.tables import aggregate, aggregate_host, node, server

if TYPE_CHECKING:
    from pileus.cluster.liveness import Moment
    from pileus.db.engine import Tx
    from pileus.placement.candidates import Candidate

Metadata = Mapping[str, frozenset[str]]
"""All values of each key, over all aggregates that a node is in."""

_MANY: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
_NODES = sa.select(node).where(node.c.name.in_(_MANY))
_DOWN = sa.select(node.c.name).where(sa.or_(node.c.seen < sa.bindparam("since"), node.c.forced_down.is_(True)))
_ALL_NODES = sa.select(node).order_by(node.c.seq)
_AGGREGATES = sa.select(aggregate.c.id, aggregate.c.uuid, aggregate.c.zone, aggregate.c.metadata)
_IN_AGGREGATES = sa.select(aggregate_host).where(aggregate_host.c.host.in_(_MANY))
_OTHER = aggregate_host.alias()
_SHARED = sa.select(aggregate_host.c.aggregate_id).distinct().where(
    aggregate_host.c.host == _OTHER.c.host, aggregate_host.c.aggregate_id.in_(sa.bindparam("some", expanding=True)),
    _OTHER.c.aggregate_id.in_(sa.bindparam("others", expanding=True)),
)
_LOADS = (
    sa.select(
        server.c.host, sa.func.count().label("servers"),
        sa.func.sum(sa.case((server.c.task_state.is_(None), 0), else_=1)).label("busy"),
    )
    .where(server.c.host.in_(_MANY), server.c.deleted.is_(False)).group_by(server.c.host)
)


class Place:
    """A node where a server may come to.

    `free` and `capacity` are of the classes asked for; `servers` and `busy` count the servers there, and those of them
    with a task under way; `members` are of the server group that is asked about."""

    __slots__ = (
        "alive", "busy", "capacity", "facts", "free", "id", "members", "metadata", "name", "row", "servers", "zone",
    )

    def __init__(self, row: Any, free: Mapping[str, int], capacity: Mapping[str, int]) -> None:
        self.row, self.id, self.name, self.facts = row, row.id, row.name, row.facts
        self.free, self.capacity = free, capacity
        self.zone = ""
        self.metadata: Metadata = {}
        self.servers = self.busy = self.members = 0
        self.alive = True

    def fact(self, key: str) -> Any:
        """What the node is, by the names that extra specs and queries know; None for one that nobody knows."""
        first, _, rest = key.partition(":")
        if first == "cpu_info":
            return self.facts.get(_OF_CPU.get(rest, ""))
        if first in _USED:
            name, scale = _USED[first]
            return None if name not in self.free else self.free[name] * scale
        if first == "vcpus_used":
            return None if "VCPU" not in self.free else self.capacity["VCPU"] - self.free["VCPU"]
        own = {"hypervisor_hostname": self.name, "host": self.name, "num_instances": self.servers,
               "num_io_ops": self.busy}
        return own[first] if first in own else self.facts.get(_NAMES.get(first, first))


_OF_CPU = {"arch": "architecture", "model": "cpu_model", "features": "cpu_features"}
_USED = {"free_ram_mb": ("MEMORY_MB", 1), "free_disk_mb": ("DISK_GB", 1024)}
_NAMES = {
    "total_usable_ram_mb": "memory_mib", "memory_mb": "memory_mib", "total_usable_disk_gb": "disk_gib",
    "local_gb": "disk_gib", "vcpus_total": "vcpus", "cpu_arch": "architecture",
}


class Aggregates:
    """Every aggregate: few rows, however many nodes there are."""

    def __init__(self, tx: Tx, default_zone: str) -> None:
        self.rows = {row.id: row for row in tx.all(_AGGREGATES)}
        self.default_zone = default_zone

    def shared(self, tx: Tx, some: Iterable[int], others: Iterable[int]) -> frozenset[int]:
        """Those of some aggregates that have a node in common with others."""
        if not (some := list(some)) or not (others := list(others)):
            return frozenset()
        return frozenset(tx.scalars(_SHARED, {"some": some, "others": others}))

    def zone(self, ids: Iterable[int]) -> str:
        """The zone of a node that is in these."""
        return next((self.rows[i].zone for i in ids if i in self.rows and self.rows[i].zone), self.default_zone)

    def metadata(self, ids: Iterable[int]) -> Metadata:
        """Their metadata together."""
        found: dict[str, frozenset[str]] = {}
        for i in ids:
            for key, value in self.rows[i].metadata.items() if i in self.rows else ():
                found[key] = found.get(key, frozenset()) | {value}
        return found


def of(tx: Tx, aggregates: Aggregates, found: Sequence[Candidate], now: Moment) -> list[Place]:
    """The nodes of placement's candidates, in their order."""
    if not found:
        return []
    rows = {row.id: row for row in tx.all(_NODES, {"names": [one.provider_name for one in found]})}
    places = [Place(rows[one.provider_id], one.free, one.capacity) for one in found if one.provider_id in rows]
    return _complete(tx, aggregates, places, now)


def every(tx: Tx, now: Moment, aggregates: Aggregates, name: str | None = None) -> list[Place]:
    """All nodes, or the one of this name, with nothing said of what is free there."""
    rows = tx.all(_ALL_NODES) if name is None else tx.all(_NODES, {"names": [name]})
    return _complete(tx, aggregates, [Place(row, {}, {}) for row in rows], now)


def down(tx: Tx, now: Moment) -> frozenset[str]:
    """The names of the nodes that are down."""
    return frozenset(tx.scalars(_DOWN, {"since": now - nodes.DEAD_AFTER}))


def _complete(tx: Tx, aggregates: Aggregates, places: list[Place], now: Moment) -> list[Place]:
    names = [place.name for place in places]
    inside: dict[str, list[int]] = {}
    loads: dict[str, Any] = {}
    if names:
        loads = {row.host: row for row in tx.all(_LOADS, {"names": names})}
        if aggregates.rows:
            for row in tx.all(_IN_AGGREGATES, {"names": names}):
                inside.setdefault(row.host, []).append(row.aggregate_id)
    for place in places:
        ids = inside.get(place.name, ())
        place.zone, place.metadata = aggregates.zone(ids), aggregates.metadata(ids)
        place.alive = nodes.is_up(place.row, now)
        load = loads.get(place.name)
        if load is not None:
            place.servers, place.busy = load.servers, int(load.busy)
    return places
