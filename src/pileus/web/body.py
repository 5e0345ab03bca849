"""Bytes that are read into buffers of the reader's own: the body of a request, above all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from pileus.web.errors import BadRequest, TooLarge

STRAIGHT = "pileus.straight"
"""The ASGI extension of `web/protocol.py`: a function that takes how many bytes of a body `receive` has not given yet,
None where only the body's end will tell, and returns a Source of them, which raises ConnectionError when the connection
is lost. `receive` gives none of them then."""


class Source(Protocol):
    """Bytes that come from somewhere."""

    async def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer; how many bytes are in it: fewer than it takes where the source ends, and only there."""


class Chunks:
    """What an iterator gives."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    async def read_into(self, buffer: memoryview) -> int:
        """As Source has it. Raises what the iterator raises."""
        at = 0
        while at < len(buffer):
            if not self._rest:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            at, self._rest = _move(self._rest, buffer, at)
        return at


class Body:
    """The body of a request: by ASGI's messages, and straight from the connection where that can be.

    `length` is what the request's head says of its length, or nothing; the body has at most `most` bytes."""

    def __init__(
        self, receive: Callable[[], Awaitable[dict[str, Any]]], straight: Callable[[int | None], Source] | None,
        length: str, most: int,
    ) -> None:
        self._receive = receive
        self._open = straight
        self._length = int(length) if length.isdecimal() else None
        self._most = most
        self._straight: Source | None = None
        self._rest = memoryview(b"")
        self._came = 0
        self._more = True

    async def read_into(self, buffer: memoryview) -> int:
        """As Source has it. Raises TooLarge, and BadRequest when the caller goes away."""
        at = 0
        while at < len(buffer) and (self._rest or self._more):
            if self._rest:
                at, self._rest = _move(self._rest, buffer, at)
            elif self._straight is not None:
                at += await self._read_straight(self._straight, buffer[at:])
            else:
                await self._next_message()
        return at

    async def _next_message(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _cut_off()
        self._rest = memoryview(message.get("body", b""))
        self._more = message.get("more_body", False)
        self._count(len(self._rest))
        if self._more and self._open is not None and self._came != self._length:
            self._straight = self._open(None if self._length is None else self._length - self._came)

    async def _read_straight(self, source: Source, buffer: memoryview) -> int:
        try:
            size = await source.read_into(buffer)
        except ConnectionError:
            raise _cut_off() from None
        self._count(size)
        self._more = size == len(buffer)
        return size

    def _count(self, size: int) -> None:
        self._came += size
        if self._came > self._most:
            raise TooLarge(f"The request's body is larger than {self._most} bytes, which is the most that is taken.")


def _move(source: memoryview, buffer: memoryview, at: int) -> tuple[int, memoryview]:
    size = min(len(source), len(buffer) - at)
    buffer[at : at + size] = source[:size]
    return at + size, source[size:]


def _cut_off() -> BadRequest:
    return BadRequest("The connection ended before the whole body had come.")
