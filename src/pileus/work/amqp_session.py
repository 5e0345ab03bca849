"""One connection to RabbitMQ: what is declared on it, sent and heard, until it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError, PublishError

from pileus.web.errors import Unavailable
from pileus.work.amqp_queues import NodeQueues, node_queue
from pileus.work.broker import Lost, as_lost
from pileus.work.questions import Answer, Question, answer, opened

if TYPE_CHECKING:
    from aiormq import spec

    from pileus.work.amqp import AmqpCarrier

_LOG = logging.getLogger("pileus.bus")
CONTROLLERS = "pileus.controllers"
"""The exchange through which every controller wakes all others."""
_RPC = 20.0
"""Seconds RabbitMQ may take to declare something."""
_CLOSE = 3.0
_WAKE_LIFE = 10.0
"""Seconds after which a wake that nobody took is thrown away: all has been found in the database long before."""
_WAKE_WAIT = 5.0
"""Seconds RabbitMQ may take to accept a wake."""
_MOST_WAKES = 100
"""Wakes of nodes that RabbitMQ has not accepted yet; those after them wait, each topic once."""
_RETRIES = (0.0, 0.1, 0.3, 1.0, 2.0)
"""Seconds before each new try of a message that RabbitMQ refused, as while a queue has no leader."""
_GAP = 0.005
"""Seconds between two rounds of wakes; what comes meanwhile for the same topic is sent once."""
_ALARM_LOOK = 1.0
_MOST_ANSWERS = 256
"""Questions that are answered at the same time."""


class Session:
    """Declares, sends and hears on one connection."""

    def __init__(self, carrier: AmqpCarrier, connection: AbstractConnection) -> None:
        self.carrier = carrier
        self.connection = connection
        self.metrics = carrier.cloud.metrics
        self.blocked = False
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending: dict[str, asyncio.Future[bytes]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._waking: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_MOST_WAKES)

    async def open(self) -> None:
        """Declare what this controller needs for itself, and listen. Raises Lost."""
        with as_lost():
            async with asyncio.timeout(_RPC):
                self.connection.close_callbacks.add(self._on_close)
                # What RabbitMQ refuses closes the channel: who consumes, sends and asks has one each.
                self._hearing = await self._channel()
                self._saying = await self._channel()
                self._asking = await self._channel(confirms=True)
                self._controllers = await self._saying.declare_exchange(
                    CONTROLLERS, ExchangeType.FANOUT, durable=True
                )
                name = f"pileus.controller.{self.carrier.name}"
                self._own = await self._hearing.declare_queue(name, exclusive=True, auto_delete=True)
                await self._own.bind(CONTROLLERS)
                underlay = await self._hearing.get_underlay_channel()
                underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
                self._own_tag = await self._own.consume(self._on_own, no_ack=True)
                self._queues = NodeQueues(self.carrier, self.connection, self._hearing, self._on_node)

    async def _channel(self, *, confirms: bool = False) -> AbstractChannel:
        channel = self.connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        channel.close_callbacks.add(self._on_close)
        return channel

    async def run(self) -> None:
        """Work until the connection is lost. Raises Lost."""
        work: list[Coroutine[Any, Any, None]] = [self._send(), self._queues.keep(), self._look_for_alarm()]
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait([self._lost, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for each in (self._lost, *tasks):
                if each.done():
                    await each
        finally:
            await _end(tasks)

    async def close(self) -> None:
        """Tell all who wait that there is no answer, and let go of the connection."""
        self._lose("closed")
        self._lost.exception()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(Lost("the connection to RabbitMQ was lost before the answer came"))
        await _end([*self._answering, *self._waking])
        with contextlib.suppress(Lost), as_lost():
            async with asyncio.timeout(_CLOSE):
                await self.connection.close()

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(Lost(reason))

    async def _on_close(self, _sender: object, error: BaseException | None) -> None:
        self._lose(str(error or "") or "closed")

    # what is sent

    async def _send(self) -> None:
        """Send the carrier's wakes as they come."""
        carrier = self.carrier
        while True:
            carrier.wanted.clear()
            for topic in list(carrier.topics):
                carrier.topics.pop(topic, None)
                message = self._message("wake", msgspec.msgpack.encode(topic), expiration=_WAKE_LIFE)
                if topic:
                    await self._slots.acquire()
                    self._do(self._waking, self._wake_node(topic.removeprefix("net:"), message))
                else:
                    await self._say("wake", self._controllers, message, "")
            await asyncio.sleep(_GAP)
            await carrier.wanted.wait()

    async def _wake_node(self, node: str, message: Message) -> None:
        try:
            async with asyncio.timeout(_WAKE_WAIT):
                await self._put(node, message, mandatory=False)
            self.metrics.bus_published.labels("wake").inc()
        except (Lost, Unavailable, TimeoutError):
            self.metrics.bus_dropped.labels("wake").inc()
        finally:
            self._slots.release()

    async def _say(self, kind: str, exchange: AbstractExchange, message: Message, key: str) -> None:
        try:
            with as_lost():
                await exchange.publish(message, key, mandatory=False)
        except BaseException:
            self.metrics.bus_dropped.labels(kind).inc()
            raise
        self.metrics.bus_published.labels(kind).inc()

    def _message(self, kind: str, body: bytes, **properties: Any) -> Message:
        return Message(body, type=kind, app_id=self.carrier.name, **properties)

    async def ask(self, node: str, question: str, arguments: dict[str, Any], timeout: float) -> Any:
        """The node's answer. Raises Lost, Unavailable when no controller has the node, and what the answerer raised.

        The caller ends the waiting: RabbitMQ throws the question away after `timeout` seconds, and tells nobody."""
        if self.blocked:
            raise Lost("RabbitMQ takes no messages, as its alarm for memory or disk is on")
        body = msgspec.msgpack.encode(Question(node, question, arguments, timeout))
        name = self.carrier.cloud.world.hex_id()
        future = self._pending[name] = asyncio.get_running_loop().create_future()
        message = self._message(
            "question", body, expiration=timeout, reply_to=self._own.name, correlation_id=name
        )
        try:
            await self._put(node, message, mandatory=True)
            self.metrics.bus_published.labels("question").inc()
            return opened(node, await future)
        finally:
            del self._pending[name]

    async def _put(self, node: str, message: Message, *, mandatory: bool) -> None:
        """Put a message into a node's queue. Raises Lost, and Unavailable when RabbitMQ does not take it.

        A channel that first publishes to a quorum queue while the queue's old leader is just gone may be refused for as
        long as it is open (RabbitMQ 3.10 asks that leader, again and again), so what is refused goes by a new one."""
        key = node_queue(node)
        with as_lost():
            for pause in (None, *_RETRIES):
                try:
                    if pause is None:
                        await self._asking.default_exchange.publish(message, key, mandatory=mandatory)
                    else:
                        await asyncio.sleep(pause)
                        options = {"publisher_confirms": True, "on_return_raises": True}
                        async with self.connection.channel(**options) as channel:
                            await channel.default_exchange.publish(message, key, mandatory=mandatory)
                    return
                except PublishError:
                    raise Unavailable(
                        f"Node {node} is not connected to any controller; is its agent running?"
                    ) from None
                except DeliveryError:
                    continue
        raise Unavailable(f"RabbitMQ takes nothing for node {node} now; has it lost its quorum?")

    def _do(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # what is heard

    def _on_cancel(self, frame: spec.Basic.Cancel) -> None:
        """RabbitMQ ended a consumer, as when its queue was deleted."""
        if frame.consumer_tag == self._own_tag:
            self._lose("this controller's queue was deleted")
        else:
            self._queues.ended(frame.consumer_tag or "")

    async def _on_own(self, message: AbstractIncomingMessage) -> None:
        if message.type == "answer":
            future = self._pending.get(message.correlation_id or "")
            if future is not None and not future.done():
                future.set_result(message.body)
        elif message.app_id != self.carrier.name:
            self._on_wake(message)

    async def _on_node(self, message: AbstractIncomingMessage) -> None:
        if message.type == "question":
            self._do(self._answering, self._on_question(message))
        else:
            self._on_wake(message)

    def _on_wake(self, message: AbstractIncomingMessage) -> None:
        try:
            self.carrier.cloud.bus.wake_here(msgspec.msgpack.decode(message.body, type=str))
        except msgspec.DecodeError:
            _LOG.warning("RabbitMQ brought a wake from %r that cannot be read", message.app_id)

    async def _on_question(self, message: AbstractIncomingMessage) -> None:
        try:
            asked = msgspec.msgpack.decode(message.body, type=Question)
        except msgspec.DecodeError:
            _LOG.warning("RabbitMQ brought a question from %r that cannot be read", message.app_id)
            return
        if len(self._answering) > _MOST_ANSWERS:
            busy = Answer(error="Unavailable", text=f"Node {asked.node}'s controller is asked too much at once.")
            body = msgspec.msgpack.encode(busy)
        else:
            body = await answer(self.carrier.answer, asked)
        reply = self._message("answer", body, correlation_id=message.correlation_id)
        with contextlib.suppress(Lost):
            await self._say("answer", self._saying.default_exchange, reply, message.reply_to or "")

    async def _look_for_alarm(self) -> None:
        """Notice when RabbitMQ takes no more messages, and when it does again."""
        while True:
            await asyncio.sleep(_ALARM_LOOK)
            transport = self.connection.transport
            if transport is None:
                raise Lost("the connection to RabbitMQ was lost")
            blocked = False
            try:
                async with asyncio.timeout(0):
                    await transport.ready()
            except TimeoutError:
                blocked = True
            if blocked != self.blocked:
                self.blocked = blocked
                self.metrics.bus_connected.set(0 if blocked else 1)
                _LOG.warning("RabbitMQ takes %s", "no messages: its alarm for memory or disk is on" if blocked
                             else "messages again")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
