"""The agent's tasks: in order, in time, and nothing that a guest did is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.node import agent as agent_module
from pileus.node.agent import Agent
from pileus.node.contract import (
    GuestGone,
    GuestReport,
    GuestState,
    HypervisorFacts,
    NetworkReport,
    ServerTask,
    Task,
    TaskResult,
)

SERVER = "s1"


class Link:
    """A controller that remembers what it is told."""

    node = "n1"

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Task] = asyncio.Queue()
        self.results: list[TaskResult] = []
        self.reports: list[str] = []
        self.refuse_results = 0
        self.busy = 0  # how many reports come while something is done to the server

    async def register(self, facts: object) -> None: ...
    async def heartbeat(self, facts: object = None) -> None: ...
    async def network_report(self, report: object) -> None: ...
    async def network_state(self) -> None: ...

    async def tasks(self) -> AsyncIterator[Task]:
        while True:
            yield await self.waiting.get()

    async def network_changes(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def finish(self, result: TaskResult) -> None:
        if self.refuse_results:
            self.refuse_results -= 1
            raise OSError("the database is away")
        self.results.append(result)

    async def guest_changed(self, report: GuestReport) -> bool:
        self.busy -= 1
        if self.busy >= 0:
            return True
        self.reports.append(report.power)
        return False


class Hypervisor:
    """Guests that build for as long as told."""

    def __init__(self) -> None:
        self.power = "running"
        self.build_seconds = 0.0
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.gone = False

    async def start(self, on_event: Any) -> None:
        self.tell = on_event

    async def stop(self) -> None: ...
    async def facts(self) -> HypervisorFacts:
        return HypervisorFacts(
            hypervisor_type="fake", hypervisor_version=1, accelerator="none", hostname="n1", architecture="x86_64",
            vcpus=1, memory_mib=1, disk_gib=1,
        )

    async def guest(self, server_id: str) -> GuestState:
        if self.gone:
            raise GuestGone(server_id)
        return GuestState(id=server_id, power=self.power)

    async def pause(self, server_id: str) -> GuestState:
        self.began.append("pause")
        try:
            await asyncio.sleep(self.build_seconds)
        except asyncio.CancelledError:
            self.cancelled.append("pause")
            raise
        return await self.guest(server_id)

    async def destroy(self, server_id: str) -> None:
        self.began.append("destroy")


class Network:
    settle = 0.0

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def apply(self, state: object) -> NetworkReport:
        return NetworkReport(revision=0)


def ask(kind: str, *, number: int = 1, within: float | None = None) -> Task:
    return Task(
        id=f"t{number}", kind=f"server.{kind}", node="n1", resource=f"server:{SERVER}",
        arguments=msgspec.Raw(msgspec.json.encode(ServerTask(server_id=SERVER))),
        deadline=None if within is None else time.time() + within,
    )


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.link, self.hypervisor = Link(), Hypervisor()
        self.agent = Agent(self.link, self.hypervisor, Network(), tmp_path / "scratch")  # type: ignore[arg-type]

    async def until(self, test: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not test():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def run(self, *steps: Callable[[], Any], then: Callable[[], object]) -> None:
        """Let the agent work: each step once it has settled a little, until `then` is true."""

        async def work() -> None:
            agent = asyncio.create_task(self.agent.run())
            await self.agent.ready.wait()
            for step in steps:
                done = step()
                if asyncio.iscoroutine(done):
                    await done
                await asyncio.sleep(0.02)
            await self.until(then)
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)

        asyncio.run(work())

    def put(self, kind: str, **options: Any) -> Callable[[], None]:
        """A step: the task comes, and its time begins then."""
        return lambda: self.link.waiting.put_nowait(ask(kind, **options))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_task_past_its_deadline_is_broken_off_and_the_next_one_is_done(bench: Bench) -> None:
    bench.hypervisor.build_seconds = 60
    bench.run(
        bench.put("pause", within=0.2), lambda: bench.until(lambda: bench.link.results), bench.put("destroy", number=2),
        then=lambda: len(bench.link.results) == 2,
    )
    late, after = bench.link.results
    assert not late.ok
    assert bench.hypervisor.cancelled == ["pause"]
    assert after.ok


def test_a_task_that_waits_past_its_deadline_is_not_begun(bench: Bench) -> None:
    bench.run(bench.put("pause", within=-1), then=lambda: bench.link.results)
    assert "not done by its deadline" in bench.link.results[0].error
    assert bench.hypervisor.began == []


def test_a_delete_does_not_wait_for_what_goes_on(bench: Bench) -> None:
    bench.hypervisor.build_seconds = 60
    bench.run(
        bench.put("pause"), bench.put("destroy", number=2), then=lambda: len(bench.link.results) == 2
    )
    assert "is to be destroyed" in bench.link.results[0].error
    assert bench.link.results[1].ok


def test_a_second_delete_does_not_break_off_the_first(bench: Bench) -> None:
    bench.run(
        bench.put("destroy"), bench.put("destroy", number=2), then=lambda: len(bench.link.results) == 2
    )
    assert [result.ok for result in bench.link.results] == [True, True]


def test_a_result_that_is_not_taken_is_told_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_TELL_AGAIN", (0.0, 0.0))
    bench.link.refuse_results = 2
    bench.run(bench.put("pause"), then=lambda: bench.link.results)
    assert bench.link.results[0].ok


def test_a_result_that_is_never_taken_stops_no_later_task(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_TELL_AGAIN", (0.0,))
    bench.link.refuse_results = 2
    bench.run(bench.put("pause"), bench.put("destroy", number=2), then=lambda: bench.link.results)
    assert [result.task_id for result in bench.link.results] == ["t2"]


def test_what_a_guest_does_during_a_task_is_told_after_it(bench: Bench) -> None:
    bench.hypervisor.build_seconds = 0.1

    def crash() -> Any:
        bench.hypervisor.power = "crashed"
        return bench.hypervisor.tell(SERVER, "crashed")

    bench.run(bench.put("pause"), crash, then=lambda: bench.link.reports)
    assert bench.link.results
    assert bench.link.reports == ["crashed"]


def test_a_task_that_fails_is_followed_by_how_the_guest_is(bench: Bench) -> None:
    bench.hypervisor.power = "shutdown"
    bench.run(bench.put("no_such_thing"), then=lambda: bench.link.reports)
    assert not bench.link.results[0].ok
    assert bench.link.reports == ["shutdown"]


def test_a_report_that_came_at_the_wrong_time_is_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_HEARTBEAT", 0.01)
    bench.link.busy = 2
    bench.run(lambda: bench.hypervisor.tell(SERVER, "running"), then=lambda: bench.link.reports)
    assert bench.link.reports == ["running"]


def test_a_guest_that_is_gone_is_not_reported(bench: Bench) -> None:
    bench.hypervisor.gone = True
    bench.run(lambda: bench.hypervisor.tell(SERVER, "crashed"), then=lambda: True)
    assert bench.link.reports == []


def test_what_an_earlier_process_left_in_the_scratch_folder_goes(bench: Bench) -> None:
    bench.agent.scratch.mkdir()
    (bench.agent.scratch / "snapshot-x").write_bytes(b"half")
    bench.run(then=lambda: not bench.agent.scratch.exists())


def test_a_node_says_and_sets_how_loud_its_log_is(bench: Bench) -> None:
    logger = logging.getLogger("pileus.node")
    before = logger.level

    async def talk() -> Any:
        await bench.agent.answer("set_log_levels", {"prefix": "pileus.node", "level": "CRITICAL"})
        return await bench.agent.answer("log_levels", {"prefix": "pileus.node"})

    try:
        found = asyncio.run(talk())
        assert found["pileus.node"] == "CRITICAL"
        assert set(found.values()) == {"CRITICAL"}
        assert not logger.isEnabledFor(logging.ERROR)
    finally:
        for name in found:
            logging.getLogger(name).setLevel(logging.NOTSET)
        logger.setLevel(before)
