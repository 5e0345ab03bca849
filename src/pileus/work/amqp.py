"""The bus between controllers through RabbitMQ (setting `bus`): wakes, and questions to nodes of other controllers.

RabbitMQ may stop, restart or lose its quorum at any moment: what is lost is a wake, which costs at most the second
until the database is looked at, or an answer, which the asker is told. Nothing waits for RabbitMQ without an end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import socket
from typing import Any

from pileus.cloud import Cloud
from pileus.web.errors import Unavailable
from pileus.work.amqp_session import Session
from pileus.work.broker import Broker, Lost, connect, parse
from pileus.work.questions import Answerer

_LOG = logging.getLogger("pileus.bus")
_MOST_TOPICS = 10_000
"""Wakes that wait to be sent; each topic counts once."""
_TIMEOUT = 30.0
"""Seconds a node may take to answer."""
_PATIENCE = 5.0
"""Seconds a question waits for RabbitMQ to be there again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0
"""Seconds between two tries to connect."""
_STEADY = 10.0
"""Seconds after which a connection counts as one that holds."""


def make_carrier(cloud: Cloud, answer: Answerer) -> AmqpCarrier:
    """The carrier that the setting `bus` names. Raises SettingsError when it is no URL of RabbitMQ.

    `answer` is asked for what other controllers want to know of the nodes connected here; a `Problem` that it raises
    reaches the asker as it is."""
    return AmqpCarrier(cloud, parse(cloud.settings.bus), answer)


class AmqpCarrier:
    """A `pileus.work.bus.Carrier`. All but `run` and `ask` returns at once, and none but `ask` raises."""

    def __init__(self, cloud: Cloud, broker: Broker, answer: Answerer) -> None:
        self.cloud = cloud
        self.broker = broker
        self.answer = answer
        self.name = f"{cloud.settings.node_name or socket.gethostname()}.{cloud.world.uuid()[:8]}"
        self.timeout = _TIMEOUT
        self.patience = _PATIENCE
        self.nodes: dict[str, int] = {}
        """The nodes connected here, each with when, in milliseconds: the latest connection is the one that counts."""
        self.removed: set[str] = set()
        """Nodes whose queues are still to be deleted."""
        self.changed = asyncio.Event()
        """`nodes` or `removed` is not what it was."""
        self.connections = 0
        """How often RabbitMQ was connected."""
        self.topics: dict[str, None] = {}
        """What is still to be woken, in order."""
        self.wanted = asyncio.Event()
        """Something was added to `topics`."""
        self._session: Session | None = None
        self._open = asyncio.Event()
        self._told = False

    # what the controller tells

    def publish(self, topic: str) -> None:
        """Wake `topic` on every other controller; of a node, on the one to which it is connected."""
        if topic and topic.removeprefix("net:") in self.nodes:
            return  # it was woken here, and waits nowhere else
        if topic not in self.topics and len(self.topics) >= _MOST_TOPICS:
            self.cloud.metrics.bus_dropped.labels("wake").inc()
            return
        self.topics[topic] = None
        self.wanted.set()

    def connected(self, node: str) -> None:
        """The node is connected to this controller now: its wakes and questions come here."""
        self.nodes[node] = max(int(self.cloud.world.now() * 1000), self.nodes.get(node, 0) + 1)
        self.removed.discard(node)
        self.changed.set()

    def disconnected(self, node: str) -> None:
        """The node is not connected to this controller any more. Its queue stays, for where it comes back."""
        self.nodes.pop(node, None)
        self.changed.set()

    def forget(self, node: str) -> None:
        """The node was removed from the cloud: delete its queue, now or when RabbitMQ is there again."""
        self.nodes.pop(node, None)
        self.removed.add(node)
        self.changed.set()

    # what the controller asks

    async def ask(self, controller: str, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """The node's answer, by way of the controller to which it is connected, whichever that is.

        Raises Unavailable, naming the node, when there is no answer within 30 s, and what the answerer raises."""
        if node in self.nodes:
            return await self.answer(node, question, arguments)
        try:
            async with asyncio.timeout(self.timeout):
                session = await self._current(node)
                return await session.ask(node, question, arguments, self.timeout)
        except TimeoutError:
            raise Unavailable(
                f"Node {node} did not answer '{question}' within {self.timeout:g} s; is its agent connected?"
            ) from None
        except Lost as lost:
            self.cloud.metrics.bus_dropped.labels("question").inc()
            raise Unavailable(f"Node {node} could not be asked '{question}': {lost}. Try again.") from None

    async def _current(self, node: str) -> Session:
        try:
            async with asyncio.timeout(self.patience):
                await self._open.wait()
        except TimeoutError:
            raise Lost("RabbitMQ is not connected") from None
        assert self._session is not None
        return self._session

    # what goes on

    async def run(self) -> None:
        """Carry, until cancelled: connect, and connect again for as often as the connection is lost."""
        hosts = itertools.cycle(random.sample(self.broker.hosts, len(self.broker.hosts)))
        pause = _FIRST_PAUSE
        for host, port in hosts:
            began = self.cloud.world.monotonic()
            try:
                await self._once(host, port)
            except Exception as error:
                self._say_lost(f"{host}:{port}", error)
            if self.cloud.world.monotonic() - began > _STEADY:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _once(self, host: str, port: int) -> None:
        """One connection, to its end. Raises why it ended."""
        connection = await connect(self.broker, host, port, f"pileus {self.name}")
        self.connections += 1
        session = Session(self, connection)
        try:
            await session.open()
            self._session = session
            self._open.set()
            self._told = False
            _LOG.info("RabbitMQ: connected to %s:%d", host, port)
            self.cloud.metrics.bus_connected.set(1)
            await session.run()
        finally:
            self._open.clear()
            self._session = None
            self.cloud.metrics.bus_connected.set(0)
            await session.close()

    def _say_lost(self, place: str, error: Exception) -> None:
        if self._told:
            return
        self._told = True
        reason = str(error) or type(error).__name__
        _LOG.warning(
            "RabbitMQ: no connection to %s (%s); trying again, and work goes on meanwhile: it is found in the database "
            "within a second or so", place, reason, exc_info=None if isinstance(error, OSError | Lost) else error,
        )
