"""RabbitMQ in memory, as far as the carrier uses the library: queues, consumers, a fanout, and its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import Message
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from aiormq import spec

Callback = Callable[[Any], Awaitable[None]]


class Rabbit:
    """The broker. `down` refuses connections; `refused` are queues that cannot be declared, `nacked` those that
    take nothing."""

    def __init__(self) -> None:
        self.down = False
        self.refused: set[str] = set()
        self.nacked: set[str] = set()
        self.tries: list[str] = []
        self.connections: list[Connection] = []
        self.queues: dict[str, list[tuple[Channel, str, Callback]]] = {}
        self.bound: list[str] = []
        self.published: list[tuple[str, Message]] = []

    async def connect(self, broker: Any, host: str, port: int, name: str) -> Connection:
        self.tries.append(host)
        if self.down:
            raise ConnectionRefusedError(111, "refused")
        connection = Connection(self)
        self.connections.append(connection)
        return connection

    def kinds(self) -> list[str | None]:
        return [message.type for _, message in self.published]

    async def route(self, key: str, message: Message, mandatory: bool) -> None:
        self.published.append((key, message))
        consumers = self.queues.get(key)
        if consumers is None and mandatory:
            raise Returned
        if consumers:
            asyncio.get_running_loop().create_task(_deliver(consumers[-1][2], message))

    async def lose(self) -> None:
        """All connections at once."""
        for connection in list(self.connections):
            await connection.lose()


class Returned(PublishError):
    """No queue for a message."""

    def __init__(self) -> None:
        Exception.__init__(self)


async def _deliver(callback: Callback, message: Message) -> None:
    await callback(message)


class Connection:
    def __init__(self, rabbit: Rabbit) -> None:
        self.rabbit = rabbit
        self.close_callbacks: set[Any] = set()
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.closed = False
        self.transport = self
        self.hang = False

    async def ready(self) -> None:
        await self.unblocked.wait()

    def channel(self, **options: Any) -> Channel:
        return Channel(self)

    async def close(self) -> None:
        self.closed = True
        for consumers in self.rabbit.queues.values():
            consumers[:] = [each for each in consumers if each[0].connection is not self]
        if self in self.rabbit.connections:
            self.rabbit.connections.remove(self)

    async def lose(self) -> None:
        await self.close()
        for callback in list(self.close_callbacks):
            await callback(self, ConnectionResetError("reset"))


class Channel:
    """A channel, and what hangs on it: the default exchange, and queues as (channel, name)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rabbit = connection.rabbit
        self.close_callbacks: set[Any] = set()
        self.on_consumer_cancel_callbacks: set[Any] = set()
        self.default_exchange = Exchange(self)
        self.refuses: set[str] = set()  # queues for which this channel gets a Basic.Nack

    async def initialize(self) -> None: ...

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def get_underlay_channel(self) -> Channel:
        return self

    async def declare_exchange(self, name: str, kind: str, **options: Any) -> Exchange:
        return Exchange(self, fanout=True)

    async def declare_queue(self, name: str, **options: Any) -> Queue:
        if name in self.rabbit.refused:
            raise ChannelPreconditionFailed("another kind")
        self.rabbit.queues.setdefault(name, [])
        return Queue(self, name)

    async def get_queue(self, name: str, ensure: bool) -> Queue:
        return Queue(self, name)

    async def queue_delete(self, name: str, timeout: float) -> None:
        self.rabbit.queues.pop(name, None)


class Exchange:
    def __init__(self, channel: Channel, fanout: bool = False) -> None:
        self.channel = channel
        self.fanout = fanout

    async def publish(self, message: Message, key: str, mandatory: bool = True) -> None:
        connection = self.channel.connection
        if connection.hang and not self.fanout:
            await asyncio.Event().wait()
        if connection.closed:
            raise asyncio.CancelledError  # what waits for a channel that is closed gets this from the library
        if key in self.channel.refuses | self.channel.rabbit.nacked:
            raise DeliveryError(None, spec.Basic.Nack())
        for name in self.channel.rabbit.bound if self.fanout else [key]:
            await self.channel.rabbit.route(name, message, mandatory)


class Queue:
    def __init__(self, channel: Channel, name: str) -> None:
        self.channel = channel
        self.name = name

    async def bind(self, exchange: str) -> None:
        self.channel.rabbit.bound.append(self.name)

    async def consume(self, callback: Callback, **options: Any) -> str:
        tag = f"tag-{id(self)}"
        self.channel.rabbit.queues[self.name].append((self.channel, tag, callback))
        return tag

    async def cancel(self, tag: str, **options: Any) -> None:
        consumers = self.channel.rabbit.queues.get(self.name, [])
        consumers[:] = [each for each in consumers if each[1] != tag]
