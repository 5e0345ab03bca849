"""What goes over a cluster connection: a length of four bytes, then one msgpack frame.

The first frame is a `Hello`, which says what the connection is for. A connection of a node or a controller then carries
calls and answers both ways; bulk (images, screens) has connections of its own, so that nothing waits behind it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import msgspec

LARGEST = 64 << 20
LARGEST_HELLO = 64 << 10
BUFFER = 256 << 10

PROTOCOL = 1

TIME = struct.Struct("!d")
"""The controller's clock, before each task that is pushed: the task's deadline is by that clock."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Opens a connection. `purpose`: ca, join, node, image, store, stream, peer, peer-image, peer-stream, control."""

    purpose: str
    arguments: dict[str, Any] = {}
    protocol: int = PROTOCOL


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Ask the other side; `body` is JSON or msgpack as the method says."""

    id: int
    method: str
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    id: int
    body: bytes = b""


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """A call, or the connection (id 0), was refused. `kind` names the error (`errors.py`), `text` is for people."""

    id: int
    kind: str
    text: str


class Push(msgspec.Struct, frozen=True, tag="push"):
    """Told without being asked, and not answered."""

    topic: str
    body: bytes = b""


class Data(msgspec.Struct, frozen=True, tag="data"):
    """A piece of a stream; an empty one ends it."""

    data: bytes = b""


Frame = Hello | Call | Reply | Failure | Push | Data

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


class Broken(ConnectionError):
    """The connection has ended, or the other side does not keep to the protocol."""


def encode(frame: Frame) -> bytes:
    """The frame as it goes over the wire. Raises ValueError for one that the other side would not take."""
    body = _encoder.encode(frame)
    if len(body) > LARGEST:
        raise ValueError(f"{len(body)} bytes are too many for one frame; {LARGEST} is the most")
    return len(body).to_bytes(4, "big") + body


async def read(reader: asyncio.StreamReader, largest: int = LARGEST) -> Frame:
    """The next frame. Raises Broken at the end, and where it is none or too large."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        body = await reader.readexactly(size) if size <= largest else None
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Broken(f"the connection has ended: {error}") from None
    if body is None:
        raise Broken(f"a frame of {size} bytes was announced; {largest} is the most")
    try:
        frame: Frame = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Broken(f"no frame of this protocol: {error}") from None
    return frame


async def write(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Send one frame; waits when the other side is slow. Raises Broken, ValueError."""
    data = encode(frame)
    try:
        writer.write(data)
        await writer.drain()
    except (OSError, RuntimeError) as error:
        raise Broken(f"the connection has ended: {error}") from None


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the kernel end the connection when the other machine is gone without a word (20 to 25 s)."""
    sock = writer.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3),
        (socket.TCP_USER_TIMEOUT, 20_000), (socket.TCP_NODELAY, 1),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
