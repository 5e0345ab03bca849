"""What a controller does on its cluster port for the other controllers, and for the operator of its machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from pileus.cluster import bulk, frames, isolation
from pileus.cluster.channel import Channel, pack, unpack
from pileus.cluster.frames import Hello, Reply
from pileus.cluster.listener import Peer
from pileus.cluster.streams import Streams, splice
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.controller import LocalNodes


class Content(msgspec.Struct, frozen=True):
    """Which bytes of which image."""

    image_id: str
    kind: Literal["image", "staged"] = "image"


class Asked(msgspec.Struct, frozen=True):
    """A question for a node."""

    node: str
    question: str
    arguments: dict[str, Any]


class PeerPort:
    """`check` looks at once whether nodes were removed."""

    def __init__(self, cloud: Cloud, local: LocalNodes, check: Callable[[], Awaitable[None]]) -> None:
        self.cloud, self.local, self._check = cloud, local, check

    async def channel(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        """Wakes and questions."""
        await frames.write(streams[1], Reply(0))
        await Channel(*streams, self._answer, self._told).run()

    async def _answer(self, method: str, body: bytes) -> bytes:
        if method == "ask":
            node, question, arguments = unpack(body)
            return pack(await self.local.ask_here(node, question, arguments))
        if method == "ask-anywhere":
            node, question, arguments = unpack(body)
            return pack(await self.local.ask(node, question, arguments))
        if method == "check":
            await self._check()
            return b""
        if method == "database":
            return isolation.HAS_IT if await self.cloud.db.answers(isolation.OWN_ANSWER) else b""
        raise NotFound(f"controllers do not know '{method}'")

    def _told(self, topic: str, body: bytes) -> None:
        if topic == "wake":
            self.cloud.bus.wake_here(body.decode())

    async def image(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        """An image's bytes, or what is staged for it, from this controller's own store."""
        from pileus.image import store

        wanted = msgspec.convert(hello.arguments, Content)
        place = store.staged_path if wanted.kind == "staged" else store.final_path
        path = place(self.cloud, wanted.image_id)
        if "/" in wanted.image_id or "\0" in wanted.image_id or not path.is_file():
            raise NotFound(f"Image {wanted.image_id} has no content in this store.")
        await bulk.send(streams[1], store.read_file(self.cloud, path))

    async def stream(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        """Bytes both ways with a node that is connected here."""
        asked = msgspec.convert(hello.arguments, Asked)
        far = await self.local.stream_here(asked.node, asked.question, asked.arguments)
        try:
            await frames.write(streams[1], Reply(0))
            await splice(streams, far)
        finally:
            far[1].close()
