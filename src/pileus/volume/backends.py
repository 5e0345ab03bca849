"""The nodes that keep volumes: what they have, and whether they are alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.node.contract import DEAD_AFTER, StorageFacts
from pileus.volume.tables import backend, volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pileus.cloud import Cloud
    from pileus.cluster.liveness import Moment
    from pileus.db.engine import Tx

_BY_NODE = sa.select(backend).where(backend.c.node == sa.bindparam("n"))
_SEEN = backend.update().where(backend.c.node == sa.bindparam("n")).values(seen=sa.bindparam("now"))
_IDS = sa.select(backend.c.node, backend.c.id).where(backend.c.node.in_(sa.bindparam("nodes", expanding=True)))
_PROVISIONED = (
    sa.select(volume.c.node, sa.func.coalesce(sa.func.sum(volume.c.size), 0).label("gib"))
    .where(volume.c.node.is_not(None)).group_by(volume.c.node)
)


# -- for the controllers


def register(tx: Tx, cloud: Cloud, node: str, facts: StorageFacts) -> None:
    """A node that keeps volumes has connected, or says what has changed of its space."""
    now = cloud.world.now()
    said = {"backend": facts.backend, "total_gib": facts.total_gib, "free_gib": facts.free_gib}
    if tx.execute(backend.update().where(backend.c.node == node).values(seen=now, updated=now, **said)).rowcount:
        return
    tx.execute(backend.insert().values(
        node=node, id=cloud.world.uuid(), disabled=False, seen=now, created=now, updated=now, **said
    ))


def heartbeat(tx: Tx, cloud: Cloud, node: str, facts: StorageFacts | None = None) -> None:
    """A node that keeps volumes says that it is alive, and what it has if that may have changed."""
    if facts is not None:
        return register(tx, cloud, node, facts)
    tx.execute(_SEEN, {"n": node, "now": cloud.world.now()})


def heartbeats(tx: Tx, nodes: Sequence[str], now: float) -> None:
    """Many nodes say that they are alive, in one statement; those that keep no volumes are left out."""
    tx.execute(backend.update().where(backend.c.node.in_(nodes)).values(seen=now))


# -- for this room


def by_node(tx: Tx, node: str) -> sa.Row[Any] | None:
    """The row of a node; None when it keeps no volumes."""
    return tx.first(_BY_NODE, {"n": node})


def listing(tx: Tx) -> list[Any]:
    """All rows, by name."""
    return list(tx.all(sa.select(backend).order_by(backend.c.node)))


def ids(tx: Tx, nodes: Iterable[str]) -> dict[str, str]:
    """The ids of the services of these nodes that keep volumes, by node."""
    wanted = list(nodes)
    return {row.node: row.id for row in tx.all(_IDS, {"nodes": wanted})} if wanted else {}


def is_up(row: Any, now: Moment) -> bool:
    """Whether the node's heartbeat is fresh at that moment."""
    return bool(now - row.seen < DEAD_AFTER)


def host(node: str | None, kind: str) -> str | None:
    """How Cinder names a place: host@backend#pool."""
    return f"{node}@{kind}#{kind}" if node else None


def node_of(host: str) -> str:
    """The node in a host, however much of `host@backend#pool` is given."""
    return host.partition("@")[0].partition("#")[0]


def provisioned(tx: Tx) -> dict[str, int]:
    """GiB of all volumes together, by node, whether their bytes are written or not."""
    return {row.node: int(row.gib) for row in tx.all(_PROVISIONED)}
