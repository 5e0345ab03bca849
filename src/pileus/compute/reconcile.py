"""Nothing stays stuck: servers on which something goes on, but for which no task is left, are put right."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import (
    block_devices,
    consoles,
    devices,
    instance_actions,
    lifecycle,
    live,
    migrations,
    moves,
    nodes,
    orders,
    servers,
    states,
)
from pileus.compute.tables import migration, node, server
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.compute")
_GRACE = 10.0
_BATCH = 200
_CLEAN_AGAIN = 60.0

_WAITING = (
    sa.select(server)
    .where(server.c.deleted.is_(False), server.c.task_state.is_not(None), server.c.updated < sa.bindparam("before"))
    .order_by(server.c.seq)
    .limit(_BATCH)
)


def reconcile(tx: Tx, cloud: Cloud) -> int:
    """Put right what no task will; how many servers. Runs periodically, and drops what has expired."""
    now = cloud.world.now()
    consoles.forget(tx, now)
    _clean(tx, cloud)
    mended = block_devices.mend(tx, cloud, now - _GRACE)
    rows = tx.all(_WAITING, {"before": now - _GRACE})
    if not rows:
        return mended
    busy = _busy(tx, rows)
    _unblock(tx, cloud, rows)
    stuck = [row for row in rows if row.id not in busy]
    for row in rows:
        if row.id in busy and row.task_state == "migrating":
            live.hasten(tx, cloud, row)
    for row in stuck:
        _LOG.warning("server %s is in task_state %s, but no task is left; repairing", row.id, row.task_state)
        _repair(tx, cloud, row, now)
    return len(stuck) + mended


def _busy(tx: Tx, rows: Any) -> set[str]:
    """The servers about which a task will still say something.

    A node that is to remove its copy of a guest that is elsewhere says nothing about what is done to it now."""
    by_name = {orders.resource(row.id): row for row in rows}
    moving = tx.all(sa.select(migration.c.uuid, migration.c.server_id, migration.c.to_clean).where(
        migration.c.server_id.in_([row.id for row in rows])
    ))
    asked = {f"migration:{move.uuid}": [move.server_id] for move in moving}
    for server_id, disks in devices.of_servers(tx, [row.id for row in rows]).items():
        for name in block_devices.resources(disks):
            asked.setdefault(name, []).append(server_id)
    old = {(orders.resource(move.server_id), move.to_clean) for move in moving}
    found = set()
    for one in tx.all(sa.select(task.c.resource, task.c.node, task.c.kind).where(
        task.c.resource.in_([*by_name, *asked]), task.c.state.in_(tasks.OPEN)
    )):
        if one.resource in asked:
            found.update(asked[one.resource])
        elif one.kind != "server.destroy" or (one.resource, one.node) not in old:
            found.add(by_name[one.resource].id)
    return found


def _unblock(tx: Tx, cloud: Cloud, rows: Any) -> None:
    """Servers that wait for a node which was forced down meanwhile need not wait any more."""
    down = set(tx.scalars(sa.select(node.c.name).where(node.c.forced_down.is_(True))))
    for row in rows:
        if row.host in down and row.task_state == "resize_reverting":
            moves.go_back(tx, cloud, row)


def _clean(tx: Tx, cloud: Cloud) -> None:
    """A node that did not manage to remove a copy of a guest is told to again."""
    waiting = sa.select(migration, server.c.deleted).join(server, server.c.id == migration.c.server_id).where(
        migration.c.to_clean.is_not(None), migration.c.updated < cloud.world.now() - _CLEAN_AGAIN,
        ~sa.exists().where(
            task.c.resource == sa.literal("server:") + migration.c.server_id, task.c.node == migration.c.to_clean,
            task.c.kind == "server.destroy", task.c.state.in_(tasks.OPEN),
        ),
    )
    for move in tx.all(waiting.order_by(migration.c.id).limit(_BATCH)):
        row = servers.held(tx, move.server_id)
        if row is None or (not row.deleted and row.host == move.to_clean):
            migrations.change(tx, move, cloud.world.now(), to_clean=None)  # it is there again, and no old copy
        elif nodes.by_name(tx, move.to_clean) is not None:
            migrations.clean(tx, cloud, row, move, move.to_clean, "")


def _repair(tx: Tx, cloud: Cloud, row: Any, now: float) -> None:
    if row.task_state in ("deleting", "shelving_offloading"):
        if row.host is None:
            return lifecycle.bury(tx, cloud, row, now)
        servers.change(tx, row.id, now)
        return orders.send(tx, cloud, row, "destroy", request_id=instance_actions.last_request(tx, row.id))
    if row.task_state == "migrating" and live.lost(tx, cloud, row):
        return None
    if row.task_state in block_devices.AFTER:
        return block_devices.lost(tx, cloud, row)
    reason = f"the task for '{row.task_state}' was lost"
    values: dict[str, Any] = {"task_state": None, "fault": orders.fault(reason, now)}
    if row.vm_state in (states.BUILDING, states.OFFLOADED) or row.task_state.startswith(("rebuild", "resize", "rescu")):
        values["vm_state"] = states.ERROR
    servers.change(tx, row.id, now, **values)
    instance_actions.finish(tx, row.id, instance_actions.last_request(tx, row.id), now, reason)
    return None
