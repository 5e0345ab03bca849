"""The agent's own end against a real cluster port: what is lost in between is made up for, nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.cluster import nodes
from pileus.node.agent import Agent
from pileus.node.contract import NodeFault, ServerTask, TaskResult
from pileus.node.hypervisor.fake import Fake, FakeSettings
from pileus.node.identity import Identity, Joining
from pileus.node.link import RemoteLink
from pileus.node.net.fake import FakeNetworkDriver
from pileus.web.errors import Conflict, Unavailable
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.cluster.bench import Controller
from tests.api.conftest import Client


class Counting(Fake):
    """Counts what it is told to do, and can have a screen."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(FakeSettings(state_dir=folder, hostname=name))
        self.built: list[str] = []
        self.screen: Path | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def build(self, spec: Any, progress: Any = None) -> Any:
        self.built.append(spec.id)
        await self.gate.wait()
        return await super().build(spec, progress)

    async def vnc_socket(self, server_id: str) -> Path:
        if self.screen is None:
            return await super().vnc_socket(server_id)
        return self.screen


class Node:
    """A whole agent in this process, at the end of a real connection."""

    def __init__(self, controller: Controller, folder: Path, name: str) -> None:
        self.controller, self.folder, self.name = controller, folder, name
        self.link: RemoteLink
        self.hypervisor: Counting
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Join if need be, connect, register."""
        if not (self.folder / "node.json").exists():
            joining = Joining([self.controller.server], self.controller.token(), roles=(), address="", version="1")
            await joining.one(self.folder, self.name)
        self.link = RemoteLink(Identity(self.folder), "", "1")
        self.hypervisor = Counting(self.folder / "guests", self.name)
        agent = Agent(self.link, self.hypervisor, FakeNetworkDriver(), self.folder / "scratch")
        self.link.agent = agent
        self._running = [asyncio.create_task(self.link.run()), asyncio.create_task(agent.run())]
        ready = asyncio.create_task(agent.ready.wait())
        done, _ = await asyncio.wait([ready, *self._running], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        for each in self._running:
            if each in done:
                each.result()
        assert ready in done

    async def stop(self) -> None:
        """End, as by a kill: nothing is told."""
        for each in self._running:
            each.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def _until(test: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not test():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _new_task(cloud: Cloud, node: str, kind: str = "server.destroy", **more: Any) -> str:
    given: dict[str, Any] = {
        "node": node, "resource": "server:x", "arguments": ServerTask(server_id="x"), **more
    }
    return str(cloud.db.run_sync(lambda tx: tasks.enqueue(tx, cloud, kind, **given)))


def _state(cloud: Cloud, number: str) -> str:
    return str(cloud.db.run_sync(lambda tx: tx.scalar(sa.select(task.c.state).where(task.c.id == number))))


def _drop(controller: Controller, name: str) -> None:
    controller.port.sessions[name].close()


@pytest.fixture
def spec(admin: Client, cloud: Cloud) -> Callable[[str], str]:
    """Makes a server on a node."""
    flavor = admin.post("/compute/v2.1/flavors", {"flavor": {"name": "l", "ram": 64, "vcpus": 1, "disk": 1}})
    if flavor.status_code == 409:
        found = admin.get("/compute/v2.1/flavors").json()["flavors"]
        number = next(f["id"] for f in found if f["name"] == "l")
    else:
        number = flavor.json()["flavor"]["id"]
    new = {"name": "i", "disk_format": "raw", "container_format": "bare"}
    image = admin.post("/image/v2/images", new).json()["id"]
    admin.put(f"/image/v2/images/{image}/file", content=bytes(8 << 20),
              headers={"Content-Type": "application/octet-stream"})

    def make(node: str) -> str:
        body = {"name": "s", "imageRef": image, "flavorRef": number, "networks": "none",
                "availability_zone": f"nova:{node}"}
        made = admin.post("/compute/v2.1/servers", {"server": body}, version="2.37")
        assert made.status_code == 202, made.text
        return str(made.json()["server"]["id"])

    make.image = image  # type: ignore[attr-defined]
    return make


class Steps:
    """A node that lives as long as the test. Requests are made between the runs of the loop in which it works."""

    def __init__(self, controller: Controller, folder: Path, name: str, admin: Client) -> None:
        self.controller, self.admin, self.name = controller, admin, name
        self.node = Node(controller, folder, name)

    def __enter__(self) -> Steps:
        self.controller.do(self.node.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.controller.do(self.node.stop())
        with contextlib.suppress(Exception):
            self.controller.db(lambda tx: nodes.remove(tx, self.name))

    def until(self, test: Callable[[], object], seconds: float = 15.0) -> None:
        """Let the loop run until it is so."""
        self.controller.do(_until(test, seconds), seconds + 5)

    def status(self, server: str) -> str:
        """Of a server; in the database, as requests need the loop."""
        from pileus.compute.tables import server as table

        return str(self.controller.db(lambda tx: tx.scalar(sa.select(table.c.vm_state).where(table.c.id == server))))


@pytest.fixture
def steps(controller: Controller, tmp_path: Path, admin: Client) -> Callable[[str], Steps]:
    return lambda name: Steps(controller, tmp_path / name, name, admin)


def test_a_server_is_made_and_asked_after_on_a_node_elsewhere(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], admin: Client
) -> None:
    with steps("l1") as here:
        server = spec("l1")
        here.until(lambda: here.status(server) == "active")
        log = admin.post(f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}}).json()["output"]
        assert "node:     l1" in log
        shown = admin.get(f"/compute/v2.1/servers/{server}/diagnostics", version="2.48").json()
        assert shown["num_cpus"] == 1
        here.controller.do(here.node.stop())
        gone = admin.post(f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}})
        assert gone.status_code in (404, 409, 503)
        assert "l1" in gone.text


def test_a_connection_that_breaks_during_a_build_costs_nothing_and_does_nothing_twice(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str]
) -> None:
    with steps("l2") as here:
        here.node.hypervisor.gate.clear()
        server = spec("l2")
        here.until(lambda: here.node.hypervisor.built == [server])
        for _ in range(3):
            session = controller.port.sessions["l2"].id
            _drop(controller, "l2")
            here.until(lambda: "l2" in controller.port.sessions and controller.port.sessions["l2"].id != session)  # noqa: B023
        controller.do(asyncio.sleep(0.2))
        here.node.hypervisor.gate.set()
        here.until(lambda: here.status(server) == "active")
        assert here.node.hypervisor.built == [server]


def test_a_result_that_was_reached_while_no_controller_was_there_is_told_afterwards(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with steps("l3") as here:
        here.node.hypervisor.gate.clear()
        server = spec("l3")
        here.until(lambda: here.node.hypervisor.built)
        refused = RuntimeError("no connections now")

        def refuse(*_: Any, **__: Any) -> Any:
            raise refused

        with monkeypatch.context() as away:
            away.setattr(nodes, "admit", refuse)
            _drop(controller, "l3")
            here.node.hypervisor.gate.set()
            controller.do(asyncio.sleep(1.0))
            assert here.status(server) == "building"
        here.until(lambda: here.status(server) == "active")
        assert here.node.hypervisor.built == [server]


def test_a_database_that_is_away_for_a_while_loses_no_result(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileus.db.engine import Unreachable

    with steps("l4") as here:
        here.node.hypervisor.gate.clear()
        server = spec("l4")
        here.until(lambda: here.node.hypervisor.built)

        def away(*_: Any, **__: Any) -> Any:
            raise Unreachable("the database postgresql://secret cannot be reached since 60 s")

        with monkeypatch.context() as outage:
            outage.setattr(tasks, "finish", away)
            outage.setattr(tasks, "open_tasks", away)
            here.node.hypervisor.gate.set()
            controller.cloud.bus.wake("l4")
            controller.do(asyncio.sleep(1.5))
            assert here.status(server) == "building"
        here.until(lambda: here.status(server) == "active")
        again = spec("l4")  # and tasks are still given out
        here.until(lambda: here.status(again) == "active")
        assert here.node.hypervisor.built == [server, again]


def test_an_agent_that_starts_anew_does_what_was_not_told(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str]
) -> None:
    with steps("l5") as here:
        here.node.hypervisor.gate.clear()
        server = spec("l5")
        here.until(lambda: here.node.hypervisor.built)
        controller.do(here.node.stop())
        controller.do(here.node.start())
        here.until(lambda: here.status(server) == "active")


def test_deadlines_are_by_the_controllers_clock(
    controller: Controller, steps: Callable[[str], Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose clock is ten minutes ahead, or behind, neither gives up too early nor works too long."""
    cloud = controller.cloud
    real = time.time
    with steps("l6") as here:
        for skew in (600.0, -600.0):
            monkeypatch.setattr(cloud.world, "now", lambda skew=skew: real() + skew)
            done = _new_task(cloud, "l6", timeout=30.0)
            here.until(lambda: _state(cloud, done) == "done")  # noqa: B023
        here.node.hypervisor.gate.clear()
        monkeypatch.setattr(cloud.world, "now", lambda: real() - 600.0)
        agent = here.node.link.agent
        assert agent is not None
        seen: list[float] = []
        original = agent._in_time

        async def look(task: Any) -> TaskResult:
            seen.append(task.deadline - real())
            return await original(task)

        agent._in_time = look  # type: ignore[method-assign]
        _new_task(cloud, "l6", timeout=20.0)
        here.until(lambda: seen)
        assert 15 < seen[0] <= 20.5


def test_an_image_goes_on_where_it_was_when_the_connection_breaks(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileus.cluster import bulk

    content = bytes(range(256)) * 4096 * 16
    asked: list[int] = []

    class Cut(Exception):
        pass

    async def pieces(self: Any, image_id: str) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    original = bulk.send

    async def cut_off(writer: asyncio.StreamWriter, chunks: AsyncIterator[bytes], offset: int = 0) -> None:
        asked.append(offset)

        async def some() -> AsyncIterator[bytes]:
            count = 0
            async for chunk in chunks:
                count += len(chunk)
                yield chunk
                if count > offset + (5 << 20):
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    writer.transport.abort()
                    return

        await original(writer, some() if len(asked) < 3 else chunks, offset)

    with steps("l7") as here:
        monkeypatch.setattr("pileus.controller.LocalLink.image_bytes", pieces)
        monkeypatch.setattr(bulk, "send", cut_off)

        async def fetch() -> bytes:
            return b"".join([piece async for piece in here.node.link.image_bytes("i")])

        assert controller.do(fetch(), 30) == content
        assert len(asked) == 3
        assert asked == sorted(set(asked))


def test_a_snapshot_is_sent_again_when_the_connection_breaks(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pileus.controller import LocalLink
    from pileus.image import images

    with steps("l8") as here:
        server = spec("l8")
        here.until(lambda: here.status(server) == "active")
        original, tries = LocalLink.image_take, 0

        async def breaks(self: LocalLink, image_id: str, chunks: AsyncIterator[bytes]) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                await anext(chunks)
                raise ConnectionError("cut off")
            await original(self, image_id, chunks)

        monkeypatch.setattr(LocalLink, "image_take", breaks)
        made = admin.post(f"/compute/v2.1/servers/{server}/action", {"createImage": {"name": "s"}}, version="2.45")
        image = made.json()["image_id"]
        here.until(lambda: controller.db(lambda tx: images.info(tx, image)).status == "active")
        assert tries == 2


def test_a_guests_screen_is_carried_both_ways(
    controller: Controller, steps: Callable[[str], Steps], spec: Callable[[str], str], tmp_path: Path
) -> None:
    """A stand-in for the screen: the fake has none, and says so."""
    with steps("l9") as here:
        server = spec("l9")
        here.until(lambda: here.status(server) == "active")
        cloud = controller.cloud
        with pytest.raises(Conflict, match="no screen"):
            controller.do(cloud.stream("l9", "vnc_socket", {"server_id": server}))
        with pytest.raises(Conflict, match="has no guest"):
            controller.do(cloud.stream("l9", "vnc_socket", {"server_id": "none"}))
        with pytest.raises(Unavailable, match="not connected"):
            controller.do(cloud.stream("nobody", "vnc_socket", {"server_id": server}))
        here.node.hypervisor.screen = tmp_path / "no-such-socket"
        with pytest.raises((Conflict, Unavailable)):
            controller.do(cloud.stream("l9", "vnc_socket", {"server_id": server}))

        async def screen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"RFB 003.008\n")
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

        async def run() -> None:
            path = tmp_path / "screen"
            listening = await asyncio.start_unix_server(screen, path)
            here.node.hypervisor.screen = path
            reader, writer = await cloud.stream("l9", "vnc_socket", {"server_id": server})
            assert await reader.readexactly(12) == b"RFB 003.008\n"
            sent = bytes(range(256)) * 8192
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()
            await _until(lambda: not here.node.link._streams)
            listening.close()

        controller.do(run())


def test_a_second_agent_with_the_same_certificate_says_why_it_does_not_start(
    controller: Controller, steps: Callable[[str], Steps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.node.link._STEADY", 1.0)
    with steps("l10") as here:
        first = controller.port.sessions["l10"]
        second = Node(controller, tmp_path / "l10", "l10")
        with pytest.raises(NodeFault, match="by another agent"):
            controller.do(second.start())
        controller.do(second.stop())
        assert controller.port.sessions["l10"] is first
        assert here.node.link._channel is not None


def test_a_removed_agent_asks_again_only_now_and_then(
    controller: Controller, steps: Callable[[str], Steps], caplog: pytest.LogCaptureFixture
) -> None:
    with steps("l11") as here:
        controller.db(lambda tx: nodes.remove(tx, "l11"))
        here.until(lambda: "l11" not in controller.port.sessions)
        controller.do(asyncio.sleep(3.0))
        refusals = [r for r in caplog.records if "refuses this node" in r.getMessage()]
        assert len(refusals) == 1
        attempts = [r for r in caplog.records if r.getMessage().startswith("'node' of node l11 is refused")]
        assert 1 <= len(attempts) <= 3


def test_heartbeats_are_small_until_something_has_changed(
    controller: Controller, steps: Callable[[str], Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileus.controller import LocalLink

    told: list[Any] = []
    original = LocalLink.heartbeat

    async def remember(self: LocalLink, facts: Any = None) -> None:
        told.append(facts)
        await original(self, facts)

    with steps("l12") as here:
        monkeypatch.setattr(LocalLink, "heartbeat", remember)
        link, hypervisor = here.node.link, here.node.hypervisor

        async def beat() -> None:
            for _ in range(5):
                await link.heartbeat(await hypervisor.facts())
            await _until(lambda: "l12" in controller.cloud.heartbeats._names)
            hypervisor._settings = FakeSettings(state_dir=here.node.folder, hostname="l12", vcpus=7)
            await link.heartbeat(await hypervisor.facts())

        controller.do(beat())
        assert [facts.vcpus for facts in told] == [64, 7]


def test_another_controller_says_whether_it_has_a_database(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileus.cluster.isolation import Isolation

    isolation = Isolation(controller.cloud, {})
    assert controller.do(isolation._has_it(controller.server)) is True
    assert controller.do(isolation._has_it("127.0.0.1:1")) is False

    async def away(seconds: float) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(controller.cloud.db, "answers", away)
        assert controller.do(isolation._has_it(controller.server)) is False


def test_the_controller_that_was_lost_is_tried_last(controller: Controller, steps: Callable[[str], Steps]) -> None:
    with steps("l13") as here:
        link = here.node.link
        link.identity = SimpleNamespace(servers=["a:1", "b:1", "c:1"])  # type: ignore[assignment]
        for lost in ("a:1", "b:1", "c:1"):
            order = [link._order(lost) for _ in range(20)]
            assert all(sorted(servers) == ["a:1", "b:1", "c:1"] and servers[0] == lost for servers in order)
        assert sorted(link._order("gone:1")) == ["a:1", "b:1", "c:1"]
