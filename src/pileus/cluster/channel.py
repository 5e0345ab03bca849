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
"""Seconds between signs of life; after `SILENT` without one, a connection counts as dead."""
SILENT = 16.0
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
        self.closed = False

    async def run(self) -> None:
        """Read until the connection ends; then every call that waits fails with Broken."""
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        beat = asyncio.create_task(self._beat())
        try:
            while True:
                frame = await frames.read(self._reader)
                self._heard = loop.time()
                self._take(frame)
        except Broken:
            pass
        finally:
            beat.cancel()
            self.close()
            for task in self._doing:
                task.cancel()
            await asyncio.gather(*self._doing, beat, return_exceptions=True)
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.transport.abort()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ALIVE)
            if loop.time() - self._heard > SILENT:
                self._writer.transport.abort()
                return
            self.push(_PING)

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
                self._told(frame.topic, frame.body)
        else:
            raise Broken(f"{type(frame).__name__} has no place here")

    async def _do(self, call: Call) -> None:
        reply: Frame
        try:
            reply = Reply(call.id, await self._answer(call.method, call.body))
        except Exception as error:
            reply = as_failure(call.id, call.method, error)
        with contextlib.suppress(Broken):
            await frames.write(self._writer, reply)

    async def call(self, method: str, body: bytes = b"") -> bytes:
        """Ask and wait. Raises what the other side raised (errors.py), and Broken when the connection ends first."""
        if self.closed:
            raise Broken("the connection has ended")
        number = next(self._ids)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await frames.write(self._writer, Call(number, method, body))
            answer: bytes = await future
        finally:
            self._waiting.pop(number, None)
        return answer

    def push(self, topic: str, body: bytes = b"") -> None:
        """Tell without waiting. A connection that takes no more is ended: what it misses is told at the next."""
        if self.closed:
            return
        if self._writer.transport.get_write_buffer_size() > frames.LARGEST:
            self._writer.transport.abort()
            return
        with contextlib.suppress(ConnectionError, OSError, RuntimeError):
            self._writer.write(frames.encode(Push(topic, body)))

    def close(self) -> None:
        """End the connection."""
        if self.closed:
            return
        self.closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Broken("the connection has ended"))
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


def pack(value: Any) -> bytes:
    """A question or an answer, whose bytes stay bytes."""
    return msgspec.msgpack.encode(value)


def unpack(body: bytes) -> Any:
    """What `pack` has packed; structs come back as dicts."""
    return msgspec.msgpack.decode(body)
