"""Nodes: who can run guests, what they have, and whether they are alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute.tables import aggregate, aggregate_host, node
from pileus.node.contract import DEAD_AFTER as DEAD_AFTER
from pileus.node.contract import GuestReport, HypervisorFacts
from pileus.placement import providers
from pileus.placement.schemas import Inventory

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.cluster.liveness import Moment
    from pileus.db.engine import Tx

_DISABLED = "COMPUTE_STATUS_DISABLED"

_BY_NAME = sa.select(node).where(node.c.name == sa.bindparam("name"))
_BUILD_FAILED = (
    node.update().where(node.c.name == sa.bindparam("n")).values(build_failures=node.c.build_failures + 1)
)
_BUILT = (
    node.update().where(node.c.name == sa.bindparam("n"), node.c.build_failures > 0).values(build_failures=0)
)
_SEEN = node.update().where(node.c.name == sa.bindparam("n")).values(seen=sa.bindparam("now"))

# -- for other rooms and modules


def register(tx: Tx, cloud: Cloud, node_name: str, facts: HypervisorFacts) -> None:
    """A node has connected: make or refresh its compute service, hypervisor and placement provider."""
    now = cloud.world.now()
    built = msgspec.to_builtins(facts)
    row = by_name(tx, node_name)
    if row is None:
        node_id = cloud.world.uuid()
        tx.execute(node.insert().values(
            id=node_id, name=node_name, facts=built, disabled=False, forced_down=False, seen=now, created=now,
            updated=now,
        ))
        row = by_name(tx, node_name)
        assert row is not None
    else:
        tx.execute(node.update().where(node.c.id == row.id).values(facts=built, seen=now, updated=now))
    publish(tx, cloud, row, facts)


def heartbeat(tx: Tx, cloud: Cloud, node_name: str, facts: HypervisorFacts | None = None) -> None:
    """A node says that it is alive, and what has changed about it if anything has.

    A node whose service was deleted is made again when it sends its facts."""
    if facts is not None:
        row = by_name(tx, node_name)
        if row is None or facts_of(row) != facts:
            return register(tx, cloud, node_name, facts)
    tx.execute(_SEEN, {"n": node_name, "now": cloud.world.now()})


def heartbeats(tx: Tx, names: Sequence[str], now: float) -> None:
    """Many nodes say that they are alive, in one statement."""
    tx.execute(node.update().where(node.c.name.in_(names)).values(seen=now))


def guest_changed(tx: Tx, cloud: Cloud, report: GuestReport) -> bool:
    """A guest's power changed by itself; only the node that has the guest is believed. True: tell it again later."""
    from pileus.compute import servers

    return servers.power_changed(tx, cloud, report)


def build_ended(tx: Tx, node_name: str, failed: bool) -> None:
    """Count builds that failed in a row: the scheduler takes other nodes first."""
    tx.execute(_BUILD_FAILED if failed else _BUILT, {"n": node_name})


def listing(tx: Tx) -> list[Any]:
    """All rows, by name."""
    return list(tx.all(sa.select(node).order_by(node.c.name)))


def by_name(tx: Tx, node_name: str) -> sa.Row[Any] | None:
    """The row of a node, None when there is none."""
    return tx.first(_BY_NAME, {"name": node_name})


def facts_of(row: Any) -> HypervisorFacts:
    """What the node last said of itself."""
    return msgspec.convert(row.facts, HypervisorFacts)


def is_up(row: Any, now: Moment) -> bool:
    """Whether the node's heartbeat is fresh at that moment, and no operator forced it down."""
    return not row.forced_down and now - row.seen < DEAD_AFTER


def publish(tx: Tx, cloud: Cloud, row: Any, facts: HypervisorFacts | None = None) -> None:
    """Tell placement what the node has, what it can, whether it is enabled and in which aggregates it is."""
    facts = facts or facts_of(row)
    providers.ensure(
        tx, cloud, id=row.id, name=row.name, inventories=_inventories(cloud, facts), traits=facts.traits
    )
    traits = providers.need(tx, row.id).traits
    if row.disabled != (_DISABLED in traits):
        providers.set_traits(tx, row.id, traits | {_DISABLED} if row.disabled else traits - {_DISABLED})
    publish_aggregates(tx, row)


def publish_aggregates(tx: Tx, row: Any) -> None:
    """Tell placement in which aggregates the node is."""
    mine = sa.select(aggregate.c.uuid).where(
        aggregate.c.id == aggregate_host.c.aggregate_id, aggregate_host.c.host == row.name
    )
    providers.set_aggregates(tx, row.id, tx.scalars(mine))


def _inventories(cloud: Cloud, facts: HypervisorFacts) -> dict[str, Inventory]:
    settings = cloud.settings

    def have(total: int, ratio: float, reserved: int = 0) -> Inventory:
        return Inventory(
            total=total, reserved=min(reserved, total), max_unit=total, allocation_ratio=ratio
        )

    found = {
        "VCPU": have(facts.vcpus, settings.cpu_allocation_ratio),
        "MEMORY_MB": have(facts.memory_mib, settings.ram_allocation_ratio, settings.reserved_memory),
        "DISK_GB": have(facts.disk_gib, settings.disk_allocation_ratio),
    }
    return {name: inventory for name, inventory in found.items() if inventory.total > 0}
