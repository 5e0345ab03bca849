"""Maintenance: everything that runs on a node is moved to others, a few servers at a time, and it gets nothing new.

`begin` disables the node's compute service, and `work` moves what is there for as long as the node is draining: what
runs is live-migrated, what is stopped is migrated and confirmed, what is shelved is taken off its node. What cannot be
moved stays, and `status` tells why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.cluster import nodes as cluster
from pileus.cluster.liveness import moment
from pileus.compute import actors, instance_actions, live, migrations, moves, nodes, scheduler, shelve, spec, states
from pileus.compute.tables import migration, node, server
from pileus.web.errors import NotFound, Problem

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

PURPOSE = "drain"
REASON = "draining"
"""`disabled_reason` of a node that is drained; one that an operator had disabled before keeps his."""

_AT_ONCE = 2
_RETRY = 60.0
_MEMORY = 7 * 86400.0  # for so long a migration that could not be confirmed is looked at
_MOVES = {states.ACTIVE: "live", states.PAUSED: "live", states.STOPPED: "cold", states.SHELVED: "offload"}
_HELD_UP = {
    states.SUSPENDED: "it is suspended: resume it, or delete it",
    states.RESCUED: "it is being rescued: unrescue it",
    states.ERROR: "it is in error: reset its state, rebuild or delete it",
    states.RESIZED: "its resize waits to be confirmed or reverted",
}


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is still on the node. `why` is empty for one whose turn has not come."""

    id: str
    name: str
    vm_state: str
    task_state: str | None
    why: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a drain is."""

    node: str
    draining: bool
    left: tuple[Left, ...]

    @property
    def done(self) -> bool:
        """Nothing is left on the node."""
        return not self.left


# -- for the operator's commands


def begin(tx: Tx, cloud: Cloud, name: str) -> None:
    """Start to empty a node. Raises NotFound."""
    row = _find(tx, name)
    cluster.set_draining(tx, name, True)
    _disable(tx, cloud, row)


def end(tx: Tx, cloud: Cloud, name: str) -> None:
    """The node may have servers again; those that have left do not come back by themselves. Raises NotFound."""
    row = _find(tx, name)
    cluster.set_draining(tx, name, False)
    if row.disabled and row.disabled_reason == REASON:
        _set(tx, cloud, row, disabled=False, disabled_reason=None)


def status(tx: Tx, cloud: Cloud, name: str) -> Status:
    """What is still on a node, and why. Raises NotFound."""
    _find(tx, name)
    rows = _here(tx, name)
    whys = _reasons(tx, name, [row.id for row in rows])
    return Status(node=name, draining=name in cluster.draining(tx), left=tuple(
        Left(
            id=row.id, name=row.name, vm_state=row.vm_state, task_state=row.task_state,
            why="" if row.task_state is not None else _HELD_UP.get(row.vm_state) or whys.get(row.id, ""),
        )
        for row in rows
    ))


def _find(tx: Tx, name: str) -> Any:
    row = nodes.by_name(tx, name)
    if row is None:
        raise NotFound(f"No node {name} takes servers; `openstack compute service list` shows those that do.")
    return row


def _disable(tx: Tx, cloud: Cloud, row: Any) -> None:
    if not row.disabled:
        _set(tx, cloud, row, disabled=True, disabled_reason=REASON)


def _set(tx: Tx, cloud: Cloud, row: Any, **values: Any) -> None:
    tx.execute(node.update().where(node.c.id == row.id).values(updated=cloud.world.now(), **values))
    nodes.publish(tx, cloud, _find(tx, row.name))


def _here(tx: Tx, name: str) -> list[Any]:
    return list(tx.all(
        sa.select(server).where(server.c.host == name, server.c.deleted.is_(False)).order_by(server.c.seq)
    ))


def _reasons(tx: Tx, name: str, ids: list[str]) -> dict[str, str]:
    """Why the last attempt to move a server from the node failed."""
    found = tx.all(sa.select(migration.c.server_id, migration.c.reason).where(
        migration.c.server_id.in_(ids), migration.c.source == name, migration.c.status.in_(("error", "cancelled")),
    ).order_by(migration.c.id))
    return {row.server_id: row.reason or "its migration failed" for row in found}


# -- the periodic work


def work(tx: Tx, cloud: Cloud) -> int:
    """Move on with every node that is draining; how many servers were set moving."""
    started = 0
    _confirm(tx, cloud)
    for name in sorted(cluster.draining(tx)):
        row = nodes.by_name(tx, name)
        if row is None:
            continue
        _disable(tx, cloud, row)
        if nodes.is_up(row, moment(cloud)):
            started += _move_some(tx, cloud, name)
    return started


def _move_some(tx: Tx, cloud: Cloud, name: str) -> int:
    rows = _here(tx, name)
    free = _AT_ONCE - sum(row.task_state is not None for row in rows)
    still = [row for row in rows if row.task_state is None and row.vm_state in _MOVES]
    tried = _tried(tx, name, [row.id for row in still], cloud.world.now() - _RETRY) if free > 0 else set()
    started = 0
    for row in still:
        if started >= free:
            break
        if row.id not in tried:
            started += _move(tx, cloud, row)
    return started


def _tried(tx: Tx, name: str, ids: list[str], since: float) -> set[str]:
    """The servers that could not be moved a short while ago."""
    return set(tx.scalars(sa.select(migration.c.server_id).where(
        migration.c.server_id.in_(ids), migration.c.source == name, migration.c.updated > since,
        migration.c.status.in_(("error", "cancelled")),
    )))


def _move(tx: Tx, cloud: Cloud, row: Any) -> bool:
    """Set one server moving; False where nothing can be done now, which its newest migration tells."""
    by, how = actors.itself(tx, cloud, row), _MOVES[row.vm_state]
    try:
        with tx.savepoint():
            if how == "live":
                live.begin(by, row, purpose=PURPOSE)
            elif how == "cold":
                moves.begin(by, row, spec.flavor_of(row), "migration", purpose=PURPOSE)
            else:
                shelve.take_off(by, row)
        return True
    except (live.Refused, scheduler.NoValidHost, Problem) as reason:
        scheduler.keep(tx, cloud, row.id, reason)
        _cannot(by, row, "live-migration" if how == "live" else "migration", str(reason))
        return False


def _cannot(by: actors.Actor, row: Any, kind: str, reason: str) -> None:
    """Keep the reason: once as a migration that failed, in whose row a later one replaces it."""
    last = migrations.newest(by.tx, row.id)
    if last is not None and (last.purpose, last.status, last.source) == (PURPOSE, "error", row.host):
        return migrations.change(by.tx, last, by.now, reason=reason)
    migrations.record(by, row, kind, "error", spec.flavor_of(row), purpose=PURPOSE, reason=reason)
    return instance_actions.note(by.tx, by.cloud, row, kind, "compute_drain", reason, failed=True)


def _confirm(tx: Tx, cloud: Cloud) -> None:
    """Confirm the migrations that drains have made."""
    waiting = sa.select(migration.c.server_id).where(
        migration.c.updated > cloud.world.now() - _MEMORY, migration.c.purpose == PURPOSE,
        migration.c.status == "finished",
    )
    for server_id in tx.scalars(waiting):
        row = tx.first(sa.select(server).where(server.c.id == server_id, server.c.deleted.is_(False)))
        if row is not None and (row.vm_state, row.task_state) == (states.RESIZED, None):
            by = actors.itself(tx, cloud, row)
            moves.confirm(by, row, migrations.newest(tx, server_id))
