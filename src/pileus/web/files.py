"""A file as the body of a response: by the kernel alone where that can be, else in pieces through this process."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

from pileus.threads import to_its_end

FILE = "pileus.file"
"""The ASGI extension of `web/protocol.py`: after the response's start, `await` it with a file's descriptor, where the
body begins in it and its length, both in bytes, and end the response with an empty body. Like `send` it is silent when
the connection is lost; it raises OSError when the file ends before the body does."""

_PIECE = 1 << 20
_MOST = 16 << 20  # what one call gives to the kernel; it sends what there is room for

Send = Callable[[dict[str, Any]], Awaitable[None]]
Kernel = Callable[[int, int, int], Awaitable[None]]


async def send_body(send: Send, kernel: Kernel | None, handle: int, at: int, length: int) -> None:
    """The body, after the response's start; `kernel` is the extension FILE. Raises as it does."""
    if kernel is not None and length:
        await kernel(handle, at, length)
    elif length:
        await _in_pieces(send, handle, at, length)
    await send({"type": "http.response.body", "body": b""})


async def by_kernel(transport: asyncio.WriteTransport, handle: int, at: int, length: int) -> None:
    """Send a part of a file over a connection that has nothing else to write.

    Raises ConnectionError when the connection is lost or closed, OSError when the file ends too early."""
    if transport.is_closing():
        raise _lost()
    # A descriptor of its own: the event loop does not let others wait for the transport's.
    sock = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while length:
            try:
                # In a thread, as the file may have to come from a disk.
                sent = await to_its_end(os.sendfile, sock, handle, at, min(length, _MOST))
            except BlockingIOError:
                await _writable(sock)
            else:
                if not sent:
                    raise _short()
                at, length = at + sent, length - sent
            if length and transport.is_closing():
                raise _lost()
    finally:
        os.close(sock)


async def _writable(sock: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _in_pieces(send: Send, handle: int, at: int, left: int) -> None:
    loop = asyncio.get_running_loop()

    def read() -> asyncio.Future[bytes]:
        return loop.run_in_executor(None, os.pread, handle, min(left, _PIECE), at)

    reading = read()
    try:
        while data := await asyncio.shield(reading):
            at, left = at + len(data), left - len(data)
            if left:
                reading = read()  # while this piece is sent
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if not left:
                return
        raise _short()
    finally:
        await asyncio.wait([reading])  # it reads from the handle


def _short() -> OSError:
    return OSError(errno.EIO, "the file is shorter than it was when the response began")


def _lost() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the connection was closed before the whole file was sent")
