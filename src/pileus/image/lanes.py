"""Several kinds of work on the same blocks, each in a thread of its own and in order, none waiting for the event loop.

A lane is one kind of work: a queue, and at most one thread that empties it. A block's ticket is told to the event loop
once, when all lanes have done the block, so that a block costs the loop one call and no coroutine of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

Work = Callable[[memoryview], object]

_TURN = 16
"""Blocks after which a lane lets others of the pool have its thread."""


class Ticket:
    """One block on its way through all lanes; `done` is set on the event loop's thread when it is through."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lanes: int) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._left = lanes
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def through(self, error: BaseException | None) -> None:
        """One lane has ended with the block; from any thread."""
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            if self._left:
                return
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self.done.done():
            return
        if self._error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(self._error)


class _Lane:
    """One kind of work. After it failed once it only passes that on."""

    def __init__(self, threads: Executor, work: Work) -> None:
        self._threads, self._work = threads, work
        self._waiting: deque[tuple[memoryview, Ticket]] = deque()
        self._lock = threading.Lock()
        self._active = False
        self._error: BaseException | None = None

    def put(self, block: memoryview, ticket: Ticket) -> None:
        with self._lock:
            self._waiting.append((block, ticket))
            if self._active:
                return
            self._active = True
        self._threads.submit(self._drain)

    def _drain(self) -> None:
        for _ in range(_TURN):
            with self._lock:
                if not self._waiting:
                    self._active = False
                    return
                block, ticket = self._waiting.popleft()
            if self._error is None:
                try:
                    self._work(block)
                except BaseException as error:
                    self._error = error
            ticket.through(self._error)
        self._threads.submit(self._drain)


class Lanes:
    """Blocks in order through every kind of work, at most `depth` of them at a time."""

    def __init__(self, threads: Executor, works: Sequence[Work], depth: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lanes = [_Lane(threads, work) for work in works]
        self._depth = depth
        self._going: deque[Ticket] = deque()

    async def put(self, block: memoryview) -> None:
        """Give a block to all lanes, and wait until fewer than `depth` are on their way. Raises what a work raised."""
        ticket = Ticket(self._loop, len(self._lanes))
        self._going.append(ticket)
        for lane in self._lanes:
            lane.put(block, ticket)
        while len(self._going) >= self._depth:
            await self._oldest()

    async def end(self) -> None:
        """Wait for all blocks. Raises what a work raised."""
        while self._going:
            await self._oldest()

    async def _oldest(self) -> None:
        await asyncio.shield(self._going[0].done)  # a cancelled upload must not leave the threads behind
        self._going.popleft()

    async def settle(self) -> None:
        """Wait until no thread has a block any more, whatever came of it, and though the caller is cancelled again."""
        cancelled = False
        while waiting := [ticket.done for ticket in self._going if not ticket.done.done()]:
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError:
                cancelled = True
        for ticket in self._going:
            ticket.done.exception()  # it is known: what failed first is what the caller raises
        self._going.clear()
        if cancelled:
            raise asyncio.CancelledError
