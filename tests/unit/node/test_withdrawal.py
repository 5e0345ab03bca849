"""A node that reaches no controller for too long gives up what may be on another node by then, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.node import agent as agent_module
from pileus.node.agent import Agent
from pileus.node.contract import HostEntry, NetworkReport, NetworkState, NodeNetwork, PortState, RouterState
from pileus.node.net.fake import FakeNetworkDriver
from pileus.node.withdrawal import without_services

SERVING = NodeNetwork(
    revision=1, lease=0.2,
    networks=(NetworkState(id="n", kind="vxlan", dhcp_port=HostEntry(port_id="d", mac="fa:16:3e:00:00:01")),),
    ports=(PortState(id="p", network_id="n", mac="fa:16:3e:00:00:02"),), routers=(RouterState(id="r"),),
)


class Link:
    """A controller that can be out of reach: then nothing is answered, and heartbeats vanish."""

    node = "n1"

    def __init__(self, state: NodeNetwork) -> None:
        self.state = state
        self.there = asyncio.Event()
        self.there.set()
        self.reports: list[NetworkReport] = []

    async def heartbeat(self, facts: object = None) -> None: ...

    async def network_state(self) -> NodeNetwork:
        await self.there.wait()
        return self.state

    async def network_report(self, report: NetworkReport) -> None:
        await self.there.wait()
        self.reports.append(report)

    async def network_changes(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


class Driver(FakeNetworkDriver):
    """Remembers what it was told."""

    settle = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[NodeNetwork] = []

    async def apply(self, state: NodeNetwork) -> NetworkReport:
        self.applied.append(state)
        return await super().apply(state)


def test_only_services_are_withdrawn() -> None:
    left = without_services(SERVING)
    assert left.routers == ()
    assert left.networks[0].dhcp_port is None
    assert left.ports == SERVING.ports


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_LOOK_AT_LEASE", 0.01)
    monkeypatch.setattr(agent_module, "_RENEW_LEASE", 0.05)


def _run(state: NodeNetwork, cut: float) -> tuple[Driver, Link, list[NodeNetwork]]:
    """An agent that is cut off for so long; what its driver had been told by then."""

    async def work() -> tuple[Driver, Link, list[NodeNetwork]]:
        driver, link = Driver(), Link(state)
        agent: Any = Agent(link, None, driver, Path("/nowhere"))  # type: ignore[arg-type]
        tasks = [asyncio.create_task(agent._keep_network()), asyncio.create_task(agent._keep_lease())]
        await asyncio.sleep(0.15)
        link.there.clear()
        await asyncio.sleep(cut)
        before = list(driver.applied)
        link.there.set()
        await asyncio.sleep(0.15)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return driver, link, before

    return asyncio.run(work())


def test_services_are_withdrawn_when_the_lease_is_over_and_come_back() -> None:
    driver, link, before = _run(SERVING, 0.5)
    assert before == [SERVING, without_services(SERVING)], "once, and nothing else"
    assert driver.applied[-1] == SERVING
    assert link.reports[-1].lease == 0.2


def test_a_short_cut_withdraws_nothing() -> None:
    driver, link, _ = _run(SERVING, 0.1)
    assert driver.applied == [SERVING]
    assert len(link.reports) > 2, "the lease is renewed by what a controller answers"


def _reports(*states: NodeNetwork) -> list[int]:
    """The revisions that an agent reports that is given these states, one after another."""

    async def work() -> list[int]:
        link = Link(states[0])
        agent: Any = Agent(link, None, Driver(), Path("/nowhere"))  # type: ignore[arg-type]
        keeping = asyncio.create_task(agent._keep_network())
        for state in states:
            link.state = state
            await agent.network_now()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        return [report.revision for report in link.reports]

    return asyncio.run(work())


def test_the_same_is_reported_once_unless_a_report_is_wanted() -> None:
    first = msgspec.structs.replace(SERVING, lease=0.0, report_wanted=False)

    def state(revision: int, **more: object) -> NodeNetwork:
        return msgspec.structs.replace(first, revision=revision, **more)

    assert _reports(state(1), state(2), state(3)) == [1], "what others' changes count up is no news"
    assert _reports(state(1), state(2, report_wanted=True), state(3)) == [1, 2]
    assert _reports(state(1), state(2, ports=()), state(3, ports=())) == [1, 2]
    assert _reports(state(1), state(2, routers=()), state(3)) == [1, 2, 3]


def test_without_a_lease_nothing_is_withdrawn() -> None:
    driver, link, _ = _run(msgspec.structs.replace(SERVING, lease=0.0), 0.5)
    assert len(driver.applied) == 1
    assert len(link.reports) == 1
