"""Periodic work runs on one controller at a time and survives its own failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.work import periodic
from pileus.work.periodic import Periodic
from tests.unit.kernel import StillWorld, bare_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = bare_cloud(tmp_path)
    yield cloud
    cloud.close()


async def _run_until(cloud: Cloud, jobs: tuple[Periodic, ...], owner: str, counts: list[object], enough: int) -> None:
    running = asyncio.create_task(periodic.run(cloud, jobs, owner))
    for _ in range(400):
        await asyncio.sleep(0.01)
        if len(counts) >= enough:
            break
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_job_that_fails_is_tried_again_and_holds_up_no_other(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[object] = []
    runs: list[object] = []

    def fail(tx: Tx, cloud: Cloud) -> None:
        failures.append(1)
        raise ZeroDivisionError

    jobs = (Periodic("bad", 0.05, fail), Periodic("good", 0.05, lambda tx, cloud: runs.append(1)))
    asyncio.run(_run_until(cloud, jobs, "a", runs, 2))
    assert len(runs) >= 2
    assert failures
    assert "bad" in caplog.text


def test_another_controller_takes_over_when_the_lease_ends(cloud: Cloud) -> None:
    assert isinstance(cloud.world, StillWorld)
    runs: list[object] = []
    job = (Periodic("job", 0.05, lambda tx, cloud: runs.append(1)),)
    asyncio.run(_run_until(cloud, job, "a", runs, 1))
    done = len(runs)
    assert done >= 1

    async def other() -> None:
        running = asyncio.create_task(periodic.run(cloud, job, "b"))
        await asyncio.sleep(0.2)
        running.cancel()

    asyncio.run(other())
    assert len(runs) == done
    cloud.world.time += 1.0
    asyncio.run(_run_until(cloud, job, "b", runs, done + 1))
    assert len(runs) > done
