"""What goes over a cluster connection: a length of four bytes, then one msgpack frame.

The first frame is a `Hello`, which says what the connection is for. A connection of a node or a controller then carries
calls and answers both ways; bulk (images, screens) has connections of its own, so that nothing waits behind it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

LARGEST = 64 << 20
LARGEST_HELLO = 64 << 10
BUFFER = 256 << 10

PROTOCOL = 1


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Opens a connection. `purpose`: ca, join, node, image, store, stream, peer, peer-image, control."""

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
    """The frame as it goes over the wire."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4, "big") + body


async def read(reader: asyncio.StreamReader, largest: int = LARGEST) -> Frame:
    """The next frame. Raises Broken at the end, and where it is none or too large."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > largest:
            raise Broken(f"a frame of {size} bytes was announced; {largest} is the most")
        frame: Frame = _decoder.decode(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError, OSError) as error:
        raise Broken(f"the connection has ended: {error}") from None
    except msgspec.MsgspecError as error:
        raise Broken(f"no frame of this protocol: {error}") from None
    return frame


async def write(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Send one frame; waits when the other side is slow. Raises Broken."""
    try:
        writer.write(encode(frame))
        await writer.drain()
    except (ConnectionError, OSError, RuntimeError) as error:
        raise Broken(f"the connection has ended: {error}") from None
