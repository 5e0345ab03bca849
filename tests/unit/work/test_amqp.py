"""The carrier over RabbitMQ: what it sends, and what it does when RabbitMQ comes and goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.settings import Settings
from pileus.web.errors import NotFound, Unavailable
from pileus.work import amqp
from pileus.work.amqp import AmqpCarrier, make_carrier
from tests.unit.work.rabbit import Rabbit

URL = "amqp://user:hidden@h1,h2:5673,h3/cloud"


async def answer(node: str, question: str, arguments: dict[str, Any]) -> Any:
    if question == "slow":
        await asyncio.Event().wait()
    if question == "absent":
        raise NotFound("There is no such guest.")
    return [node, question, arguments]


class Bench:
    """A broker in memory, and carriers that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rabbit = Rabbit()
        self.running: dict[AmqpCarrier, asyncio.Task[None]] = {}

    def make(self, name: str = "c1") -> AmqpCarrier:
        cloud = Cloud(Settings(state_dir=str(self.folder), bus=URL, node_name=name), rooms=())
        cloud.bus.carrier = carrier = make_carrier(cloud, answer)
        return carrier

    def start(self, carrier: AmqpCarrier) -> AmqpCarrier:
        self.running[carrier] = asyncio.create_task(carrier.run())
        return carrier

    async def connected(self, name: str = "c1") -> AmqpCarrier:
        carrier = self.start(self.make(name))
        await until(lambda: gauge(carrier, "pileus_bus_connected") == 1)
        return carrier

    async def stop(self) -> None:
        for carrier, task in self.running.items():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert gauge(carrier, "pileus_bus_connected") == 0
            carrier.cloud.close()
        assert not self.rabbit.connections
        assert asyncio.all_tasks() == {asyncio.current_task()}


def gauge(carrier: AmqpCarrier, name: str, **labels: str) -> float:
    return carrier.cloud.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(there: Callable[[], bool]) -> None:
    for _ in range(2000):
        if there():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to be")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    monkeypatch.setattr(amqp, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(amqp, "_LONGEST_PAUSE", 0.004)

    def go(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = Bench(tmp_path)
            monkeypatch.setattr(amqp, "connect", bench.rabbit.connect)
            await test(bench)
            await bench.stop()

        asyncio.run(main())

    return go


def test_a_topic_that_waits_is_sent_once(run: Any) -> None:
    async def test(bench: Bench) -> None:
        carrier = bench.make()
        for _ in range(50):
            for topic in ("", "n1", "net:n1"):
                carrier.publish(topic)
        bench.start(carrier)
        other = await bench.connected("c2")
        await until(lambda: len(bench.rabbit.published) >= 3)
        keys = [key for key, _ in bench.rabbit.published]
        assert keys.count("pileus.node.n1") == 2
        assert gauge(carrier, "pileus_bus_published_total", kind="wake") == 3
        place = other.cloud.bus.subscribe("")
        carrier.cloud.bus.wake("")
        assert await place.wait(1)

    run(test)


def test_wakes_that_find_no_room_are_dropped_and_counted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(amqp, "_MOST_TOPICS", 3)
        carrier = bench.make()
        for number in range(5):
            carrier.publish(f"n{number}")
        carrier.publish("n0")
        assert list(carrier.topics) == ["n0", "n1", "n2"]
        assert gauge(carrier, "pileus_bus_dropped_total", kind="wake") == 2
        carrier.cloud.close()

    run(test)


def test_a_node_is_woken_and_asked_where_it_is_connected(run: Any) -> None:
    async def test(bench: Bench) -> None:
        one, two = await bench.connected("c1"), await bench.connected("c2")
        two.connected("n1")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n1")))
        place = two.cloud.bus.subscribe("net:n1")
        one.cloud.bus.wake("net:n1")
        assert await place.wait(1)
        assert await one.ask("c2", "n1", "uptime", {"raw": b"\xff"}) == ["n1", "uptime", {"raw": b"\xff"}]
        with pytest.raises(NotFound, match=r"There is no such guest\."):
            await one.ask("c2", "n1", "absent", {})
        before = len(bench.rabbit.published)
        assert await two.ask("c2", "n1", "uptime", {}) == ["n1", "uptime", {}]
        two.cloud.bus.wake("n1")
        await asyncio.sleep(0.02)
        assert len(bench.rabbit.published) == before, "what is connected here needs no message"
        two.disconnected("n1")
        await until(lambda: not bench.rabbit.queues["pileus.node.n1"])
        two.forget("n1")
        await until(lambda: "pileus.node.n1" not in bench.rabbit.queues)
        with pytest.raises(Unavailable, match="Node n1 is not connected to any controller"):
            await one.ask("c2", "n1", "uptime", {})

    run(test)


def test_a_question_without_an_answer_ends(run: Any) -> None:
    async def test(bench: Bench) -> None:
        one, two = await bench.connected("c1"), await bench.connected("c2")
        two.connected("n1")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n1")))
        one.timeout = 0.02
        with pytest.raises(Unavailable, match=r"Node n1 did not answer 'slow' within 0\.02 s"):
            await one.ask("c2", "n1", "slow", {})
        one.timeout = 30.0
        asking = asyncio.create_task(one.ask("c2", "n1", "slow", {}))
        await asyncio.sleep(0.02)
        await bench.rabbit.lose()
        with pytest.raises(Unavailable, match="n1 could not be asked 'slow': the connection to RabbitMQ was lost"):
            await asking
        assert gauge(one, "pileus_bus_dropped_total", kind="question") == 1
        await until(lambda: gauge(one, "pileus_bus_connected") == gauge(two, "pileus_bus_connected") == 1)
        asking = asyncio.create_task(one.ask("c2", "n1", "slow", {}))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(test)


def test_a_publish_that_never_ends_holds_nobody(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        one = await bench.connected()
        bench.rabbit.connections[0].hang = True
        one.timeout = 0.02
        with pytest.raises(Unavailable):
            await one.ask("c2", "n1", "uptime", {})
        for number in range(300):
            one.publish(f"n{number % 150}")
        one.publish("")
        await asyncio.sleep(0.02)
        assert len(one.topics) == 50
        assert next(iter(one.topics)) == "n101"  # the one before has left, and waits for room
        monkeypatch.setattr("pileus.work.amqp_session._WAKE_WAIT", 0.01)

    run(test)


def test_what_a_channel_is_refused_goes_by_another(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr("pileus.work.amqp_session._RETRIES", (0.0, 0.001))
        one, two = await bench.connected("c1"), await bench.connected("c2")
        two.connected("n1")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n1")))
        assert one._session is not None
        asking: Any = one._session._asking
        asking.refuses.add("pileus.node.n1")
        assert await one.ask("c2", "n1", "uptime", {}) == ["n1", "uptime", {}]
        place = two.cloud.bus.subscribe("n1")
        one.cloud.bus.wake("n1")
        assert await place.wait(1)
        asking.rabbit.nacked.add("pileus.node.n1")
        with pytest.raises(Unavailable, match="RabbitMQ takes nothing for node n1 now"):
            await one.ask("c2", "n1", "uptime", {})
        one.cloud.bus.wake("n1")
        await until(lambda: gauge(one, "pileus_bus_dropped_total", kind="wake") == 1)
        assert len(bench.rabbit.tries) == 2

    run(test)


def test_all_is_declared_again_on_the_next_host(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        caplog.set_level(logging.INFO)
        one = await bench.connected()
        one.connected("n1")
        one.connected("n2")
        await until(lambda: all(bench.rabbit.queues.get(f"pileus.node.n{n}") for n in (1, 2)))
        bench.rabbit.down = True
        tried = len(bench.rabbit.tries)
        await bench.rabbit.lose()
        await until(lambda: len(bench.rabbit.tries) >= tried + 9)
        assert set(bench.rabbit.tries[tried:]) == {"h1", "h2", "h3"}
        assert bench.rabbit.tries[tried] != bench.rabbit.tries[tried - 1]
        one.disconnected("n2")
        one.publish("n3")
        bench.rabbit.down = False
        await until(lambda: bool(bench.rabbit.queues["pileus.node.n1"]))
        await until(lambda: ("pileus.node.n3", "wake") in [(key, m.type) for key, m in bench.rabbit.published])
        assert not bench.rabbit.queues["pileus.node.n2"]
        lines = [record.getMessage() for record in caplog.records]
        assert [line.split()[1] for line in lines] == ["connected", "no", "connected"]
        assert "hidden" not in caplog.text

    run(test)


def test_a_queue_that_is_refused_or_ended_is_the_matter_of_its_node(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bench: Bench) -> None:
        bench.rabbit.refused.add("pileus.node.n1")
        one = await bench.connected()
        one.connected("n1")
        one.connected("n2")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n2")))
        one.connected("n3")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n3")))
        assert len([r for r in caplog.records if "refuses the queue pileus.node.n1" in r.getMessage()]) == 1
        assert len(bench.rabbit.tries) == 1
        assert one._session is not None
        bench.rabbit.refused.clear()
        bench.rabbit.queues["pileus.node.n2"].clear()
        one._session._queues.ended(one._session._queues._heard["n2"].tag)
        one.changed.set()
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n1") and bench.rabbit.queues["pileus.node.n2"]))

    run(test)


def test_an_alarm_refuses_questions_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr("pileus.work.amqp_session._ALARM_LOOK", 0.001)
        one = await bench.connected()
        bench.rabbit.connections[0].unblocked.clear()
        await until(lambda: gauge(one, "pileus_bus_connected") == 0)
        with pytest.raises(Unavailable, match="Node n1 could not be asked 'uptime': RabbitMQ takes no messages"):
            await one.ask("c2", "n1", "uptime", {})
        bench.rabbit.connections[0].unblocked.set()
        await until(lambda: gauge(one, "pileus_bus_connected") == 1)

    run(test)


def test_what_cannot_be_read_is_said_and_passed_over(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        one, two = await bench.connected("c1"), await bench.connected("c2")
        two.connected("n1")
        await until(lambda: bool(bench.rabbit.queues.get("pileus.node.n1")))
        assert one._session is not None
        for kind in ("wake", "question", "answer", "song"):
            for body in (b"", b"\xc1", b"\x80", b"\xa1x"):
                message = one._session._message(kind, body)
                await bench.rabbit.route("pileus.node.n1", message, True)
                await bench.rabbit.route(f"pileus.controller.{two.name}", message, True)
        assert await one.ask("c2", "n1", "uptime", {}) == ["n1", "uptime", {}]
        assert len([r for r in caplog.records if "cannot be read" in r.getMessage()]) > 8
        assert len(bench.rabbit.tries) == 2

    run(test)
