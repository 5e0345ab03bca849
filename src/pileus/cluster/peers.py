"""The other controllers: wakes, questions and bytes go to them over their cluster ports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pileus.cluster import bulk, certificates, channel, controllers, frames, greeting
from pileus.cluster.channel import Channel
from pileus.cluster.frames import Broken, Hello
from pileus.cluster.streams import Streams
from pileus.web.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from pileus.cloud import Cloud

_LOG = logging.getLogger("pileus.cluster")
_LOOK = 2.0
_DIAL = 5.0
_GLANCE = 0.05
_ASK = 60.0


class PeerLinks:
    """The carrier of a cloud without RabbitMQ: one connection to each other controller."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._channels: dict[str, Channel] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}

    def publish(self, topic: str) -> None:
        """Wake `topic` on every other controller that is connected."""
        for each in self._channels.values():
            each.push("wake", topic.encode())

    async def ask(self, controller: str, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """Have the controller ask its node. Raises Unavailable, Conflict."""
        found = self._channels.get(controller) or await self._reach(controller)
        try:
            async with asyncio.timeout(_ASK):
                body = await found.call("ask", channel.pack([node, question, arguments]))
        except (Broken, TimeoutError):
            raise Unavailable(f"Node {node} did not answer by controller {controller}.") from None
        return channel.unpack(body)

    async def _reach(self, controller: str) -> Channel:
        """The connection to a controller that has just started, perhaps. Raises Unavailable."""
        await self._look()
        for _ in range(int(_DIAL / _GLANCE)):
            found, dialling = self._channels.get(controller), self._dialling.get(controller)
            if found is not None:
                return found
            if dialling is None or dialling.done():
                break
            await asyncio.sleep(_GLANCE)
        raise Unavailable(f"Controller {controller} cannot be reached from here.")

    async def run(self) -> None:
        """Keep a connection to each controller that lives, until cancelled."""
        try:
            while True:
                with contextlib.suppress(Exception):
                    await self._look()
                await asyncio.sleep(_LOOK)
        finally:
            for task in self._dialling.values():
                task.cancel()
            await asyncio.gather(*self._dialling.values(), return_exceptions=True)

    async def _look(self) -> None:
        now = self.cloud.world.now()
        there = await self.cloud.db.run(lambda tx: controllers.endpoints(tx, now), write=False)
        there.pop(self.cloud.controller, None)
        for name, task in list(self._dialling.items()):
            if task.done():
                del self._dialling[name]
        for name, address in there.items():
            if name not in self._dialling:
                self._dialling[name] = asyncio.create_task(self._keep(name, address))

    async def _keep(self, name: str, address: str) -> None:
        try:
            streams = await greet(self.cloud, address, Hello("peer"))
        except Exception as error:
            _LOG.debug("controller %s at %s cannot be reached: %s", name, address, error)
            return
        line = Channel(*streams, answer_nothing, lambda topic, body: None)
        self._channels[name] = line
        try:
            await line.run()
        finally:
            if self._channels.get(name) is line:
                del self._channels[name]


async def answer_nothing(method: str, body: bytes) -> bytes:
    """For the end that only asks."""
    raise NotFound("questions are asked the other way")


async def greet(cloud: Cloud, address: str, hello: Hello) -> Streams:
    """A connection to another controller's cluster port, greeted. Raises OSError, Broken, and the refusal."""
    folder = cloud.cluster_folder
    context = certificates.client_context((folder / "ca.pem").read_text(), folder / "cert.pem", folder / "key.pem")
    try:
        reader, writer = await greeting.dial(address, context, _DIAL)
    except TimeoutError:
        raise Unavailable(f"{address} does not answer.") from None
    try:
        await frames.write(writer, hello)
        if hello.purpose != "peer-image":  # whose first frame is data already
            await greeting.reply(reader, _ASK)
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def address_of(cloud: Cloud, controller: str) -> str:
    """Where a controller's cluster port is. Raises Unavailable when it does not live."""
    now = cloud.world.now()
    found = (await cloud.db.run(lambda tx: controllers.endpoints(tx, now), write=False)).get(controller)
    if found is None:
        raise Unavailable(f"Controller {controller} has not been heard of lately.")
    return found


async def image_bytes(cloud: Cloud, controller: str, image_id: str, kind: str = "image") -> AsyncIterator[bytes]:
    """An image's bytes, or what is staged for it, from the controller that has them. Raises Unavailable, NotFound."""
    hello = Hello("peer-image", {"image_id": image_id, "kind": kind})
    try:
        reader, writer = await greet(cloud, await address_of(cloud, controller), hello)
    except (OSError, Broken) as error:
        raise Unavailable(f"Controller {controller} cannot be reached: {error}") from None
    try:
        async for piece in bulk.receive(reader):
            yield piece
    except Broken as error:
        raise Unavailable(f"Controller {controller} stopped sending image {image_id}: {error}") from None
    finally:
        writer.close()


async def stream(cloud: Cloud, controller: str, node: str, question: str, arguments: dict[str, Any]) -> Streams:
    """A stream of a node that is connected to another controller. Raises Unavailable, Conflict."""
    hello = Hello("peer-stream", {"node": node, "question": question, "arguments": arguments})
    try:
        return await greet(cloud, await address_of(cloud, controller), hello)
    except (OSError, Broken) as error:
        raise Unavailable(f"Controller {controller} cannot be reached: {error}") from None
