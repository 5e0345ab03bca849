"""Who must hear of a change: the counter that node states are compared by, and the nodes that are woken.

The counter is one row for all: it is changed at the end of the transaction, with what it marks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.locks import bump_revision
from pileus.network.tables import floating_ip, port, port_group, security_group_rule

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
_MARKS = "network.marks"
_MARK = {
    table.name: table.update().where(table.c.id.in_(sa.bindparam("ids", expanding=True))).values(
        change=sa.bindparam("count")
    )
    for table in (port, floating_ip)
}
_HOLD = port.update().where(port.c.id == sa.bindparam("i")).values(change=port.c.change)


def nodes(tx: Tx, cloud: Cloud, names: Iterable[str]) -> None:
    """Count a change and wake these nodes after the commit."""
    _count(tx)
    for name in {n for n in names if n}:
        tx.after_commit(lambda topic=f"net:{name}": cloud.bus.wake(topic))  # type: ignore[misc]


def _count(tx: Tx) -> None:
    def mark_all(count: int) -> None:
        marked: dict[str, set[str]] = tx.memo.pop(_MARKS, {})
        for table, ids in sorted(marked.items()):
            tx.execute(_MARK[table], {"ids": sorted(ids), "count": count})

    bump_revision(tx, COUNTER, mark_all)


def mark(tx: Tx, ids: Iterable[str], table: sa.Table = port) -> None:
    """The wiring of these ports (or floating IPs), which this transaction has changed or holds, changed by what is
    counted at its end: their `change` says so. A node's report counts for them if it knew of that."""
    if found := set(ids):
        tx.memo.setdefault(_MARKS, {}).setdefault(table.name, set()).update(found)
        _count(tx)


def hold(tx: Tx, port_id: str) -> None:
    """Have a port's row for this transaction and mark it: something about it changed that stands in other rows."""
    tx.execute(_HOLD, {"i": port_id})
    mark(tx, [port_id])


def network(tx: Tx, cloud: Cloud, network_id: str, *more: str) -> None:
    """A network, one of its subnets or ports changed: every node that has a port of it hears."""
    nodes(tx, cloud, [*carriers(tx, cloud, network_id), *more])


def carriers(tx: Tx, cloud: Cloud, network_id: str) -> list[str]:
    """The nodes that have a port of the network, or get one that is moving."""
    if cloud.settings.hypervisor == "fake":
        return tx.scalars(_WAITING, {"n": network_id})
    return [*tx.scalars(_HOSTS, {"n": network_id}), *tx.scalars(_ARRIVING, {"n": network_id})]


def networks(tx: Tx, cloud: Cloud, network_ids: Iterable[str], *more: str) -> None:
    """Several networks changed at once, as when what serves them moves."""
    found = [name for network_id in network_ids for name in carriers(tx, cloud, network_id)]
    nodes(tx, cloud, [*found, *more])


def security_groups(tx: Tx, cloud: Cloud, ids: Iterable[str]) -> None:
    """Rules or members of groups changed: nodes with ports in them, or in groups whose rules name them, hear."""
    wanted = list(ids)
    if cloud.settings.hypervisor == "fake" or not wanted:
        nodes(tx, cloud, ())
        return
    naming = sa.select(security_group_rule.c.security_group_id).where(
        security_group_rule.c.remote_group_id.in_(wanted)
    )
    hosts = (
        sa.select(port.c.host, port.c.moving_to).distinct().join(port_group, port_group.c.port_id == port.c.id)
        .where(sa.or_(port_group.c.group_id.in_(wanted), port_group.c.group_id.in_(naming)), port.c.host != "")
    )
    nodes(tx, cloud, [name for row in tx.all(hosts) for name in (row.host, row.moving_to or "")])
