"""A controller's cluster port on loopback, and nodes that speak its protocol by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pileus.cloud import Cloud
from pileus.cluster import authority, certificates, channel, frames, invitation, nodes, tokens
from pileus.cluster.channel import Channel
from pileus.cluster.errors import from_failure
from pileus.cluster.frames import TIME, Failure, Hello, Reply
from pileus.cluster.port import ClusterPort
from pileus.controller import LocalNodes
from pileus.node.contract import HypervisorFacts, Task
from pileus.serve import open_socket
from pileus.web.errors import NotFound

T = TypeVar("T")
FACTS = HypervisorFacts(
    hypervisor_type="fake", hypervisor_version=1, accelerator="none", hostname="by-hand", architecture="x86_64",
    vcpus=8, memory_mib=8192, disk_gib=100, host_ip="127.0.0.1",
)


class Controller:
    """The cluster port of a cloud. Use `begin` and `end`."""

    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud, self.loop = cloud, loop
        self.local = LocalNodes(cloud)
        self.port = ClusterPort(cloud, self.local)
        self.local.port = self.port
        self.server = ""
        self._serving: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Serve on a port of the kernel's choice."""
        self.db(lambda tx: authority.controller_files(tx, self.cloud, self.cloud.cluster_folder))
        sock = open_socket("127.0.0.1:0")
        self.server = f"127.0.0.1:{sock.getsockname()[1]}"
        context = certificates.server_context(self.cloud.cluster_folder)
        self._serving = self.loop.create_task(self.port.serve(sock, context))

    def end(self) -> None:
        """Stop serving."""
        if self._serving is not None:
            self._serving.cancel()
            self.loop.run_until_complete(asyncio.gather(self._serving, return_exceptions=True))

    def db(self, work: Any) -> Any:
        """A transaction."""
        return self.cloud.db.run_sync(work)

    def do(self, work: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
        """Run on the loop, but not for ever."""
        return self.loop.run_until_complete(asyncio.wait_for(work, seconds))

    def token(self, **more: Any) -> str:
        """A join token."""
        given: dict[str, Any] = {"roles": ("compute", "network"), "hours": 1.0, "uses": None, **more}
        return invitation.text(invitation.parse(self.db(lambda tx: tokens.create(tx, self.cloud, **given))))


class Hand:
    """A node whose every word a test chooses."""

    def __init__(self, controller: Controller, folder: Path, name: str) -> None:
        self.controller, self.folder, self.name = controller, folder, name
        self.line: Channel | None = None
        self.tasks: list[Task] = []
        self.told: list[str] = []
        self._running: asyncio.Task[None] | None = None

    def join(self, roles: tuple[str, ...] = ("compute", "network")) -> Hand:
        """Have a certificate."""
        key = certificates.keep_key(self.folder / "key.pem")
        request = certificates.request_for(key, self.name)
        parts = invitation.parse(self.controller.token(roles=roles))
        issued, _ = self.controller.db(lambda tx: nodes.join(
            tx, self.controller.cloud, token_id=parts.id, secret=parts.secret, name=self.name, request=request,
            roles=roles, address="127.0.0.1", version="1",
        ))
        certificates.keep(self.folder / "cert.pem", issued)
        return self

    def context(self) -> ssl.SSLContext:
        """TLS as this node."""
        ca = (self.controller.cloud.cluster_folder / "ca.pem").read_text()
        return certificates.client_context(ca, self.folder / "cert.pem", self.folder / "key.pem")

    async def open(self, purpose: str, **arguments: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with its greeting sent."""
        streams = await dial(self.controller.server, self.context())
        await frames.write(streams[1], Hello(purpose, arguments))
        return streams

    async def greet(self, purpose: str, **arguments: Any) -> bytes:
        """The answer to a greeting. Raises what is refused with."""
        reader, writer = await self.open(purpose, **arguments)
        try:
            return await answer(reader)
        finally:
            writer.close()

    async def connect(self, instance: str = "aa") -> Hand:
        """Be connected as a node."""
        reader, writer = await self.open("node", instance=instance, address="127.0.0.1", version="1")
        channel.unpack(await answer(reader))
        self.line = Channel(reader, writer, self.answer, self._told)
        self._running = asyncio.create_task(self.line.run())
        return self

    async def register(self) -> Hand:
        """Be connected and known, with resources for guests."""
        await self.connect()
        await self.say("register", FACTS)
        return self

    async def leave(self) -> None:
        """End the connection."""
        if self.line is not None and self._running is not None:
            self.line.close()
            await self._running

    async def answer(self, method: str, body: bytes) -> bytes:
        """What a controller asks; nothing is known here."""
        raise NotFound("by hand")

    def _told(self, topic: str, body: bytes) -> None:
        self.told.append(topic)
        if topic == "task":
            self.tasks.append(msgspec.json.decode(body[TIME.size :], type=Task))

    async def say(self, method: str, value: Any) -> bytes:
        """One call. Raises what is refused with."""
        assert self.line is not None
        return await self.line.call(method, value if isinstance(value, bytes) else msgspec.json.encode(value))

    async def until_ended(self, seconds: float = 5.0) -> None:
        """Until the controller ends the connection."""
        assert self._running is not None
        await asyncio.wait_for(asyncio.shield(self._running), seconds)

    async def until_task(self, kind: str, seconds: float = 10.0) -> Task:
        """The first task of a kind."""
        async with asyncio.timeout(seconds):
            while True:
                for task in self.tasks:
                    if task.kind == kind:
                        return task
                await asyncio.sleep(0.01)


async def dial(server: str, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a cluster port."""
    host, _, port = server.rpartition(":")
    return await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname=certificates.SERVER_NAME, limit=frames.BUFFER
    )


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The answer to a greeting. Raises what it says."""
    frame = await asyncio.wait_for(frames.read(reader), 10)
    if isinstance(frame, Failure):
        raise from_failure(frame)
    assert isinstance(frame, Reply), frame
    return frame.body
