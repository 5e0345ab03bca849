"""On which node the DHCP of a network and a router live: of those that can, the one with the least."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.cluster import nodes
from pileus.cluster.liveness import Moment, moment
from pileus.network import touch
from pileus.network.tables import agent, floating_ip, network, port, router
from pileus.node.contract import DEAD_AFTER

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

DHCP, L3 = "dhcp", "l3"
LEGS = ("network:router_interface", "network:router_gateway")
"""Owners of the ports of routers."""

_AGENTS = (
    sa.select(agent.c.node, agent.c.admin_state_up, agent.c.heartbeat, agent.c.physical_networks)
    .where(agent.c.kind == sa.bindparam("k")).order_by(agent.c.created, agent.c.node)
)
_LOADS = {
    DHCP: sa.select(network.c.node, sa.func.count().label("load")).where(network.c.node != "").group_by(network.c.node),
    L3: sa.select(router.c.node, sa.func.count().label("load")).where(router.c.node != "").group_by(router.c.node),
}


def _least(kind: str) -> sa.Select[tuple[str]]:
    """The living nodes, those with the least first, of equals the oldest."""
    load = _LOADS[kind].subquery()
    return (
        sa.select(agent.c.node).outerjoin(load, load.c.node == agent.c.node)
        .where(
            agent.c.kind == kind, agent.c.admin_state_up.is_(True), agent.c.heartbeat > sa.bindparam("since"),
            agent.c.node.not_in(sa.bindparam("but", expanding=True)),
        )
        .order_by(sa.func.coalesce(load.c.load, 0), agent.c.created, agent.c.node).limit(1)
    )


_LEAST = {kind: _least(kind) for kind in _LOADS}
_NEEDS = (
    sa.select(network.c.physical_network).distinct().join(port, port.c.network_id == network.c.id)
    .where(
        port.c.device_id == sa.bindparam("r"), port.c.device_owner.in_(LEGS), network.c.physical_network.is_not(None)
    )
)
_PHYSICAL = sa.select(network.c.id, network.c.physical_network).where(
    network.c.id.in_(sa.bindparam("ids", expanding=True)), network.c.physical_network.is_not(None)
)
_CHUNK = 5000
_ROUTER = sa.select(router).where(router.c.id == sa.bindparam("r"))


class Place(msgspec.Struct):
    """A node that may serve, and how much is there."""

    node: str
    physical_networks: Collection[str] | None  # None: any
    alive: bool
    heartbeat: float
    load: int = 0

    def reaches(self, wanted: Iterable[str]) -> bool:
        """Whether the node has these physical networks."""
        return self.physical_networks is None or all(name in self.physical_networks for name in wanted)


def loads(tx: Tx, kind: str) -> dict[str, int]:
    """How many networks or routers each node has."""
    return {row.node: row.load for row in tx.all(_LOADS[kind])}


def is_alive(row: Any, now: Moment) -> bool:
    """Whether an agent has been heard of lately."""
    return bool(row.heartbeat > now - DEAD_AFTER)


class Places:
    """The nodes that may get something of an agent kind ("dhcp", "l3"); what is put on one counts."""

    def __init__(self, tx: Tx, cloud: Cloud, kind: str) -> None:
        now, draining = moment(cloud), nodes.draining(tx)
        have = loads(tx, kind)
        rows = tx.all(_AGENTS, {"k": kind})
        self._places = [
            Place(row.node, row.physical_networks, is_alive(row, now), row.heartbeat, have.get(row.node, 0))
            for row in rows if row.admin_state_up and row.node not in draining
        ]

    def take(self, physical: Iterable[str] = (), but: Collection[str] = (), dead: bool = False) -> str:
        """The node with the least, of equals the oldest; "" when none can. `dead`: when none of them lives, the one
        heard of last, as when the controllers have just started."""
        wanted = list(physical)
        able = [place for place in self._places if place.node not in but and place.reaches(wanted)]
        living = [place for place in able if place.alive]
        if living:
            chosen = min(living, key=lambda place: place.load)
        elif able and dead:
            chosen = max(able, key=lambda place: place.heartbeat)
        else:
            return ""
        chosen.load += 1
        return chosen.node


def choose(tx: Tx, cloud: Cloud, kind: str, physical: Iterable[str] = ()) -> str:
    """The node for something new of an agent kind that needs these physical networks; "" while none can have it."""
    wanted = list(physical)
    if not wanted:  # the usual case, in one statement however many nodes there are
        since = moment(cloud) - DEAD_AFTER
        found: str | None = tx.scalar(_LEAST[kind], {"since": since, "but": [*nodes.draining(tx), ""]})
        if found:
            return found
    return Places(tx, cloud, kind).take(wanted, dead=True)


def physical_networks(tx: Tx, kind: str, node: str) -> Collection[str] | None:
    """The physical networks that a node has; None: any, or not known yet."""
    statement = sa.select(agent.c.physical_networks).where(agent.c.kind == kind, agent.c.node == node)
    found: Collection[str] | None = tx.scalar(statement)
    return found


def reaching(tx: Tx, network_ids: Iterable[str]) -> set[str] | None:
    """For the scheduler: the nodes on which a guest can have ports of all these networks. None: every node."""
    statement = sa.select(network.c.physical_network).distinct().where(
        network.c.id.in_(list(network_ids)), network.c.physical_network.is_not(None)
    )
    wanted = set(tx.scalars(statement))
    if not wanted:
        return None
    rows = tx.all(_AGENTS, {"k": "bridge"})
    return {row.node for row in rows if row.physical_networks is None or wanted <= set(row.physical_networks)}


def unreached(tx: Tx, ports: Sequence[Row[Any]]) -> set[str]:
    """Those of the ports that are bound to a node without the physical network that they are on."""
    wanted = {row.network_id for row in ports if row.host}
    physical: dict[str, str] = {}
    for at in range(0, len(wanted), _CHUNK):
        part = sorted(wanted)[at : at + _CHUNK]
        for row in tx.all(_PHYSICAL, {"ids": part}):
            physical[row.id] = row.physical_network
    if not physical:
        return set()
    have = {row.node: row.physical_networks for row in tx.all(_AGENTS, {"k": "bridge"})}

    def lacks(row: Row[Any]) -> bool:
        known = have.get(row.host)
        return row.network_id in physical and known is not None and physical[row.network_id] not in known

    return {row.id for row in ports if row.host and lacks(row)}


def needs_of(tx: Tx, router_id: str) -> list[str]:
    """The physical networks that a router has legs in."""
    return tx.scalars(_NEEDS, {"r": router_id})


def seat_router(tx: Tx, cloud: Cloud, router_id: str) -> str:
    """See that a router with a new leg has a node, and one that reaches all its networks; the node, "" for none.

    One that was taken off its node by hand stays without."""
    row = tx.first(_ROUTER, {"r": router_id})
    assert row is not None
    if row.detached:
        return ""
    needs = needs_of(tx, router_id)
    if row.node:
        have = physical_networks(tx, L3, row.node)
        if have is None or set(needs) <= set(have):
            return str(row.node)
    node = choose(tx, cloud, L3, needs)
    if node and node != row.node:
        put_routers(tx, cloud, {router_id: node}, {row.node})
    return node or str(row.node)


def put_networks(tx: Tx, cloud: Cloud, where: Mapping[str, str], before: Iterable[str] = (), **also: bool) -> None:
    """Serve the DHCP of networks from these nodes ("": none) from now on. All who carry them hear, and `before`."""
    touch.networks(tx, cloud, where, *before, *where.values())
    for node, ids in _by_node(where).items():
        tx.execute(network.update().where(network.c.id.in_(ids)).values(node=node, **also))
        _put_ports(tx, sa.and_(port.c.network_id.in_(ids), port.c.device_owner == "network:dhcp"), node)


def put_routers(tx: Tx, cloud: Cloud, where: Mapping[str, str], before: Iterable[str] = (), **also: bool) -> None:
    """Have routers, with their floating IPs, on these nodes ("": none) from now on. All who carry their networks
    hear, and `before`."""
    legs = sa.select(port.c.network_id).distinct().where(
        port.c.device_id.in_(list(where)), port.c.device_owner.in_(LEGS)
    )
    touch.networks(tx, cloud, tx.scalars(legs), *before, *where.values())
    for node, ids in _by_node(where).items():
        tx.execute(router.update().where(router.c.id.in_(ids)).values(node=node, **also))
        _put_ports(tx, sa.and_(port.c.device_id.in_(ids), port.c.device_owner.in_(LEGS)), node)
        through = floating_ip.c.router_id.in_(ids)
        tx.execute(floating_ip.update().where(through).values(status="DOWN"))
        touch.mark(tx, tx.scalars(sa.select(floating_ip.c.id).where(through)), floating_ip)


def _put_ports(tx: Tx, which: sa.ColumnElement[bool], node: str) -> None:
    """To be wired at this node, anew even where it has them already."""
    tx.execute(port.update().where(which).values(host=node, status="DOWN"))
    touch.mark(tx, tx.scalars(sa.select(port.c.id).where(which)))


def _by_node(where: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for identity, node in where.items():
        found.setdefault(node, []).append(identity)
    return found
