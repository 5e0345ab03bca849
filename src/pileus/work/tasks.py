"""Tasks: written in the transaction of the change that asks for them, done at least once, finished once.

The bus only wakes who is to do them; a lost wake costs a delay, never a task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.db import faults
from pileus.db.engine import Retry
from pileus.node.contract import Task, TaskResult
from pileus.web.errors import Forbidden
from pileus.work.tables import lease, task

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.work")

OPEN = ("pending", "running")
_KEEP = 6 * 3600.0
_PAUSE = 30.0
_CLOCK = "tasks.clock"
_TRIES = 16  # free tasks looked at: others may take the first ones at the same moment


def enqueue(
    tx: Tx,
    cloud: Cloud,
    kind: str,
    *,
    node: str = "",
    resource: str,
    arguments: Any = None,
    request_id: str = "",
    delay: float = 0.0,
    timeout: float | None = None,
) -> str:
    """Ask `node` (or, with "", any controller) to do something; the task's id.

    `arguments` is what the kind's handler decodes. Tasks of one resource run one at a time, in order.
    `timeout` seconds after now the task fails by itself when nobody has done it (default `build_timeout`)."""
    now = cloud.world.now()
    task_id = cloud.world.uuid()
    limit = cloud.settings.build_timeout if timeout is None else timeout
    tx.execute(
        task.insert(),
        {
            "id": task_id, "kind": kind, "node": node, "resource": resource, "state": "pending",
            "arguments": msgspec.json.encode(arguments).decode(), "attempt": 0, "owner": "", "lease": 0.0,
            "not_before": now + delay, "deadline": now + delay + limit, "request_id": request_id, "created": now,
        },
    )
    tx.after_commit(lambda: cloud.bus.wake(node))
    return task_id


_OPEN_OF_NODE = (
    sa.select(task)
    .where(task.c.node == sa.bindparam("n"), task.c.state.in_(OPEN), task.c.not_before <= sa.bindparam("now"))
    .order_by(task.c.seq)
    .limit(1000)
)


def open_tasks(tx: Tx, node: str, now: float) -> list[Task]:
    """A node's tasks that are due and not done, oldest first; those it works on already are among them."""
    return [_message(row) for row in tx.all(_OPEN_OF_NODE, {"n": node, "now": now})]


def _message(row: Row[Any]) -> Task:
    return Task(
        id=row.id, kind=row.kind, node=row.node, resource=row.resource, attempt=row.attempt + 1,
        arguments=msgspec.Raw(row.arguments.encode()), deadline=row.deadline, request_id=row.request_id,
    )


_EARLIER = task.alias()
_FREE = (
    sa.select(task)
    .where(
        task.c.node == "", task.c.state.in_(OPEN), task.c.lease < sa.bindparam("now"),
        task.c.not_before <= sa.bindparam("now"),
        ~sa.exists().where(
            _EARLIER.c.resource == task.c.resource, _EARLIER.c.state.in_(OPEN), _EARLIER.c.seq < task.c.seq
        ),
    )
    .order_by(task.c.seq)
    .limit(_TRIES)
)


def claim(tx: Tx, owner: str, now: float, hold: float = 60.0) -> Task | None:
    """Take a controller's task that is free, whose resource has none before it; None when there is none."""
    for row in tx.all(_FREE, {"now": now}):
        taken = tx.execute(
            task.update()
            .where(task.c.id == row.id, task.c.lease == row.lease, task.c.state == row.state)
            .values(state="running", owner=owner, lease=now + hold, attempt=row.attempt + 1)
        )
        if taken.rowcount:
            return _message(row)
    return None


def renew(tx: Tx, task_id: str, owner: str, until: float) -> bool:
    """Keep a claimed task; False when it is no longer ours."""
    mine = (task.c.id == task_id, task.c.owner == owner, task.c.state == "running")
    kept = tx.execute(task.update().where(*mine).values(lease=until))
    return bool(kept.rowcount)


def drop(tx: Tx, resource: str, *which: sa.ColumnElement[bool]) -> None:
    """Forget those tasks of a resource that wait, but for one whose end is being written: that transaction has the
    task and waits for what this one has."""
    waiting = sa.select(task.c.id).where(task.c.resource == resource, task.c.state == "pending", *which)
    if ids := tx.scalars(waiting.with_for_update(skip_locked=True)):
        tx.execute(task.delete().where(task.c.id.in_(ids)))


_HOLD = sa.select(task).where(task.c.id == sa.bindparam("i")).with_for_update()


def finish(tx: Tx, cloud: Cloud, result: TaskResult) -> bool:
    """Record a result and let the kind's room act on it, in one transaction.

    False when the task is unknown or already finished: a repeated report changes nothing. Raises Forbidden for
    the task of another node."""
    row = tx.first(_HOLD, {"i": result.task_id})
    if row is None or row.state not in OPEN:
        return False
    if row.node != result.node:
        raise Forbidden(f"Task {row.id} is not for {result.node or 'a controller'}.")
    now = cloud.world.now()
    if not result.ok and result.retry and (row.deadline is None or now < row.deadline):
        tx.execute(
            task.update().where(task.c.id == row.id).values(
                state="pending", owner="", lease=0.0, attempt=row.attempt + 1, error=result.error,
                not_before=now + min(30.0, 0.5 * 2 ** min(row.attempt, 6)),
            )
        )
        tx.after_commit(lambda: cloud.metrics.tasks.labels(row.kind, "retried").inc())
        return True
    tx.execute(
        task.update().where(task.c.id == row.id).values(
            state="done" if result.ok else "failed", finished=now, lease=0.0, error=result.error or None,
            result=msgspec.json.decode(result.value),
        )
    )
    handler = cloud.results.get(row.kind)
    if handler is not None:
        handler(tx, cloud, _message(row), result)
    tx.after_commit(lambda: _count(cloud, row, result.ok, now))
    return True


def _count(cloud: Cloud, row: Row[Any], ok: bool, now: float) -> None:
    cloud.metrics.tasks.labels(row.kind, "done" if ok else "failed").inc()
    cloud.metrics.task_time.labels(row.kind).observe(now - row.created)


def keep_clock(tx: Tx, cloud: Cloud) -> None:
    """Put deadlines off by the time in which no controller ran at all: nobody could be told to do the tasks then.

    Runs before the first task is given out, and with `expire`, whose own runs tell when one ran last."""
    now = cloud.world.now()
    last = tx.scalar(sa.select(lease.c.until).where(lease.c.name == _CLOCK).with_for_update())
    if last is None:
        tx.execute(lease.insert().values(name=_CLOCK, owner="", until=now))
        return
    if now - last > _PAUSE:
        waiting = task.update().where(task.c.state.in_(OPEN), task.c.deadline.is_not(None))
        moved = tx.execute(waiting.values(deadline=task.c.deadline + (now - last))).rowcount
        if moved:
            _LOG.warning("the cloud did not run for %.0f s: %d tasks have that much more time", now - last, moved)
    tx.execute(lease.update().where(lease.c.name == _CLOCK).values(until=now))


def expire(tx: Tx, cloud: Cloud) -> int:
    """Fail what is past its deadline, forget what ended long ago; how many failed. Runs periodically."""
    now = cloud.world.now()
    keep_clock(tx, cloud)
    past = sa.select(task).where(task.c.state.in_(OPEN), task.c.deadline < now).order_by(task.c.deadline).limit(200)
    late = tx.all(past)
    for row in late:
        where = f"node {row.node}" if row.node else "a controller"
        result = TaskResult(
            task_id=row.id, node=row.node, ok=False,
            error=f"{row.kind}: {where} has not done it within {now - row.created:.0f} s"
            + (f"; the last attempt said: {row.error}" if row.error else ""),
        )
        try:
            with tx.savepoint():
                finish(tx, cloud, result)
        except Retry:
            raise  # the whole transaction is run again
        except Exception as error:
            if isinstance(error, sa.exc.DBAPIError) and faults.kind(error) is not faults.Kind.OTHER:
                raise  # so it is here
            # It ends all the same, so that what it was about can be deleted; its room's reconciler finds that.
            _LOG.exception("task %s (%s of %s) is late, and its room cannot take that", row.id, row.kind, row.resource)
            ended = {"state": "failed", "finished": now, "lease": 0.0, "error": result.error}
            tx.execute(task.update().where(task.c.id == row.id).values(**ended))
    tx.execute(task.delete().where(task.c.state.in_(("done", "failed")), task.c.finished < now - _KEEP))
    return len(late)


def cancel(tx: Tx, resource: str) -> None:
    """Drop a resource's tasks that nobody has begun: what they ask for is overtaken (a delete)."""
    tx.execute(task.delete().where(task.c.resource == resource, task.c.state == "pending", task.c.attempt == 0))
