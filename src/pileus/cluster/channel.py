"""Calls both ways over one connection, many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pileus.cluster import frames
from pileus.cluster.errors import as_failure, from_failure
from pileus.cluster.frames import Broken, Call, Failure, Frame, Push, Reply

_LOG = logging.getLogger("pileus.cluster")

Answer = Callable[[str, bytes], Awaitable[bytes]]
Told = Callable[[str, bytes], None]

ALIVE = 5.0
"""Seconds after which a side that has said nothing says that it lives."""
SILENT = 15.0
"""Seconds without a word after which a connection counts as dead: a node has time to be heard by another controller
before it counts as down (`DEAD_AFTER` in pileus.node.contract)."""
AT_ONCE = 128
"""The other side's calls that are done at a time; the rest waits in its own buffers."""
MOST_BEHIND = 16 << 20
"""Bytes that wait for a slow reader before it counts as dead."""
_PING = "alive"


class Channel:
    """One end. `answer` does the other side's calls, `told` takes what it pushes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer, told: Told
    ) -> None:
        self._reader, self._writer = reader, writer
        self._answer, self._told = answer, told
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._doing: set[asyncio.Task[None]] = set()
        self._heard = 0.0
        self._said = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.closed = False

    async def run(self) -> None:
        """Read until the connection ends; then every call that waits fails with Broken."""
        self._heard = self._said = self._loop.time()
        self._beat = self._loop.call_later(ALIVE, self._live, self._heard + ALIVE)
        try:
            while not self.closed:
                frame = await frames.read(self._reader)
                self._heard = self._loop.time()
                if self.closed:
                    break  # what was on its way when this side has ended it does not count any more
                self._take(frame)
                while len(self._doing) >= AT_ONCE:
                    await asyncio.wait(self._doing, return_when=asyncio.FIRST_COMPLETED)
                    self._heard = self._loop.time()
        except Broken as error:
            _LOG.debug("a connection has ended: %s", error)
        finally:
            self.close()
            for task in self._doing:
                task.cancel()
            await asyncio.gather(*self._doing, return_exceptions=True)

    def _live(self, due: float) -> None:
        """Say that this side lives, unless it has said something lately; end a connection that is silent."""
        now = self._loop.time()
        if now - due > ALIVE:
            self._heard = now  # this very process stood still: what the other side said is still to be read
        if now - self._heard >= SILENT:
            _LOG.warning("a connection was silent for %.0f s, and is ended", now - self._heard)
            return self.close()
        if now - self._said >= ALIVE:
            self.push(_PING)
        due = max(min(self._said + ALIVE, self._heard + SILENT), now + ALIVE / 100)
        self._beat = self._loop.call_at(due, self._live, due)
        return None

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Call):
            task = asyncio.create_task(self._do(frame))
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)
        elif isinstance(frame, Reply | Failure):
            waiting = self._waiting.pop(frame.id, None)
            if waiting is not None and not waiting.done():
                if isinstance(frame, Reply):
                    waiting.set_result(frame.body)
                else:
                    waiting.set_exception(from_failure(frame))
        elif isinstance(frame, Push):
            if frame.topic != _PING:
                self._hear(frame)
        else:
            raise Broken(f"{type(frame).__name__} has no place here")

    def _hear(self, frame: Push) -> None:
        try:
            self._told(frame.topic, frame.body)
        except Exception:
            _LOG.exception("what was told about '%s' could not be taken", frame.topic)

    async def _do(self, call: Call) -> None:
        reply: Frame
        try:
            reply = Reply(call.id, b"" if call.method == _PING else await self._answer(call.method, call.body))
            if len(reply.body) > frames.LARGEST // 2:
                raise ValueError(f"the answer has {len(reply.body)} bytes")
        except Exception as error:
            reply = as_failure(call.id, call.method, error)
        with contextlib.suppress(Broken):
            await self._write(reply)

    async def _write(self, frame: Frame) -> None:
        if self.closed:
            raise Broken("the connection has ended")
        self._said = self._loop.time()
        await frames.write(self._writer, frame)

    async def call(self, method: str, body: bytes = b"") -> bytes:
        """Ask and wait. Raises what the other side raised (errors.py), and Broken when the connection ends first."""
        number = next(self._ids)
        future = self._loop.create_future()
        self._waiting[number] = future
        try:
            await self._write(Call(number, method, body))
            answer: bytes = await future
        finally:
            self._waiting.pop(number, None)
            future.cancel()
        return answer

    async def answers(self, seconds: float) -> bool:
        """Whether the other side says something within so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.call(_PING)
        except (Broken, TimeoutError):
            return False
        return True

    def push(self, topic: str, body: bytes = b"") -> None:
        """Tell without waiting. A connection that takes no more is ended: what it misses is told at the next."""
        if self.closed:
            return
        if self._writer.transport.get_write_buffer_size() > MOST_BEHIND:
            _LOG.warning("a connection takes nothing any more, and is ended")
            return self.close()
        self._said = self._loop.time()
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(frames.encode(Push(topic, body)))

    def close(self) -> None:
        """End the connection, at once: what the other side has sent and was not read yet does not count."""
        if self.closed:
            return
        self.closed = True
        if self._beat is not None:
            self._beat.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Broken("the connection has ended"))
                future.exception()  # who was still sending has another error, and does not look at this one
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.transport.abort()


def pack(value: Any) -> bytes:
    """A question or an answer, whose bytes stay bytes."""
    return msgspec.msgpack.encode(value)


def unpack(body: bytes) -> Any:
    """What `pack` has packed; structs come back as dicts."""
    return msgspec.msgpack.decode(body)
