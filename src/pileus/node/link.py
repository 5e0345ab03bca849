"""The agent's end of its connection: to one of the controllers, and to another when that one goes."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from pileus.cluster import bulk, channel, frames, greeting
from pileus.cluster.channel import Channel
from pileus.cluster.frames import TIME, Broken, Data, Hello
from pileus.cluster.streams import Streams, splice
from pileus.node.agent import Agent
from pileus.node.contract import (
    FACTS_EVERY,
    GuestReport,
    HypervisorFacts,
    NetworkReport,
    NodeFault,
    NodeNetwork,
    Task,
    TaskResult,
)
from pileus.node.identity import Identity, dial
from pileus.web.errors import BadRequest, Conflict, Forbidden, Problem, Unavailable

_LOG = logging.getLogger("pileus.node.link")
_GREETING = 10.0
_ANSWER = 60.0
_PAUSES = (0.1, 0.3, 1.0, 2.0, 3.0)
_REFUSED = 30.0
_STEADY = 20.0
_LONGEST_PAUSE = 3.0
_RENEW = 3600.0
_PATIENCE = 60.0
"""Seconds without a byte of an image after which another node may have more luck."""
_PATIENCE_TO_STORE = 240.0
"""A controller that was killed while it took a snapshot is waited for: its lease of the image has to run out."""
_PIECE = 1 << 20
_LOST = (OSError, TimeoutError)  # Broken is an OSError

_json = msgspec.json.Encoder()
_TASK = msgspec.json.Decoder(Task)
_STATE = msgspec.json.Decoder(NodeNetwork)


class RemoteLink:
    """A `NodeLink` over the cluster port. `run` keeps the connection until cancelled."""

    def __init__(
        self, identity: Identity, address: str, version: str, dialling: asyncio.Semaphore | None = None
    ) -> None:
        """`dialling` is shared by the nodes of a process, so that each of very many is greeted in time."""
        self.node = identity.node
        self.agent: Agent | None = None
        self.address = address
        self.identity = identity
        self._version = version
        self._dialling = dialling or asyncio.Semaphore(1)
        self._instance = secrets.token_hex(8)
        self._channel: Channel | None = None
        self._there = asyncio.Event()
        self._tasks: asyncio.Queue[Task] = asyncio.Queue()
        self._network = asyncio.Event()
        self._server = ""
        self._streams: set[asyncio.Task[None]] = set()
        self._facts: HypervisorFacts | None = None
        self._told = 0.0
        self._complaint = ""

    # -- the connection

    async def run(self) -> None:
        """Connect, and connect again, until cancelled.

        Raises NodeFault when the node is refused before it was ever connected: then somebody is there to read it."""
        servers: list[str] = []
        server = ""
        began, ever = time.monotonic(), False
        failures = refusals = 0
        while True:
            if not servers:
                servers = self._order(server)
            server, tried = servers.pop(), time.monotonic()
            try:
                await self._once(server)
                # One that ended at once counts as a failure, so that nobody is dialled without a pause.
                failures = 0 if time.monotonic() - tried > _STEADY else failures + 1
                refusals, ever, self._complaint = 0, True, ""
                servers = self._order(server)
            except (Forbidden, BadRequest, Conflict) as refusal:
                for_good = not isinstance(refusal, Conflict) or time.monotonic() - began > _STEADY
                if for_good and not ever:
                    raise NodeFault(str(refusal)) from None
                refusals += 1
                self._complain(logging.ERROR, f"controller {server} refuses this node: {refusal}")
            except Exception as error:
                failures += 1
                self._complain(logging.WARNING, f"controller {server} cannot be reached: {_text(error)}")
            await asyncio.sleep(self._pause(failures, refusals))

    def _order(self, lost: str) -> list[str]:
        """The controllers, the first to be tried at the end. The one that was lost may be cut off: it comes last."""
        others = [server for server in self.identity.servers if server != lost]
        random.shuffle(others)
        return [server for server in self.identity.servers if server == lost] + others

    def _pause(self, failures: int, refusals: int) -> float:
        """Seconds until the next try: all controllers are tried at once, then more and more seldom."""
        if refusals:
            return min(_REFUSED, 2.0 * refusals)
        rounds = failures // max(1, len(self.identity.servers))
        return _PAUSES[min(rounds, len(_PAUSES) - 1)] * (0.5 + random.random())

    def _complain(self, level: int, text: str) -> None:
        if text != self._complaint:
            _LOG.log(level, "node %s: %s", self.node, text)
        self._complaint = text

    async def _once(self, server: str) -> None:
        """One connection, to its end. Raises why there was none."""
        async with self._dialling:
            reader, writer = await self._greeted(server)
        line = Channel(reader, writer, self._answer, self._told_us)
        self._server, self._channel, self._facts = server, line, None
        self._there.set()
        self._network.set()
        _LOG.info("node %s is connected to controller %s", self.node, server)
        renewing = asyncio.create_task(self._renew(line))
        try:
            await line.run()
            _LOG.warning("node %s: the connection to controller %s has ended", self.node, server)
        finally:
            self._channel = None
            self._there.clear()
            line.close()
            renewing.cancel()

    async def _greeted(self, server: str) -> Streams:
        """A connection on which the controller knows this node. Raises what it refuses with."""
        reader, writer = await dial(self.identity, server)
        try:
            local = writer.get_extra_info("sockname")[0]
            known = {"address": self.address or local, "version": self._version, "instance": self._instance}
            await frames.write(writer, Hello("node", known))
            said = channel.unpack(await greeting.reply(reader, _GREETING))
            self.identity.remember(said["controllers"])
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _renew(self, line: Channel) -> None:
        """Have a new certificate in time, however long the connection lasts."""
        while True:
            request = self.identity.renewal()
            if request is not None:
                try:
                    self.identity.keep_certificate((await line.call("renew", request.encode())).decode())
                except Exception as error:
                    _LOG.warning("node %s: its certificate cannot be renewed now: %s", self.node, _text(error))
            await asyncio.sleep(_RENEW)

    def _told_us(self, topic: str, body: bytes) -> None:
        if topic == "task":
            (now,) = TIME.unpack_from(body)
            task = _TASK.decode(body[TIME.size :])
            if task.deadline is not None:  # by the controller's clock, which may be another than this machine's
                task = msgspec.structs.replace(task, deadline=task.deadline - now + time.time())
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

    async def _carry(self, number: str, near: Streams) -> None:
        try:
            reader, writer = await self._open("stream", id=number)
            try:
                await greeting.reply(reader, _GREETING)
                await splice(near, (reader, writer))
            finally:
                writer.close()
        except (*_LOST, Problem) as error:
            _LOG.warning("a stream could not be opened: %s", _text(error))
        finally:
            near[1].close()

    async def _open(self, purpose: str, **arguments: Any) -> Streams:
        """Another connection to the same controller, for bulk. Raises Unavailable when there is none for long."""
        try:
            async with asyncio.timeout(_GREETING):
                await self._there.wait()
        except TimeoutError:
            raise Unavailable("no controller is connected") from None
        reader, writer = await dial(self.identity, self._server)
        try:
            await frames.write(writer, Hello(purpose, arguments))
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _call(self, method: str, body: bytes) -> bytes:
        """Ask the controller. Raises Broken when none is connected, or the connection ends first."""
        line = self._channel
        if line is None:
            raise Broken("no controller is connected")
        async with asyncio.timeout(_ANSWER):
            return await line.call(method, body)

    async def _insist(self, method: str, body: bytes) -> None:
        """Ask until a controller has taken it, however long none is there, or its database is away."""
        pause = 0.2
        while True:
            await self._there.wait()
            try:
                await self._call(method, body)
                return
            except (*_LOST, Unavailable) as error:
                _LOG.warning("node %s: '%s' was not taken yet: %s", self.node, method, _text(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    # -- what an agent says

    async def register(self, facts: HypervisorFacts) -> None:
        """Waits for a controller as long as it takes: a node that starts first is no error."""
        await self._insist("register", _json.encode(facts))

    async def heartbeat(self, facts: HypervisorFacts | None = None) -> None:
        """What the node is like is told when that has changed, and now and then."""
        line, now = self._channel, time.monotonic()
        if line is None:
            raise Broken("no controller is connected")
        if facts is None or (facts == self._facts and now - self._told < FACTS_EVERY):
            return line.push("heartbeat")
        await self._call("heartbeat", _json.encode(facts))
        self._facts, self._told = facts, now
        return None

    async def tasks(self) -> AsyncIterator[Task]:
        """As they come. After a connection anew, those that are open come again: the agent knows which it has."""
        while True:
            yield await self._tasks.get()

    async def finish(self, result: TaskResult) -> None:
        """Told until a controller has taken it; twice does no harm."""
        await self._insist("finish", _json.encode(result))

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
        """Goes on where it was when the connection, or the controller, ends. Raises NodeFault."""
        there, until = 0, time.monotonic() + _PATIENCE
        while True:
            try:
                async for piece in self._image_from(image_id, there):
                    there, until = there + len(piece), time.monotonic() + _PATIENCE
                    yield piece
                return
            except (*_LOST, Unavailable) as error:
                if time.monotonic() > until:
                    raise NodeFault(f"image {image_id} could not be fetched: {_text(error)}") from None
                _LOG.warning("image %s: %s; it goes on from byte %d", image_id, _text(error), there)
            except Problem as problem:
                raise NodeFault(f"image {image_id}: {problem}") from None
            await asyncio.sleep(1.0)

    async def _image_from(self, image_id: str, offset: int) -> AsyncIterator[bytes]:
        reader, writer = await self._open("image", image_id=image_id, offset=offset)
        try:
            async for piece in bulk.receive(reader):
                yield piece
        finally:
            writer.transport.abort()

    async def image_store(self, image_id: str, file: Path) -> None:
        """Sent again when the connection, or the controller, ends. Raises NodeFault when it is not taken."""
        until = time.monotonic() + _PATIENCE_TO_STORE
        while True:
            try:
                if await self._image_sent(image_id, file):
                    return
            except (*_LOST, Unavailable) as error:
                if time.monotonic() > until:
                    raise NodeFault(f"the snapshot cannot be stored: {_text(error)}") from None
                _LOG.warning("the snapshot %s was not stored: %s; once more", image_id, _text(error))
            except Problem as problem:
                raise NodeFault(f"the snapshot cannot be stored: {problem}") from None
            await asyncio.sleep(1.0)

    async def _image_sent(self, image_id: str, file: Path) -> bool:
        """Whether the image has the data now; else an earlier try has not been undone yet."""
        reader, writer = await self._open("store", image_id=image_id)
        try:
            answer = await greeting.reply(reader, _ANSWER)
            if answer != b"send":
                return answer == b"had"
            with await asyncio.to_thread(file.open, "rb") as handle:
                while piece := await asyncio.to_thread(handle.read, _PIECE):
                    async with asyncio.timeout(bulk.IDLE):
                        await frames.write(writer, Data(piece))
            await frames.write(writer, Data())
            await greeting.reply(reader, None)
            return True
        finally:
            writer.close()

    async def metadata(
        self, network_id: str, address: str, method: str, path: str, body: bytes
    ) -> tuple[int, str, bytes]:
        answer = await self._call("metadata", channel.pack([network_id, address, method, path, body]))
        status, media, data = channel.unpack(answer)
        return status, media, data


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
