"""The HTTP protocol of every port: uvicorn's, but for bodies, which cost it several copies of each byte.

A body comes to the application as ASGI's messages, or, when the application asks for it (`body.STRAIGHT`), into the
application's own memory: straight from the connection, where the body's length is known, else from the parser. A file
goes out by the kernel (`files.FILE`) where the connection is not encrypted. A response that is whole is written in one
go (`WHOLE`): uvicorn looks at each of its headers again, and writes twice.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from pileus.web import files
from pileus.web.body import STRAIGHT
from pileus.web.call import WHOLE

_BREAKS = re.compile(rb"[\r\n\0]")
_WAKE = 256 << 10
"""Bytes for which a sleeping event loop is woken, where so many are still to come: each time costs as much as hashing
some KiB."""
_SCRATCH = 256 << 10
_SHORT = 64 << 10
"""Bytes that cost less to copy than to write by themselves."""


class _Pieces(list[bytes]):
    """What has come of a body. Uvicorn reads it by bytes(), and puts a bytearray in its place."""

    size = 0

    def __bytes__(self) -> bytes:
        return b"".join(self)  # which does not copy a piece that is alone


class Protocol(HttpToolsProtocol):
    """Uvicorn's, but that a body's pieces are not gathered in a bytearray, and then copied for the application."""

    reader: Reader | None = None  # has the connection now

    def on_headers_complete(self) -> None:
        """Called by the parser before a body; the application is started here, and runs later."""
        super().on_headers_complete()
        extensions: dict[str, Any] = {STRAIGHT: self.straight, WHOLE: partial(self.send_whole, self.cycle)}
        if self.scheme == "http":
            extensions[files.FILE] = partial(self.send_file, self.cycle)
        cast(dict[str, Any], self.scope)["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of a body."""
        if (self.parser.should_upgrade() and self._should_upgrade()) or self.cycle.response_complete:
            return
        if isinstance(self.reader, InChunks):
            return self.reader.take(body)
        waiting = cast(object, self.cycle.body)
        if not isinstance(waiting, _Pieces):
            waiting = _Pieces()
            self.cycle.body = cast(bytearray, waiting)
        waiting.append(body)
        waiting.size += len(body)
        if waiting.size > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Called by the parser, and by a reader past it, when a body has ended."""
        if self.reader is not None:
            self.reader.body_ended()
            self.reader = None
            self.transport.set_protocol(self)
            self.flow.resume_reading()
        super().on_message_complete()

    def straight(self, left: int | None) -> Reader:
        """The rest of the body that comes now: the last `left` bytes of it, None for one in chunks."""
        self.flow.pause_reading()
        self.reader = InChunks(self) if left is None else PastParser(self, left)
        self.transport.set_protocol(self.reader)
        return self.reader

    def send_whole(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """As WHOLE has it, for the request of `cycle`; the next may have come already."""
        if self.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        every = (*cycle.default_headers, *headers)
        if _BREAKS.search(b"".join([part for header in every for part in header])):
            return False
        lines = [name + b": " + value for name, value in every]
        if not cycle.keep_alive:
            lines.append(b"connection: close")
        head = STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n"
        if len(body) < _SHORT:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    async def send_file(self, cycle: RequestResponseCycle, handle: int, at: int, length: int) -> None:
        """As files.FILE has it, for the request of `cycle`; the next may have come already."""
        cycle.expected_content_length = 0  # uvicorn counts what goes through itself
        if cycle.disconnected or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(0)
        await self.flow.drain()  # until nothing of the head waits
        try:
            await files.by_kernel(self.transport, handle, at, length)
        except ConnectionError:
            cycle.disconnected = True
            self.transport.close()
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits()

    def past_parser_ended(self) -> None:
        """What went past the parser has come; to a new one, the next bytes are another request's."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.on_message_complete()


class Reader(asyncio.BufferedProtocol):
    """Has the connection of an `http` protocol until a body has ended, and gives it to who reads.

    While nobody reads nothing is taken from the connection; after the response the rest is thrown away."""

    def __init__(self, http: Protocol) -> None:
        self.http = http
        self.buffer = memoryview(b"")
        self.at = 0
        self.ended = False
        self._full: asyncio.Future[None] | None = None
        self._scratch = memoryview(b"")

    @property
    def reading(self) -> bool:
        """Whether what comes is to go into the buffer."""
        return self._full is not None

    async def read_into(self, buffer: memoryview) -> int:
        """As Source has it. Raises ConnectionError when the connection is lost."""
        self.buffer, self.at = buffer, 0
        self.begin()
        if self.ended or self.at == len(self.buffer):
            return self.at
        if self.http.transport.is_closing():
            raise ConnectionResetError
        self._full = self.http.loop.create_future()
        self.http.flow.resume_reading()
        try:
            await self._full
        finally:
            self._full = None
            if not self.ended and not self.http.transport.is_closing():
                self.http.flow.pause_reading()  # also where the reader was cancelled
        return self.at

    def begin(self) -> None:
        """Something is about to be read into the buffer."""

    def filled(self) -> None:
        """Tell who reads, when there is no more room."""
        if self._full is not None and self.at == len(self.buffer):
            self.http.flow.pause_reading()
            if not self._full.done():
                self._full.set_result(None)

    def body_ended(self) -> None:
        """There is no more."""
        self.ended = True
        if self._full is not None and not self._full.done():
            self._full.set_result(None)

    def scratch(self) -> memoryview:
        """Room for what does not go into the buffer as it comes."""
        if not self._scratch:
            self._scratch = memoryview(bytearray(_SCRATCH))
        return self._scratch

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller went away, or the response was an error and is sent."""
        self.http.connection_lost(exc)
        if self._full is not None and not self._full.done():
            self._full.set_exception(ConnectionResetError())

    def eof_received(self) -> None:
        """As for the HTTP protocol."""
        return self.http.eof_received()

    def pause_writing(self) -> None:
        """As for the HTTP protocol."""
        self.http.pause_writing()

    def resume_writing(self) -> None:
        """As for the HTTP protocol."""
        self.http.resume_writing()


class PastParser(Reader):
    """A body of which `left` bytes are still to come: from the connection right into the buffer."""

    def __init__(self, http: Protocol, left: int) -> None:
        super().__init__(http)
        self._left = left
        self._mark = 1
        self._socket: socket.socket | None = None
        if http.transport.get_extra_info("sslcontext") is None:
            self._socket = http.transport.get_extra_info("socket")

    def begin(self) -> None:
        """No further than the body goes."""
        self.buffer = self.buffer[: self._left]
        if not self.ended:
            self._wake_at(min(_WAKE, len(self.buffer)))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the connection's next bytes are to go."""
        return self.buffer[self.at :] if self.reading else self.scratch()[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        self._left -= nbytes
        self._wake_at(min(self._mark, max(self._left, 1)))
        if self.reading:
            self.at += nbytes
            self.filled()
        if not self._left:
            self.http.past_parser_ended()

    def _wake_at(self, size: int) -> None:
        """Let the event loop sleep until so many bytes can be read."""
        if self._socket is not None and size != self._mark and not self.http.transport.is_closing():
            self._mark = size
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


class InChunks(Reader):
    """A body in chunks: the parser finds where its bytes are, and they are copied from there into the buffer."""

    def __init__(self, http: Protocol) -> None:
        super().__init__(http)
        self._over: deque[memoryview] = deque()  # what was read and did not fit

    def begin(self) -> None:
        """First what is here already."""
        waiting, self._over = self._over, deque()
        for piece in waiting:
            self.take(piece)

    def take(self, body: bytes | memoryview) -> None:
        """The parser's next piece of the body."""
        size = min(len(body), len(self.buffer) - self.at)
        self.buffer[self.at : self.at + size] = body[:size]
        self.at += size
        if size < len(body):
            self._over.append(memoryview(body)[size:])
        self.filled()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the connection's next bytes are to go."""
        return self.scratch()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        self.http.data_received(cast(bytes, self.scratch()[:nbytes]))
