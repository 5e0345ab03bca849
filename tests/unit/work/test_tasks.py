"""Tasks: durable, in order within a resource, done at least once, finished once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import Database, Tx
from pileus.node.contract import Task, TaskResult
from pileus.work import tasks
from pileus.work.tables import task
from tests.unit.kernel import StillWorld, bare_cloud

T = TypeVar("T")


class Bench:
    """A cloud, and the calls that tests make on it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.ended: list[tuple[Task, TaskResult]] = []
        cloud.results["build"] = lambda tx, cloud, task, result: self.ended.append((task, result))

    @property
    def world(self) -> StillWorld:
        assert isinstance(self.cloud.world, StillWorld)
        return self.cloud.world

    def run(self, work: Callable[[Tx], T]) -> T:
        return self.cloud.db.run_sync(work)

    def ask(self, resource: str = "server:1", **more: Any) -> str:
        more.setdefault("kind", "build")
        return self.run(lambda tx: tasks.enqueue(tx, self.cloud, resource=resource, **more))

    def claim(self, owner: str = "me", hold: float = 60.0) -> Task | None:
        return self.run(lambda tx: tasks.claim(tx, owner, self.world.now(), hold))

    def end(self, task_id: str, ok: bool = True, **more: Any) -> bool:
        found = self.run(lambda tx: tx.first(sa.select(task.c.node).where(task.c.id == task_id)))
        result = TaskResult(task_id=task_id, node=found.node if found else "", ok=ok, **more)
        return self.run(lambda tx: tasks.finish(tx, self.cloud, result))

    def row(self, task_id: str) -> sa.Row[Any]:
        row = self.run(lambda tx: tx.first(sa.select(task).where(task.c.id == task_id)))
        assert row is not None
        return row


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(bare_cloud(tmp_path, database))


def test_a_task_is_there_only_when_its_change_is(bench: Bench) -> None:
    woken: list[str] = []
    bench.cloud.bus.wake = woken.append  # type: ignore[method-assign]

    def change(tx: Tx) -> None:
        tasks.enqueue(tx, bench.cloud, "build", node="n1", resource="server:1")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours, from above
        bench.run(change)
    assert bench.run(lambda tx: tasks.open_tasks(tx, "n1", bench.world.now())) == []
    assert woken == []
    bench.ask(node="n1")
    assert woken == ["n1"]


def test_a_node_gets_its_own_due_tasks_oldest_first(bench: Bench) -> None:
    first = bench.ask(node="n1", arguments={"a": [1, "ä"]}, request_id="req-1")
    bench.ask(node="n2")
    later = bench.ask(node="n1", delay=5)
    second = bench.ask(node="n1")

    def due() -> list[Task]:
        return bench.run(lambda tx: tasks.open_tasks(tx, "n1", bench.world.now()))

    assert [t.id for t in due()] == [first, second]
    message = due()[0]
    assert msgspec.json.decode(message.arguments) == {"a": [1, "ä"]}
    assert (message.request_id, message.attempt) == ("req-1", 1)
    bench.world.time += 5
    assert [t.id for t in due()] == [first, later, second]
    bench.end(first)
    assert [t.id for t in due()] == [later, second]


def test_tasks_of_one_resource_run_one_at_a_time_in_order(bench: Bench) -> None:
    first, second = bench.ask("server:1"), bench.ask("server:1")
    other = bench.ask("server:2")
    assert [getattr(bench.claim(), "id", None) for _ in range(3)] == [first, other, None]
    bench.end(first)
    assert getattr(bench.claim(), "id", None) == second


def test_a_delayed_task_holds_back_those_behind_it(bench: Bench) -> None:
    bench.ask("server:1", delay=5)
    bench.ask("server:1")
    assert bench.claim() is None
    bench.world.time += 5
    assert bench.claim() is not None
    assert bench.claim() is None


def test_controllers_do_not_take_what_is_a_nodes(bench: Bench) -> None:
    bench.ask(node="n1")
    assert bench.claim() is None


def test_a_lease_that_runs_out_gives_the_task_to_another(bench: Bench) -> None:
    made = bench.ask()
    bench.claim("a", hold=60)
    bench.world.time += 59
    assert bench.claim("b") is None
    assert bench.run(lambda tx: tasks.renew(tx, made, "a", bench.world.now() + 60))
    bench.world.time += 59
    assert bench.claim("b") is None
    bench.world.time += 2
    again = bench.claim("b")
    assert again is not None
    assert again.attempt == 2
    assert not bench.run(lambda tx: tasks.renew(tx, made, "a", bench.world.now() + 60))


def test_an_ended_task_is_not_renewed(bench: Bench) -> None:
    made = bench.ask()
    bench.claim("a")
    bench.end(made)
    assert not bench.run(lambda tx: tasks.renew(tx, made, "a", bench.world.now() + 60))
    assert bench.row(made).lease == 0


def test_a_repeated_report_changes_nothing(bench: Bench) -> None:
    made = bench.ask()
    assert bench.end(made, value=msgspec.Raw(b'{"pid":7}'))
    assert not bench.end(made, ok=False, error="no")
    assert not bench.end("unknown")
    row = bench.row(made)
    assert (row.state, row.result, row.error) == ("done", {"pid": 7}, None)
    assert len(bench.ended) == 1
    counted = bench.cloud.metrics.registry.get_sample_value("pileus_tasks_total", {"kind": "build", "outcome": "done"})
    assert counted == 1


def test_a_room_that_cannot_take_the_result_leaves_the_task_open(bench: Bench) -> None:
    made = bench.ask()

    def refuse(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        raise ZeroDivisionError

    bench.cloud.results["build"] = refuse
    with pytest.raises(ZeroDivisionError):
        bench.end(made)
    assert bench.row(made).state == "pending"
    counted = bench.cloud.metrics.registry.get_sample_value("pileus_tasks_total", {"kind": "build", "outcome": "done"})
    assert counted is None


def test_what_may_be_tried_again_waits_longer_each_time(bench: Bench) -> None:
    made = bench.ask(timeout=1000)
    waits = []
    for _ in range(10):
        assert bench.end(made, ok=False, retry=True, error="busy")
        row = bench.row(made)
        assert row.state == "pending"
        waits.append(row.not_before - bench.world.now())
        assert bench.claim() is None
        bench.world.time = row.not_before
    assert waits == sorted(waits)
    assert waits[0] == 0.5
    assert waits[-1] == 30.0
    assert bench.ended == []
    bench.world.time = bench.row(made).deadline + 1
    assert bench.end(made, ok=False, retry=True, error="busy")
    assert bench.row(made).state == "failed"
    assert len(bench.ended) == 1


def test_late_tasks_fail_and_say_what_was_tried(bench: Bench) -> None:
    late = bench.ask(node="n1", timeout=10)
    bench.ask(node="n1", timeout=1000)
    bench.end(late, ok=False, retry=True, error="disk full")
    bench.world.time += 11
    assert bench.run(lambda tx: tasks.expire(tx, bench.cloud)) == 1
    [(ended, result)] = bench.ended
    assert ended.id == late
    assert not result.ok
    assert "n1" in result.error
    assert "disk full" in result.error
    assert bench.run(lambda tx: tasks.expire(tx, bench.cloud)) == 0


def test_one_late_task_that_cannot_be_ended_holds_up_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = bench.ask("server:1", kind="bad", timeout=1), bench.ask("server:2", timeout=1)

    def refuse(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        raise ZeroDivisionError

    bench.cloud.results["bad"] = refuse
    bench.world.time += 2
    bench.run(lambda tx: tasks.expire(tx, bench.cloud))
    assert bench.row(good).state == "failed"
    assert bench.row(bad).state == "failed"
    assert bad in caplog.text


def test_time_in_which_no_controller_ran_does_not_count(bench: Bench) -> None:
    made = bench.ask(timeout=60)
    bench.run(lambda tx: tasks.keep_clock(tx, bench.cloud))
    bench.world.time += 3600
    bench.run(lambda tx: tasks.keep_clock(tx, bench.cloud))
    assert bench.run(lambda tx: tasks.expire(tx, bench.cloud)) == 0
    assert bench.row(made).deadline == bench.world.time + 60


def test_time_in_which_controllers_ran_counts(bench: Bench) -> None:
    bench.ask(timeout=60)
    for _ in range(12):
        assert bench.run(lambda tx: tasks.expire(tx, bench.cloud)) == 0
        bench.world.time += 5
    bench.world.time += 1
    assert bench.run(lambda tx: tasks.expire(tx, bench.cloud)) == 1


def test_what_ended_long_ago_is_forgotten(bench: Bench) -> None:
    made, open_one = bench.ask("server:1"), bench.ask("server:2", timeout=1e6)
    bench.end(made)
    bench.world.time += 6 * 3600 + 1
    bench.run(lambda tx: tasks.expire(tx, bench.cloud))
    assert bench.run(lambda tx: tx.scalars(sa.select(task.c.id))) == [open_one]


def test_cancel_drops_what_nobody_has_begun(bench: Bench) -> None:
    begun = bench.ask("server:1")
    bench.ask("server:1")
    other = bench.ask("server:2")
    bench.claim()
    bench.run(lambda tx: tasks.cancel(tx, "server:1"))
    assert set(bench.run(lambda tx: tx.scalars(sa.select(task.c.id)))) == {begun, other}


def test_claimants_at_the_same_moment_each_get_another(remote: Database, tmp_path: Path) -> None:
    bench = Bench(bare_cloud(tmp_path, remote))
    made = {bench.ask(f"server:{number}") for number in range(6)}
    gate = threading.Barrier(6)

    def claim(number: int) -> str | None:
        waited: list[bool] = []

        def work(tx: Tx) -> Task | None:
            tx.execute(sa.select(1))
            if not waited:
                waited.append(True)
                gate.wait(10)
            return tasks.claim(tx, f"w{number}", bench.world.now())

        taken = remote.run_sync(work)
        return taken.id if taken else None

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(claim, range(6))) == made


def test_two_reports_at_once_end_a_task_once(remote: Database, tmp_path: Path) -> None:
    bench = Bench(bare_cloud(tmp_path, remote))
    for _ in range(5):
        made = bench.ask()
        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(lambda _: bench.end(made), range(4))) == [False, False, False, True]  # noqa: B023


def test_what_waits_is_dropped_but_not_what_is_being_ended(remote: Database, tmp_path: Path) -> None:
    """Whose end is written waits for the server, and who drops has it: neither may wait for the other."""
    bench = Bench(bare_cloud(tmp_path, remote))
    ending, waiting, other = bench.ask(), bench.ask(), bench.ask("server:2")
    held, dropped = threading.Event(), threading.Event()
    results: list[bool] = []

    def end(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        held.set()
        results.append(dropped.wait(20))

    bench.cloud.results["build"] = end
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(bench.end, ending)
        assert held.wait(20)
        bench.run(lambda tx: tasks.drop(tx, "server:1"))
        dropped.set()
        assert told.result(20)
    assert results == [True]
    assert bench.row(ending).state == "done"
    assert bench.row(other).state == "pending"
    with pytest.raises(AssertionError):
        bench.row(waiting)
