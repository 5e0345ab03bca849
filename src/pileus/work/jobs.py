"""Does the tasks that belong to controllers: claims one, renews its lease while it runs, records the result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from pileus.db.faults import OutcomeUnknown, Unreachable
from pileus.node.contract import NodeFault, Task, TaskResult
from pileus.web import log
from pileus.web.errors import Problem, Unavailable
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.work.bus import Subscription

_LOG = logging.getLogger("pileus.work")
_HOLD = 60.0
_LOOK = 1.0  # seconds after which tasks are looked for though nobody told of one


async def run(cloud: Cloud, owner: str, workers: int = 4) -> None:
    """Do tasks, `workers` at once, for ever. One idle worker looks for tasks; the next does when it has found one."""
    turn, place = asyncio.Lock(), cloud.bus.subscribe("")
    await asyncio.gather(*(_worker(cloud, f"{owner}/{number}", turn, place) for number in range(workers)))


async def _worker(cloud: Cloud, owner: str, turn: asyncio.Lock, place: Subscription) -> None:
    while True:
        try:
            async with turn:
                while (task := await _claim(cloud, owner)) is None:
                    await place.wait(_LOOK)
            await _work(cloud, task, owner)
            continue
        except (Unreachable, OutcomeUnknown) as error:
            _LOG.warning("the controllers' own tasks wait: %s", error)
        except Exception:
            # The task's lease runs out and it is tried again; its deadline bounds that.
            _LOG.exception("a worker could not take or end a task")
        await asyncio.sleep(_LOOK)


async def work_once(cloud: Cloud, owner: str) -> bool:
    """Do one task if there is one; whether there was."""
    task = await _claim(cloud, owner)
    if task is not None:
        await _work(cloud, task, owner)
    return task is not None


async def _claim(cloud: Cloud, owner: str) -> Task | None:
    return await cloud.db.run(lambda tx: tasks.claim(tx, owner, cloud.world.now(), _HOLD))


async def _work(cloud: Cloud, task: Task, owner: str) -> None:
    log.request_id.set(task.request_id or task.id)
    keeper = asyncio.create_task(_keep(cloud, task, owner))
    try:
        result = await _do(cloud, task)
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
    await _finish(cloud, result)


async def _finish(cloud: Cloud, result: TaskResult) -> None:
    """Record the end, after an outage too: the lease is longer than one. `tasks.finish` may be repeated."""
    until = cloud.world.monotonic() + _HOLD
    while True:
        try:
            await cloud.db.run(lambda tx: tasks.finish(tx, cloud, result))
            return
        except (Unreachable, OutcomeUnknown):
            if cloud.world.monotonic() > until:
                raise
            await asyncio.sleep(1.0)


async def _do(cloud: Cloud, task: Task) -> TaskResult:
    job = cloud.jobs.get(task.kind)
    if job is None:
        return TaskResult(task_id=task.id, node="", ok=False, error=f"no controller knows how to do '{task.kind}'")
    try:
        value = await job(cloud, task)
    except (Unavailable, Unreachable) as error:  # may pass: again, until the task's deadline
        return TaskResult(task_id=task.id, node="", ok=False, error=str(error), retry=True)
    except (NodeFault, Problem) as error:
        return TaskResult(task_id=task.id, node="", ok=False, error=str(error))
    except Exception as error:
        _LOG.exception("task %s (%s) failed", task.kind, task.id)
        return TaskResult(task_id=task.id, node="", ok=False, error=f"{type(error).__name__}: {error}")
    return TaskResult(task_id=task.id, node="", ok=True, value=msgspec.Raw(msgspec.json.encode(value)))


async def _keep(cloud: Cloud, task: Task, owner: str) -> None:
    while True:
        await asyncio.sleep(_HOLD / 3)
        try:
            kept = await cloud.db.run(lambda tx: tasks.renew(tx, task.id, owner, cloud.world.now() + _HOLD))
        except (sa.exc.SQLAlchemyError, Unreachable, OutcomeUnknown) as error:
            _LOG.warning("task %s: its lease is not renewed, trying again: %s", task.id, error)
            continue
        if not kept:
            return
