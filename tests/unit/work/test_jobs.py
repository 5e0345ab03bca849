"""Controllers do their own tasks, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.node.contract import NodeFault, Task, TaskResult
from pileus.web.errors import Conflict
from pileus.work import jobs, tasks
from pileus.work.tables import task
from tests.unit.kernel import bare_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = bare_cloud(tmp_path)
    yield cloud
    cloud.close()


def _ask(cloud: Cloud, kind: str = "import", resource: str = "image:1") -> str:
    return cloud.db.run_sync(lambda tx: tasks.enqueue(tx, cloud, kind, resource=resource))


def _state(cloud: Cloud, task_id: str) -> tuple[str, object, str | None]:
    row = cloud.db.run_sync(lambda tx: tx.first(sa.select(task).where(task.c.id == task_id)))
    assert row is not None
    return row.state, row.result, row.error


def test_nothing_to_do(cloud: Cloud) -> None:
    assert not asyncio.run(jobs.work_once(cloud, "me"))


def test_a_jobs_value_is_the_tasks_result(cloud: Cloud) -> None:
    async def job(cloud: Cloud, task: Task) -> object:
        return {"size": 3}

    cloud.jobs["import"] = job
    made = _ask(cloud)
    assert asyncio.run(jobs.work_once(cloud, "me"))
    assert _state(cloud, made) == ("done", {"size": 3}, None)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NodeFault("the disk is full"), "the disk is full"),
        (Conflict("it is in use"), "it is in use"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_a_job_that_fails_says_why(cloud: Cloud, error: Exception, says: str) -> None:
    async def job(cloud: Cloud, task: Task) -> object:
        raise error

    cloud.jobs["import"] = job
    made = _ask(cloud)
    assert asyncio.run(jobs.work_once(cloud, "me"))
    assert _state(cloud, made) == ("failed", None, says)


def test_a_kind_that_nobody_knows_fails(cloud: Cloud) -> None:
    made = _ask(cloud, "unheard of")
    assert asyncio.run(jobs.work_once(cloud, "me"))
    state, _, error = _state(cloud, made)
    assert state == "failed"
    assert "unheard of" in (error or "")


def test_a_long_job_keeps_its_lease(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_HOLD", 0.03)
    seen: list[float] = []
    renewed = asyncio.Event()
    broken = [sa.exc.OperationalError("renew", {}, Exception("gone"))]
    renew = tasks.renew

    def flaky(tx: Tx, task_id: str, owner: str, until: float) -> bool:
        if broken:
            raise broken.pop()
        kept = renew(tx, task_id, owner, until)
        seen.append(until)
        if len(seen) == 2:
            renewed.set()
        return kept

    monkeypatch.setattr(tasks, "renew", flaky)

    async def job(cloud: Cloud, task: Task) -> object:
        await renewed.wait()
        return None

    cloud.jobs["import"] = job
    made = _ask(cloud)
    assert asyncio.run(asyncio.wait_for(jobs.work_once(cloud, "me"), 10))
    assert _state(cloud, made)[0] == "done"


def test_a_worker_lives_on_when_a_task_cannot_be_ended(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    async def job(cloud: Cloud, task: Task) -> object:
        return None

    def refuse(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        raise ZeroDivisionError

    cloud.jobs.update({"bad": job, "good": job})
    cloud.results["bad"] = refuse
    _ask(cloud, "bad", "image:1")
    good = _ask(cloud, "good", "image:2")

    async def main() -> None:
        running = asyncio.create_task(jobs.run(cloud, "me", workers=1))
        for _ in range(1000):
            await asyncio.sleep(0.005)
            cloud.bus.wake("")
            if _state(cloud, good)[0] == "done":
                break
        assert not running.done()
        running.cancel()

    asyncio.run(main())
    assert _state(cloud, good)[0] == "done"
    assert "ZeroDivisionError" in caplog.text


def test_workers_work_side_by_side_and_one_of_them_looks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    here = asyncio.Queue[str]()
    go = asyncio.Event()
    looks = 0

    async def job(cloud: Cloud, task: Task) -> object:
        here.put_nowait(task.resource)
        await go.wait()
        return None

    claim = tasks.claim

    def count(tx: Tx, owner: str, now: float, hold: float) -> Task | None:
        nonlocal looks
        looks += 1
        return claim(tx, owner, now, hold)

    monkeypatch.setattr(tasks, "claim", count)
    cloud.jobs["slow"] = job

    async def main() -> None:
        running = asyncio.create_task(jobs.run(cloud, "me", workers=3))
        await asyncio.sleep(0.5)
        assert looks == 1
        made = [_ask(cloud, "slow", f"image:{number}") for number in range(4)]
        cloud.bus.wake("")
        seen = {await asyncio.wait_for(here.get(), 5) for _ in range(3)}
        assert seen <= {f"image:{number}" for number in range(4)}
        assert here.empty()  # all three are busy
        go.set()
        assert await asyncio.wait_for(here.get(), 5) not in seen
        while any(_state(cloud, each)[0] != "done" for each in made):  # noqa: ASYNC110 - as another process sees it
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(asyncio.wait_for(main(), 20))
