"""One connected node, at its controller: what it says goes to its link, and tasks and wakes go to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster import authority, channel, nodes
from pileus.cluster.channel import Channel
from pileus.cluster.frames import TIME, Broken
from pileus.cluster.listener import Peer
from pileus.cluster.streams import Streams
from pileus.controller import LocalLink
from pileus.node.contract import GuestReport, HypervisorFacts, NetworkReport, TaskResult
from pileus.web.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.cluster.port import ClusterPort
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.cluster")
_json = msgspec.json.Encoder()
_FACTS = msgspec.json.Decoder(HypervisorFacts)
_RESULT = msgspec.json.Decoder(TaskResult)
_GUEST = msgspec.json.Decoder(GuestReport)
_NETWORK = msgspec.json.Decoder(NetworkReport)
_METADATA = msgspec.msgpack.Decoder(tuple[str, str, str, str, bytes])
_ASK = 60.0


class NodeSession:
    """Made when a node has been let in; `run` until it is gone."""

    def __init__(
        self, port: ClusterPort, peer: Peer, number: str, roles: Collection[str], address: str, streams: Streams
    ) -> None:
        self.cloud = port.cloud
        self.node, self.digest, self.id, self.address = peer.name, peer.digest, number, address
        self.link = LocalLink(port.cloud, peer.name, session=number, roles=roles)
        self._channel = Channel(*streams, self._answer, self._told)
        self._methods = {
            "register": self._register, "heartbeat": self._heartbeat, "finish": self._finish,
            "guest_changed": self._guest_changed, "network_state": self._network_state,
            "network_report": self._network_report, "metadata": self._metadata, "renew": self._renew,
        }

    @property
    def instance(self) -> str:
        """Which process of the node's agent this is."""
        return self.id.partition(".")[0]

    async def run(self) -> None:
        """Carry on until the connection ends."""
        helpers = [asyncio.create_task(self._give_tasks()), asyncio.create_task(self._tell_changes())]
        try:
            await self._channel.run()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    async def answers(self, seconds: float) -> bool:
        """Whether the agent still answers."""
        return await self._channel.answers(seconds)

    async def call(self, method: str, value: Any) -> Any:
        """Have the node do something and answer. Raises what it raises, Broken, TimeoutError."""
        async with asyncio.timeout(_ASK):
            return channel.unpack(await self._channel.call(method, channel.pack(value)))

    async def _give_tasks(self) -> None:
        try:
            async for task in self.link.tasks():
                self._channel.push("task", TIME.pack(self.cloud.world.now()) + _json.encode(task))
        except Forbidden:
            self.close()
        except Exception:
            _LOG.exception("node %s cannot be given its tasks; it has to connect again", self.node)
            self.close()

    async def _tell_changes(self) -> None:
        async for _ in self.link.network_changes():
            self._channel.push("network")

    def _told(self, topic: str, body: bytes) -> None:
        if topic == "heartbeat":
            self.cloud.heartbeats.heard(self.node)

    async def _answer(self, method: str, body: bytes) -> bytes:
        known = self._methods.get(method)
        if known is None:
            raise NotFound(f"controllers do not know '{method[:80]}'; is the node newer than its controller?")
        if self._channel.closed:
            raise Broken("the connection has ended")
        return await known(body)

    async def _register(self, body: bytes) -> bytes:
        await self.link.register(_FACTS.decode(body))
        return b""

    async def _heartbeat(self, body: bytes) -> bytes:
        await self.link.heartbeat(_FACTS.decode(body))
        return b""

    async def _finish(self, body: bytes) -> bytes:
        await self.link.finish(_RESULT.decode(body))
        return b""

    async def _guest_changed(self, body: bytes) -> bytes:
        return _json.encode(await self.link.guest_changed(_GUEST.decode(body)))

    async def _network_state(self, body: bytes) -> bytes:
        return _json.encode(await self.link.network_state())

    async def _network_report(self, body: bytes) -> bytes:
        await self.link.network_report(_NETWORK.decode(body))
        return b""

    async def _metadata(self, body: bytes) -> bytes:
        return channel.pack(await self.link.metadata(*_METADATA.decode(body)))

    async def _renew(self, body: bytes) -> bytes:
        """A new certificate for the same key."""
        request = body.decode()

        def renew(tx: Tx) -> str:
            if authority.digest_of_request(request) != nodes.find(tx, self.node).key_digest:
                raise Forbidden("A certificate is renewed for the key that the node has joined with.")
            return authority.issue(tx, self.cloud, request, "node", self.node)

        return (await self.link.run(renew)).encode()
