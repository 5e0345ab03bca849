"""Networks and routers get a node when they have none, and another when theirs is dead, gone, disabled or drained."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.cluster import nodes as members
from pileus.network import agents, placing
from pileus.network.placing import DHCP, L3, LEGS, Places
from pileus.network.tables import agent, network, port, router
from pileus.node.contract import DEAD_AFTER

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.network")
EVERY = 5.0
_AT_ONCE = 500  # of each kind in a run: the rest follows with the next
_ROLES_EVERY = 60.0  # seconds: a node that joins again with other roles is rare
_GAP = 20.0  # seconds without a run after which silence means nothing: nobody could be heard


def place(tx: Tx, cloud: Cloud) -> None:
    """Give a node to what has none, and another to what cannot stay. Runs periodically, on one controller."""
    _follow_roles(tx, cloud)
    trusted = _heard_long_enough(cloud)
    for kind in (DHCP, L3):
        _place(tx, cloud, kind, trusted)


def _follow_roles(tx: Tx, cloud: Cloud) -> None:
    memory, now = cloud.memory.setdefault("network", {}), cloud.world.monotonic()
    if now >= memory.get("roles", 0.0):
        memory["roles"] = now + _ROLES_EVERY
        agents.follow_roles(tx, cloud)


def _heard_long_enough(cloud: Cloud) -> bool:
    """Whether a node that is silent now had time to be heard: not after a start, or while the database was away."""
    memory = cloud.memory.setdefault("network", {})
    now = cloud.world.monotonic()
    if now - memory.get("placed", -_GAP * 2) > _GAP:
        memory["listening"] = now
    memory["placed"] = now
    return bool(now - memory["listening"] > DEAD_AFTER)


def _place(tx: Tx, cloud: Cloud, kind: str, trusted: bool) -> None:
    leaving = _leaving(tx, cloud, kind, trusted)
    rows = _homeless(tx, kind, leaving)
    if not rows:
        return
    places = Places(tx, cloud, kind)
    where: dict[str, str] = {}
    for row, needs in rows:
        node = places.take(needs, but=leaving)
        if node and node != row.node:
            where[row.id] = node
    if not where:
        return
    before = {row.node for row, _ in rows if row.id in where and row.node}
    if before:
        _LOG.warning("%d %s move away from %s", len(where), "networks" if kind == DHCP else "routers", sorted(before))
    (placing.put_networks if kind == DHCP else placing.put_routers)(tx, cloud, where, before)


def _leaving(tx: Tx, cloud: Cloud, kind: str, trusted: bool) -> list[str]:
    """The nodes that have something but shall not keep it. One that is silent keeps all until it has surely given it
    up: it must have been told of the lease, and there must have been somebody to hear it."""
    table = network if kind == DHCP else router
    since = cloud.world.now() - DEAD_AFTER
    here = sa.true() if not trusted else sa.or_(agent.c.heartbeat > since, agent.c.lease == 0)
    keeping = sa.select(agent.c.node).where(agent.c.kind == kind, agent.c.admin_state_up.is_(True), here)
    unfit = sa.or_(table.c.node.not_in(keeping), table.c.node.in_(members.draining(tx)))
    return tx.scalars(sa.select(table.c.node).distinct().where(table.c.node != "", unfit))


def _homeless(tx: Tx, kind: str, leaving: Collection[str]) -> list[tuple[Row[Any], list[str]]]:
    """What needs a node, with the physical networks that it needs there."""
    return _networks(tx, leaving) if kind == DHCP else _routers(tx, leaving)


def _networks(tx: Tx, leaving: Collection[str]) -> list[tuple[Row[Any], list[str]]]:
    served = sa.exists().where(port.c.network_id == network.c.id, port.c.device_owner == "network:dhcp")
    statement = (
        sa.select(network.c.id, network.c.node, network.c.physical_network)
        .where(network.c.detached.is_(False), sa.or_(
            network.c.node.in_(leaving), sa.and_(network.c.node == "", served),
            network.c.id.in_(_astray(tx, DHCP, ("network:dhcp",))),
        ))
        .order_by(network.c.id).limit(_AT_ONCE)
    )
    return [(row, [row.physical_network] if row.physical_network else []) for row in tx.all(statement)]


def _routers(tx: Tx, leaving: Collection[str]) -> list[tuple[Row[Any], list[str]]]:
    has_leg = sa.exists().where(port.c.device_id == router.c.id, port.c.device_owner.in_(LEGS))
    statement = (
        sa.select(router.c.id, router.c.node)
        .where(router.c.detached.is_(False), sa.or_(
            router.c.node.in_(leaving), sa.and_(router.c.node == "", has_leg),
            router.c.id.in_(_astray(tx, L3, LEGS)),
        ))
        .order_by(router.c.id).limit(_AT_ONCE)
    )
    rows = tx.all(statement)
    needs: dict[str, list[str]] = {}
    wanted = (
        sa.select(port.c.device_id, network.c.physical_network).distinct()
        .join(network, network.c.id == port.c.network_id)
        .where(
            port.c.device_id.in_([row.id for row in rows]), port.c.device_owner.in_(LEGS),
            network.c.physical_network.is_not(None),
        )
    )
    for row in tx.all(wanted) if rows else ():
        needs.setdefault(row.device_id, []).append(row.physical_network)
    return [(row, needs.get(row.id, [])) for row in rows]


def _astray(tx: Tx, kind: str, owners: Collection[str]) -> list[str]:
    """Networks or routers on nodes that do not (any more) have a physical network that they need there."""
    kept = sa.select(network.c.physical_network).distinct().where(network.c.physical_network.is_not(None))
    physical = tx.scalars(kept)
    if not physical:
        return []
    lacking: dict[str, list[str]] = {}
    reached = sa.select(agent.c.node, agent.c.physical_networks).where(
        agent.c.kind == kind, agent.c.physical_networks.is_not(None)
    )
    for row in tx.all(reached):
        for name in physical:
            if name not in row.physical_networks:
                lacking.setdefault(name, []).append(row.node)
    identity = port.c.network_id if kind == DHCP else port.c.device_id
    found: list[str] = []
    for name, nodes in lacking.items():
        found += tx.scalars(
            sa.select(identity).distinct().join(network, network.c.id == port.c.network_id)
            .where(network.c.physical_network == name, port.c.host.in_(nodes), port.c.device_owner.in_(owners))
            .order_by(identity).limit(_AT_ONCE)
        )
    return found
