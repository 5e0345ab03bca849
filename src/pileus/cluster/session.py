"""One connected node, at its controller: what it says goes to its link, and tasks and wakes go to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster import authority, channel, nodes
from pileus.cluster.channel import Channel
from pileus.cluster.frames import Broken
from pileus.controller import LocalLink
from pileus.node.contract import GuestReport, HypervisorFacts, NetworkReport, TaskResult
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.cluster.port import ClusterPort

_json = msgspec.json.Encoder()
_FACTS = msgspec.json.Decoder(HypervisorFacts | None)
_RESULT = msgspec.json.Decoder(TaskResult)
_GUEST = msgspec.json.Decoder(GuestReport)
_NETWORK = msgspec.json.Decoder(NetworkReport)
_ASK = 60.0


class NodeSession:
    """Made when a node connects; `run` until it is gone."""

    def __init__(
        self, port: ClusterPort, node: str, digest: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.cloud = port.cloud
        self.node, self.digest = node, digest
        self.id = port.cloud.world.hex_id()
        self.admitted = False
        self.link = LocalLink(port.cloud, node)
        self._channel = Channel(reader, writer, self._answer, lambda topic, body: None)
        self._methods = {
            "register": self._register, "heartbeat": self._heartbeat, "finish": self._finish,
            "guest_changed": self._guest_changed, "network_state": self._network_state,
            "network_report": self._network_report, "metadata": self._metadata, "renew": self._renew,
        }

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

    async def call(self, method: str, value: Any) -> Any:
        """Have the node do something and answer. Raises what it raises, Broken, TimeoutError."""
        return channel.unpack(await asyncio.wait_for(self._channel.call(method, channel.pack(value)), _ASK))

    async def _give_tasks(self) -> None:
        async for task in self.link.tasks():
            self._channel.push("task", _json.encode(task))

    async def _tell_changes(self) -> None:
        async for _ in self.link.network_changes():
            self._channel.push("network")

    async def _answer(self, method: str, body: bytes) -> bytes:
        known = self._methods.get(method)
        if known is None:
            raise NotFound(f"controllers do not know '{method}'; is the node newer than its controller?")
        if not self.admitted:
            raise Broken("not admitted")
        return await known(body)

    async def _register(self, body: bytes) -> bytes:
        facts = _FACTS.decode(body)
        assert facts is not None
        await self.link.register(facts)
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
        place, address, method, path, data = channel.unpack(body)
        return channel.pack(await self.link.metadata(place, address, method, path, data))

    async def _renew(self, body: bytes) -> bytes:
        """A new certificate for the same key."""
        request = body.decode()

        def renew(tx: Any) -> str:
            row = nodes.find(tx, self.node)
            if authority.digest_of_request(request) != row.key_digest:
                raise NotFound("A certificate is renewed for the key that the node has joined with.")
            return authority.issue(tx, self.cloud, request, "node", self.node)

        return (await self.cloud.db.run(renew)).encode()
