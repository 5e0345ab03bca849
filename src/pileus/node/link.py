"""The agent's end of its connection: to one of the controllers, and to another when that one goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from pileus.cluster import channel, frames
from pileus.cluster.channel import Channel
from pileus.cluster.errors import from_failure
from pileus.cluster.frames import Broken, Data, Failure, Hello, Reply
from pileus.cluster.streams import splice
from pileus.node.agent import Agent
from pileus.node.contract import (
    GuestReport,
    HypervisorFacts,
    NetworkReport,
    NodeFault,
    NodeNetwork,
    Task,
    TaskResult,
)
from pileus.node.identity import Identity, dial
from pileus.web.errors import Conflict, Forbidden, NotFound

_LOG = logging.getLogger("pileus.node.link")
_GREETING = 10.0
_ANSWER = 60.0
_PAUSES = (0.1, 0.3, 1.0, 2.0, 3.0)
_PIECE = 1 << 20

_json = msgspec.json.Encoder()
_TASK = msgspec.json.Decoder(Task)
_STATE = msgspec.json.Decoder(NodeNetwork)


class RemoteLink:
    """A `NodeLink` over the cluster port. `run` keeps the connection until cancelled."""

    def __init__(self, identity: Identity, address: str, version: str) -> None:
        self.node = identity.node
        self.agent: Agent | None = None
        self._identity, self._address, self._version = identity, address, version
        self._channel: Channel | None = None
        self._there = asyncio.Event()
        self._tasks: asyncio.Queue[Task] = asyncio.Queue()
        self._network = asyncio.Event()
        self._skew = 0.0  # controllers' clock minus this one
        self._server = ""
        self._streams: set[asyncio.Task[None]] = set()

    @property
    def servers(self) -> list[str]:
        """The controllers that are known, HOST:PORT."""
        return self._identity.servers

    # -- the connection

    async def run(self) -> None:
        """Connect, and connect again. Ends only by being cancelled, or with Forbidden when the node was removed."""
        servers = list(self._identity.servers)
        random.shuffle(servers)
        failures = 0
        while True:
            server = servers[failures % len(servers)]
            try:
                await self._once(server)
                failures = 0
            except Forbidden as refusal:
                _LOG.error("controller %s refuses this node: %s", server, refusal)
                failures += 1
            except (OSError, Broken, TimeoutError, NotFound, Conflict, NodeFault) as error:
                _LOG.warning("controller %s cannot be reached: %s", server, error or type(error).__name__)
                failures += 1
            if failures % len(servers) == 0:
                servers = [*dict.fromkeys(self._identity.servers)] or servers
                random.shuffle(servers)
            await asyncio.sleep(_PAUSES[min(failures // len(servers), len(_PAUSES) - 1)] * (0.5 + random.random()))

    async def _once(self, server: str) -> None:
        reader, writer = await dial(self._identity, server)
        try:
            local = writer.get_extra_info("sockname")[0]
            await frames.write(writer, Hello("node", {"address": self._address or local, "version": self._version}))
            said = channel.unpack(await _reply(reader, _GREETING))
        except BaseException:
            writer.transport.abort()
            raise
        self._skew = said["time"] - time.time()
        self._identity.remember(said["controllers"])
        self._server = server
        line = Channel(reader, writer, self._answer, self._told)
        running = asyncio.create_task(line.run())
        self._channel = line
        self._there.set()
        self._network.set()
        _LOG.info("connected to controller %s", server)
        try:
            await self._renew(line)
            await running
            _LOG.warning("the connection to controller %s has ended", server)
        finally:
            self._channel = None
            self._there.clear()
            line.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _renew(self, line: Channel) -> None:
        request = self._identity.renewal()
        if request is not None:
            with contextlib.suppress(Broken, NodeFault, NotFound):
                self._identity.keep_certificate((await line.call("renew", request.encode())).decode())

    def _told(self, topic: str, body: bytes) -> None:
        if topic == "task":
            task = _TASK.decode(body)
            if task.deadline is not None:
                task = msgspec.structs.replace(task, deadline=task.deadline - self._skew)
            self._tasks.put_nowait(task)
        elif topic == "network":
            self._network.set()

    async def _answer(self, method: str, body: bytes) -> bytes:
        if self.agent is None:
            raise NodeFault("the node has not started yet")
        if method == "ask":
            question, arguments = channel.unpack(body)
            answer = await self.agent.answer(question, arguments)
            return channel.pack(msgspec.to_builtins(answer, builtin_types=(bytes,)))
        if method == "stream":
            number, question, arguments = channel.unpack(body)
            path = str(await self.agent.answer(question, arguments))
            near = await asyncio.open_unix_connection(path)
            carrying = asyncio.create_task(self._carry(number, near))
            self._streams.add(carrying)
            carrying.add_done_callback(self._streams.discard)
            return channel.pack(None)
        raise NodeFault(f"nodes do not know '{method}'; is the controller newer than its node?")

    async def _carry(self, number: str, near: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        try:
            reader, writer = await self._open("stream", id=number)
            await _reply(reader, _GREETING)
            await splice(near, (reader, writer))
        except (OSError, Broken, TimeoutError, NotFound, Forbidden) as error:
            _LOG.warning("a stream could not be opened: %s", error)
        finally:
            near[1].close()

    async def _open(self, purpose: str, **arguments: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Another connection to the same controller, for bulk."""
        await self._there.wait()
        reader, writer = await dial(self._identity, self._server)
        await frames.write(writer, Hello(purpose, arguments))
        return reader, writer

    async def _call(self, method: str, body: bytes) -> bytes:
        """Ask the controller. Raises Broken when none is connected, or the connection ends first."""
        line = self._channel
        if line is None:
            raise Broken("no controller is connected")
        return await asyncio.wait_for(line.call(method, body), _ANSWER)

    # -- what an agent says

    async def register(self, facts: HypervisorFacts) -> None:
        """Waits for a controller as long as it takes: a node that starts first is no error."""
        while True:
            await self._there.wait()
            try:
                await self._call("register", _json.encode(facts))
                return
            except (Broken, TimeoutError):
                await asyncio.sleep(0.2)
            except Forbidden as refusal:
                raise NodeFault(str(refusal)) from None

    async def heartbeat(self, facts: HypervisorFacts | None = None) -> None:
        await self._call("heartbeat", _json.encode(facts))

    async def tasks(self) -> AsyncIterator[Task]:
        """As they come. After a connection anew, those that are open come again: the agent knows which it has."""
        while True:
            yield await self._tasks.get()

    async def finish(self, result: TaskResult) -> None:
        """Told until a controller has taken it; twice does no harm."""
        body = _json.encode(result)
        while True:
            await self._there.wait()
            try:
                await self._call("finish", body)
                return
            except (Broken, TimeoutError):
                await asyncio.sleep(0.2)

    async def guest_changed(self, report: GuestReport) -> bool:
        return msgspec.json.decode(await self._call("guest_changed", _json.encode(report)), type=bool)

    async def network_state(self) -> NodeNetwork:
        return _STATE.decode(await self._call("network_state", b""))

    async def network_changes(self) -> AsyncIterator[None]:
        while True:
            await self._network.wait()
            self._network.clear()
            yield

    async def network_report(self, report: NetworkReport) -> None:
        await self._call("network_report", _json.encode(report))

    async def image_bytes(self, image_id: str) -> AsyncIterator[bytes]:
        """Raises NodeFault when the image cannot be had."""
        try:
            reader, writer = await self._open("image", image_id=image_id)
        except OSError as error:
            raise NodeFault(f"image {image_id}: the controller cannot be reached: {error}") from None
        try:
            while True:
                frame = await frames.read(reader)
                if isinstance(frame, Failure):
                    raise NodeFault(f"image {image_id}: {frame.text}")
                if not isinstance(frame, Data):
                    raise NodeFault(f"image {image_id}: the controller sent something else than data")
                if not frame.data:
                    return
                yield frame.data
        except Broken as error:
            raise NodeFault(f"image {image_id}: {error}") from None
        finally:
            writer.close()

    async def image_store(self, image_id: str, file: Path) -> None:
        try:
            reader, writer = await self._open("store", image_id=image_id)
        except OSError as error:
            raise NodeFault(f"the snapshot cannot be stored: {error}") from None
        try:
            if await _reply(reader, _ANSWER) == b"had":
                return
            handle = await asyncio.to_thread(file.open, "rb")
            with handle:
                while piece := await asyncio.to_thread(handle.read, _PIECE):
                    await frames.write(writer, Data(piece))
            await frames.write(writer, Data())
            await _reply(reader, None)
        except (Broken, Forbidden, NotFound, Conflict) as error:
            raise NodeFault(f"the snapshot cannot be stored: {error}") from None
        finally:
            writer.close()

    async def metadata(
        self, network_id: str, address: str, method: str, path: str, body: bytes
    ) -> tuple[int, str, bytes]:
        answer = await self._call("metadata", channel.pack([network_id, address, method, path, body]))
        status, media, data = channel.unpack(answer)
        return status, media, data


async def _reply(reader: asyncio.StreamReader, seconds: float | None) -> bytes:
    """The answer to a greeting. Raises what it says, Broken, TimeoutError."""
    frame = await asyncio.wait_for(frames.read(reader), seconds)
    if isinstance(frame, Failure):
        raise from_failure(frame)
    if not isinstance(frame, Reply):
        raise Broken("an answer was expected")
    return frame.body
