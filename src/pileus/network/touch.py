"""Who must hear of a change: the counter that node states are compared by, and the nodes that are woken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.locks import bump_revision, revision
from pileus.network.tables import port, port_group, security_group_rule

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

COUNTER = "network"

_HOSTS = sa.select(port.c.host).distinct().where(
    port.c.network_id == sa.bindparam("n"), port.c.host != ""
)
_ARRIVING = sa.select(port.c.moving_to).distinct().where(
    port.c.network_id == sa.bindparam("n"), port.c.moving_to.is_not(None)
)
# A fake node wires nothing, so only what waits to be reported up is worth a wake.
_WAITING = _HOSTS.where(
    port.c.device_owner >= "network:", port.c.device_owner < "network;", port.c.status != "ACTIVE"
)
_COUNT = sa.select(revision.c.value).where(revision.c.name == COUNTER)
_MARK = port.update().where(port.c.id == sa.bindparam("i")).values(change=sa.bindparam("count"))


def nodes(tx: Tx, cloud: Cloud, names: Iterable[str]) -> int:
    """Count a change and wake these nodes after the commit; the new count."""
    bump_revision(tx, COUNTER)
    for name in {n for n in names if n}:
        tx.after_commit(lambda topic=f"net:{name}": cloud.bus.wake(topic))  # type: ignore[misc]
    count: int = tx.scalar(_COUNT)
    return count


def network(tx: Tx, cloud: Cloud, network_id: str, *more: str) -> int:
    """A network, one of its subnets or ports changed: every node that has a port of it hears."""
    return nodes(tx, cloud, [*carriers(tx, cloud, network_id), *more])


def carriers(tx: Tx, cloud: Cloud, network_id: str) -> list[str]:
    """The nodes that have a port of the network, or get one that is moving."""
    if cloud.settings.hypervisor == "fake":
        return tx.scalars(_WAITING, {"n": network_id})
    return [*tx.scalars(_HOSTS, {"n": network_id}), *tx.scalars(_ARRIVING, {"n": network_id})]


def networks(tx: Tx, cloud: Cloud, network_ids: Iterable[str], *more: str) -> int:
    """Several networks changed at once, as when what serves them moves."""
    found = [name for network_id in network_ids for name in carriers(tx, cloud, network_id)]
    return nodes(tx, cloud, [*found, *more])


def mark(tx: Tx, port_id: str, count: int) -> None:
    """The port's wiring last changed by the change of this count."""
    tx.execute(_MARK, {"i": port_id, "count": count})


def security_groups(tx: Tx, cloud: Cloud, ids: Iterable[str]) -> int:
    """Rules or members of groups changed: nodes with ports in them, or in groups whose rules name them, hear."""
    wanted = list(ids)
    if cloud.settings.hypervisor == "fake" or not wanted:
        return nodes(tx, cloud, ())
    naming = sa.select(security_group_rule.c.security_group_id).where(
        security_group_rule.c.remote_group_id.in_(wanted)
    )
    hosts = (
        sa.select(port.c.host, port.c.moving_to).distinct().join(port_group, port_group.c.port_id == port.c.id)
        .where(sa.or_(port_group.c.group_id.in_(wanted), port_group.c.group_id.in_(naming)), port.c.host != "")
    )
    return nodes(tx, cloud, [name for row in tx.all(hosts) for name in (row.host, row.moving_to or "")])
