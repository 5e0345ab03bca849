"""The bus through a real RabbitMQ: wakes and questions cross, and RabbitMQ may be killed at any moment."""

from __future__ import annotations

import asyncio
import logging
import statistics
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from aio_pika.connection import Connection
from tests.rabbitmq import PASSWORD, RabbitMq, rabbitmq

from pileus.cloud import Cloud
from pileus.settings import Settings
from pileus.web.errors import Conflict, Problem, Unavailable
from pileus.work.amqp import make_carrier

pytestmark = pytest.mark.system
T = TypeVar("T")


class Controller:
    """A controller's bus and carrier in a thread and an event loop of their own."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.name = name
        self.cloud = Cloud(Settings(state_dir=str(folder), bus=url, node_name=name), rooms=())
        self.woken: list[tuple[str, float]] = []
        self.asked: list[str] = []
        self.loop = uvloop.new_event_loop()
        self.carrier = make_carrier(self.cloud, self.answer)
        self.cloud.bus.carrier = self.carrier
        self.cloud.bus.wake_here = self._wake_here  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.running = asyncio.run_coroutine_threadsafe(self.carrier.run(), self.loop)

    def _wake_here(self, topic: str) -> None:
        self.woken.append((topic, time.monotonic()))

    async def answer(self, node: str, question: str, arguments: dict[str, Any]) -> Any:
        self.asked.append(question)
        match question:
            case "console_log":
                return b"\xff" * int(arguments["size"])
            case "busy":
                raise Conflict("Server s has no guest now.")
            case "broken":
                raise KeyError("secret detail")
            case "slow":
                await asyncio.sleep(60)
        return {"node": node, "by": self.name, **arguments}

    def do(self, work: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        return self.start(work).result(timeout)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def ask(self, node: str, question: str = "echo", **arguments: Any) -> Any:
        return self.do(self.carrier.ask("", node, question, arguments))

    def call(self, method: str, *arguments: str) -> None:
        self.loop.call_soon_threadsafe(getattr(self.carrier, method), *arguments)

    def wake(self, topic: str) -> float:
        now = time.monotonic()
        self.loop.call_soon_threadsafe(self.cloud.bus.wake, topic)
        return now

    def gauge(self, name: str, **labels: str) -> float:
        return self.cloud.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def is_connected(self) -> bool:
        return self.gauge("pileus_bus_connected") == 1

    def close(self) -> None:
        self.running.cancel()
        until(lambda: not asyncio.run_coroutine_threadsafe(_others(), self.loop).result(10), 10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        self.cloud.close()


async def _others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def until(there: Any, timeout: float = 20.0) -> float:
    """Wait until `there()` holds; the seconds it took."""
    began = time.monotonic()
    while not there():
        assert time.monotonic() - began < timeout, "it did not come to be"
        time.sleep(0.005)
    return time.monotonic() - began


def crossing(source: Controller, target: Controller, topic: str, timeout: float = 10.0) -> float:
    """Seconds from a wake at one controller to the other."""
    heard = len(target.woken)
    began = source.wake(topic)
    until(lambda: any(what == topic for what, _ in target.woken[heard:]), timeout)
    return next(when for what, when in target.woken[heard:] if what == topic) - began


def settled(asker: Controller, node: str, timeout: float = 30.0) -> float:
    """Seconds until a node answers again."""
    began = time.monotonic()
    while True:
        try:
            asker.ask(node)
            return time.monotonic() - began
        except Unavailable:
            assert time.monotonic() - began < timeout, f"{node} does not answer"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMq]:
    with rabbitmq() as running:
        yield running


@pytest.fixture
def pair(server: RabbitMq, tmp_path: Path) -> Iterator[tuple[Controller, Controller]]:
    """Two connected controllers; the second has the node `n1`."""
    one, two = (Controller(tmp_path / name, name, server.url()) for name in ("c1", "c2"))
    two.call("connected", "n1")
    try:
        until(lambda: one.is_connected and two.is_connected)
        settled(one, "n1")
        yield one, two
    finally:
        for controller in (one, two):
            controller.close()


def queues(server: RabbitMq, *columns: str) -> dict[str, list[str]]:
    text = server.ctl("list_queues", "--silent", "name", *columns)
    return {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines() if "\t" in line}


def test_a_wake_crosses_long_before_anybody_looks(pair: tuple[Controller, Controller]) -> None:
    one, two = pair
    for topic in ("", "n1", "net:n1"):
        taken = [crossing(one, two, topic) for _ in range(20)]
        assert statistics.median(taken) < 0.5, "as late as without a bus, by a look once a second"
    assert crossing(two, one, "") < 1
    assert len(one.woken) == 61, "its own wakes came back to it"


def test_a_wake_for_a_node_of_this_controller_is_not_sent(pair: tuple[Controller, Controller]) -> None:
    one, two = pair
    before = two.gauge("pileus_bus_published_total", kind="wake")
    two.wake("n1")
    two.wake("net:n1")
    crossing(two, one, "")
    assert two.gauge("pileus_bus_published_total", kind="wake") == before + 1
    assert [topic for topic, _ in two.woken] == ["n1", "net:n1", ""]
    assert [topic for topic, _ in one.woken] == [""]


def test_questions_are_answered_by_the_controller_that_has_the_node(pair: tuple[Controller, Controller]) -> None:
    one, two = pair
    assert one.ask("n1", name="ü", raw=b"\x00") == {"node": "n1", "by": "c2", "name": "ü", "raw": b"\x00"}
    assert two.ask("n1")["by"] == "c2"
    log = one.ask("n1", "console_log", size=5 << 20)
    assert isinstance(log, bytes)
    assert log == b"\xff" * (5 << 20)
    many = [one.start(one.carrier.ask("", "n1", "echo", {"number": n})) for n in range(100)]
    assert [future.result(20)["number"] for future in many] == list(range(100))
    assert one.carrier._session is not None
    assert not one.carrier._session._pending


def test_errors_travel(pair: tuple[Controller, Controller]) -> None:
    one, _ = pair

    def problem(node: str, question: str, **arguments: Any) -> Problem:
        with pytest.raises(Problem) as caught:
            one.ask(node, question, **arguments)
        return caught.value

    busy = problem("n1", "busy")
    assert (type(busy), str(busy)) == (Conflict, "Server s has no guest now.")
    broken = problem("n1", "broken")
    assert type(broken) is Unavailable
    assert "n1" in str(broken)
    assert "secret detail" not in str(broken)
    assert "too long" in str(problem("n1", "console_log", size=16 << 20))
    began = time.monotonic()
    nobody = problem("n9", "echo")
    assert type(nobody) is Unavailable
    assert "n9 is not connected" in str(nobody)
    assert time.monotonic() - began < 2
    one.carrier.timeout = 0.5
    slow = problem("n1", "slow")
    assert type(slow) is Unavailable
    assert "n1 did not answer 'slow' within 0.5 s" in str(slow)


def test_a_nodes_queue_is_a_bounded_quorum_queue_until_the_node_is_removed(
    server: RabbitMq, pair: tuple[Controller, Controller]
) -> None:
    one, two = pair
    kind, arguments = queues(server, "type", "arguments")["pileus.node.n1"]
    assert kind == "quorum"
    assert all(text in arguments for text in ('"x-max-length",1000', '"x-overflow","drop-head"', '"x-expires"'))
    two.call("disconnected", "n1")
    until(lambda: queues(server, "consumers")["pileus.node.n1"] == ["0"])

    async def flood() -> None:
        session = one.carrier._session
        assert session is not None
        for _ in range(1500):
            await session._put("n1", session._message("wake", b"\xa2n1"), mandatory=False)

    one.do(flood())
    until(lambda: 900 <= int(queues(server, "messages")["pileus.node.n1"][0]) <= 1000)
    one.call("connected", "n1")
    assert settled(two, "n1") < 5
    assert two.ask("n1")["by"] == "c1"
    one.call("forget", "n1")
    until(lambda: "pileus.node.n1" not in queues(server, "type"))
    with pytest.raises(Unavailable, match="not connected"):
        two.ask("n1")


def test_a_node_that_moved_is_asked_where_it_is_now(
    server: RabbitMq, pair: tuple[Controller, Controller], tmp_path: Path
) -> None:
    one, two = pair
    three = Controller(tmp_path / "c3", "c3", server.url())
    try:
        assert settled(three, "n1") < 5
        one.call("connected", "n1")  # and the second does not know yet that its own connection is dead
        until(lambda: three.ask("n1")["by"] == "c1")
        assert {three.ask("n1")["by"] for _ in range(20)} == {"c1"}
        for _ in range(20):
            assert crossing(three, one, "n1") < 1
        assert not two.woken
    finally:
        three.close()


def test_a_queue_that_was_deleted_is_made_again(server: RabbitMq, pair: tuple[Controller, Controller]) -> None:
    one, _ = pair
    server.ctl("delete_queue", "pileus.node.n1")
    assert settled(one, "n1", 10) < 5


def test_a_queue_of_another_kind_costs_its_node_alone(
    server: RabbitMq, pair: tuple[Controller, Controller], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = pair

    async def occupy() -> None:
        assert one.carrier._session is not None
        async with one.carrier._session.connection.channel() as channel:
            await channel.declare_queue("pileus.node.n2", durable=True)

    one.do(occupy())
    two.call("connected", "n2")
    two.call("connected", "n3")
    assert settled(one, "n3") < 5
    assert settled(one, "n1") < 1
    assert [r.getMessage() for r in caplog.records if "refuses the queue pileus.node.n2" in r.getMessage()]
    assert one.is_connected
    assert two.is_connected


def test_it_may_be_killed_in_a_stream_of_wakes_and_questions(
    server: RabbitMq, pair: tuple[Controller, Controller], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = pair
    caplog.set_level(logging.INFO)
    asked: list[tuple[float, Future[Any]]] = []
    stop = threading.Event()

    def stream() -> None:
        while not stop.wait(0.01):
            one.wake("n1")
            two.wake("")
            asked.append((time.monotonic(), one.start(one.carrier.ask("", "n1", "echo", {}))))

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        time.sleep(1)
        server.members[0].kill()
        until(lambda: not one.is_connected and not two.is_connected)
        time.sleep(1)
        server.members[0].start()
        server.members[0].wait()
        back = settled(one, "n1")
        time.sleep(1)
    finally:
        stop.set()
        thread.join()
    done = refused = 0
    for _, future in asked:
        try:
            assert future.result(20)["by"] == "c2"
            done += 1
        except Unavailable:
            refused += 1
    print(f"{done} answered, {refused} refused, back after {back:.2f} s")
    assert done > 100
    assert refused < len(asked)
    assert back < 8
    assert crossing(one, two, "n1") < 1
    assert crossing(two, one, "") < 1
    lost = [r for r in caplog.records if "no connection" in r.getMessage()]
    assert len(lost) == 2
    assert len([r for r in caplog.records if "connected to 127.0.0.1" in r.getMessage()]) == 2
    assert not [r for r in caplog.records if r.exc_info]
    assert "rabbit@tests" not in caplog.text


def test_tls_is_spoken_with_whom_the_authority_knows(
    server: RabbitMq, pair: tuple[Controller, Controller], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    safe = Controller(tmp_path / "c3", "c3", server.tls_url)
    fooled = Controller(tmp_path / "c4", "c4", server.tls_url.partition("?")[0])
    try:
        until(lambda: safe.is_connected)
        assert safe.ask("n1")["by"] == "c2"
        until(lambda: "certificate verify failed" in caplog.text)
        assert not fooled.is_connected
    finally:
        safe.close()
        fooled.close()


def test_without_it_questions_are_refused_and_wakes_dropped(
    tmp_path: Path, server: RabbitMq, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alone = Controller(tmp_path, "c1", server.url().replace("pass%2F", "wrong"))
    try:
        alone.carrier.patience = 0.5
        with pytest.raises(Unavailable, match=r"n1 could not be asked 'echo': RabbitMQ is not connected\. Try again"):
            alone.ask("n1")
        for number in range(10_005):
            alone.wake(f"node-{number % 10_002}")
        until(lambda: alone.gauge("pileus_bus_dropped_total", kind="wake") == 2)
        assert len([r for r in caplog.records if "no connection" in r.getMessage()]) == 1
        assert "Login was refused" in caplog.text
        assert "wrong" not in caplog.text
        assert PASSWORD not in caplog.text
    finally:
        alone.close()


def test_an_alarm_is_noticed(server: RabbitMq, pair: tuple[Controller, Controller]) -> None:
    one, two = pair
    server.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        deadline = time.monotonic() + 20
        while one.is_connected:
            assert time.monotonic() < deadline
            one.wake("n1")  # only who sends is told
            time.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="alarm"):
            one.ask("n1")
        assert time.monotonic() - began < one.carrier.timeout / 2, "it waited for an answer"
    finally:
        server.ctl("set_vm_memory_high_watermark", "absolute", "800MB")
    until(lambda: one.is_connected)
    assert settled(one, "n1") < 5
    assert crossing(one, two, "n1") < 1


def member_of(cluster: RabbitMq, controller: Controller) -> int:
    """The member that a controller is connected to."""
    assert controller.carrier._session is not None
    connection = controller.carrier._session.connection
    assert isinstance(connection, Connection)
    return [member.port for member in cluster.members].index(connection.url.port or 0)


def test_a_cluster_loses_a_member_and_its_quorum(tmp_path: Path) -> None:
    with rabbitmq(3) as cluster:
        one = Controller(tmp_path / "c1", "c1", cluster.url(0, 1, 2))
        two = Controller(tmp_path / "c2", "c2", cluster.url(0, 1, 2))
        try:
            two.call("connected", "n1")
            settled(one, "n1")
            [kind, members, online] = queues(cluster, "type", "members", "online")["pileus.node.n1"]
            assert kind == "quorum"
            assert members.count("@localhost") == online.count("@localhost") == 3
            first = member_of(cluster, one)
            cluster.members[first].kill()
            until(lambda: not one.is_connected)
            print(f"its member of three killed: answers after {settled(one, 'n1', 40):.2f} s")
            assert member_of(cluster, one) != first
            assert crossing(one, two, "n1") < 2
            second = (first + 1) % 3
            cluster.members[second].kill()
            one.carrier.timeout = 3.0
            began = time.monotonic()
            with pytest.raises(Unavailable, match="n1"):
                one.ask("n1")
            assert time.monotonic() - began < 5
            for number in (first, second):
                cluster.members[number].start()
            for number in (first, second):
                cluster.members[number].wait()
            print(f"quorum is back: answers after {settled(one, 'n1', 60):.2f} s")
            assert crossing(one, two, "n1") < 2
            assert crossing(two, one, "") < 2
        finally:
            one.close()
            two.close()
