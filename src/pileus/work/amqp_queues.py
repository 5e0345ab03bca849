"""The nodes' queues in RabbitMQ: each is consumed by the controller to which its node is connected, and outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelClosed

from pileus.work.broker import as_lost

if TYPE_CHECKING:
    from pileus.work.amqp import AmqpCarrier

_LOG = logging.getLogger("pileus.bus")
_RPC = 20.0
"""Seconds RabbitMQ may take for one step."""
_AGAIN = 60.0
"""Seconds after which a queue that RabbitMQ refused is tried again."""
_AT_ONCE = 8
"""Queues declared at the same time."""
_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-max-length": 1000,
    "x-overflow": "drop-head",
    "x-expires": 7 * 24 * 3600 * 1000,  # a week unused: the node was removed while RabbitMQ was away
}


class _Heard(NamedTuple):
    """A queue that is consumed here, and since when its node is connected."""

    since: int
    queue: AbstractQueue
    tag: str


def node_queue(node: str) -> str:
    """The name of a node's queue."""
    return f"pileus.node.{node}"


class NodeQueues:
    """Those that one connection consumes, on the channel `hearing`; messages go to `hear`."""

    def __init__(
        self,
        carrier: AmqpCarrier,
        connection: AbstractConnection,
        hearing: AbstractChannel,
        hear: Callable[[AbstractIncomingMessage], Awaitable[None]],
    ) -> None:
        self.carrier = carrier
        self.connection = connection
        self.hearing = hearing
        self.hear = hear
        self._heard: dict[str, _Heard] = {}
        self._refused: set[str] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def keep(self) -> None:
        """Consume the queues of the nodes that are connected here, and of no others. Raises Lost."""
        carrier = self.carrier
        while True:
            carrier.changed.clear()
            wanted = dict(carrier.nodes)
            gone = [node for node, heard in self._heard.items() if wanted.get(node) != heard.since]
            await asyncio.gather(*(self._leave(node) for node in gone))
            come = [(node, since) for node, since in wanted.items() if node not in self._heard]
            await asyncio.gather(*(self._take(node, since) for node, since in come))
            for node in list(carrier.removed):
                await self._delete(node)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN):
                    await carrier.changed.wait()

    async def _take(self, node: str, since: int) -> None:
        name = node_queue(node)
        with as_lost():
            async with self._places:
                try:
                    async with self.connection.channel(publisher_confirms=False) as channel:
                        await channel.declare_queue(name, durable=True, arguments=_ARGUMENTS, timeout=_RPC)
                except ChannelClosed as error:
                    self._refuse(node, error)
                    return
                queue = await self.hearing.get_queue(name, ensure=False)
                # Of two controllers that believe to have the node the later one is right, and gets everything; and
                # of two connections of one controller, as RabbitMQ may not have noticed the end of the first.
                priority = since * 1000 + min(self.carrier.connections, 999)
                tag = await queue.consume(self.hear, no_ack=True, arguments={"x-priority": priority}, timeout=_RPC)
        self._heard[node] = _Heard(since, queue, tag)
        self._refused.discard(node)

    def _refuse(self, node: str, error: ChannelClosed) -> None:
        if node not in self._refused:
            _LOG.warning("RabbitMQ refuses the queue %s (%s): its node is woken by the clock", node_queue(node), error)
        self._refused.add(node)

    async def _leave(self, node: str) -> None:
        heard = self._heard.pop(node, None)
        if heard is not None:
            with as_lost():
                await heard.queue.cancel(heard.tag, timeout=_RPC)

    async def _delete(self, node: str) -> None:
        with as_lost():
            try:
                async with self.connection.channel(publisher_confirms=False) as channel:
                    await channel.queue_delete(node_queue(node), timeout=_RPC)
            except ChannelClosed as error:
                _LOG.warning("RabbitMQ keeps the queue %s of a removed node (%s)", node_queue(node), error)
        self.carrier.removed.discard(node)

    def ended(self, tag: str) -> None:
        """RabbitMQ has ended a consumer: if its node is still connected here, begin anew a second later."""
        for node, heard in list(self._heard.items()):
            if heard.tag == tag:
                del self._heard[node]
                asyncio.get_running_loop().call_later(1.0, self.carrier.changed.set)
