"""Who must hear of a change: the counter that node states are compared by, and the nodes that are woken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.locks import bump_revision, read_revision
from pileus.network.tables import port, port_group, security_group_rule

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

COUNTER = "network"

_HOSTS = sa.select(port.c.host).distinct().where(
    port.c.network_id == sa.bindparam("n"), port.c.host != ""
)
# A fake node wires nothing, so only what waits to be reported up is worth a wake.
_WAITING = _HOSTS.where(
    port.c.device_owner >= "network:", port.c.device_owner < "network;", port.c.status != "ACTIVE"
)
_MARK = port.update().where(port.c.id == sa.bindparam("i")).values(change=sa.bindparam("count"))


def nodes(tx: Tx, cloud: Cloud, names: Iterable[str]) -> int:
    """Count a change and wake these nodes after the commit; the new count."""
    bump_revision(tx, COUNTER)
    for name in {n for n in names if n}:
        tx.after_commit(lambda topic=f"net:{name}": cloud.bus.wake(topic))  # type: ignore[misc]
    return read_revision(tx, COUNTER)


def network(tx: Tx, cloud: Cloud, network_id: str, *more: str) -> int:
    """A network, one of its subnets or ports changed: every node that has a port of it hears."""
    fake = cloud.settings.hypervisor == "fake"
    found = tx.scalars(_WAITING if fake else _HOSTS, {"n": network_id})
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
        sa.select(port.c.host).distinct().join(port_group, port_group.c.port_id == port.c.id)
        .where(sa.or_(port_group.c.group_id.in_(wanted), port_group.c.group_id.in_(naming)), port.c.host != "")
    )
    return nodes(tx, cloud, tx.scalars(hosts))
