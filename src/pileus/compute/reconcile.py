"""Nothing stays stuck: servers on which something goes on, but for which no task is left, are put right."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import consoles, instance_actions, lifecycle, orders, servers, states
from pileus.compute.tables import action, server
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.compute")
_GRACE = 10.0
_BATCH = 200

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
    rows = tx.all(_WAITING, {"before": now - _GRACE})
    if not rows:
        return 0
    names = [orders.resource(row.id) for row in rows]
    busy = set(tx.scalars(sa.select(task.c.resource).where(task.c.resource.in_(names), task.c.state.in_(tasks.OPEN))))
    stuck = [row for row in rows if orders.resource(row.id) not in busy]
    for row in stuck:
        _LOG.warning("server %s is in task_state %s, but no task is left; repairing", row.id, row.task_state)
        _repair(tx, cloud, row, now)
    return len(stuck)


def _repair(tx: Tx, cloud: Cloud, row: Any, now: float) -> None:
    if row.task_state in ("deleting", "shelving_offloading"):
        if row.host is None:
            return lifecycle.bury(tx, cloud, row, now)
        servers.change(tx, row.id, now)
        return orders.send(tx, cloud, row, "destroy", request_id=_last_request(tx, row.id))
    reason = f"the task for '{row.task_state}' was lost"
    values: dict[str, Any] = {"task_state": None, "fault": orders.fault(reason, now)}
    if row.vm_state in (states.BUILDING, states.OFFLOADED) or row.task_state.startswith(("rebuild", "resize", "rescu")):
        values["vm_state"] = states.ERROR
    servers.change(tx, row.id, now, **values)
    instance_actions.finish(tx, row.id, _last_request(tx, row.id), now, reason)
    return None


def _last_request(tx: Tx, server_id: str) -> str:
    newest = sa.select(action.c.request_id).where(action.c.server_id == server_id).order_by(action.c.id.desc()).limit(1)
    return tx.scalar(newest) or ""
