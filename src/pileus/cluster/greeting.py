"""Opening a connection to a controller's cluster port, and what it answers to a `Hello`."""

from __future__ import annotations

import asyncio
import ssl

from pileus.cluster import certificates, frames
from pileus.cluster.errors import from_failure
from pileus.cluster.frames import Broken, Failure, Reply
from pileus.cluster.streams import Streams


async def dial(address: str, context: ssl.SSLContext, seconds: float) -> Streams:
    """A TLS connection to a controller at HOST:PORT. Raises OSError (TimeoutError is one)."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(
            host.strip("[]"), int(port), ssl=context, server_hostname=certificates.SERVER_NAME, limit=frames.BUFFER
        )
    frames.keep_alive(writer)
    return reader, writer


async def reply(reader: asyncio.StreamReader, seconds: float | None, largest: int = frames.LARGEST) -> bytes:
    """The answer to a greeting. Raises what it says, Broken, TimeoutError."""
    async with asyncio.timeout(seconds):
        frame = await frames.read(reader, largest)
    if isinstance(frame, Failure):
        raise from_failure(frame)
    if not isinstance(frame, Reply):
        raise Broken("an answer was expected")
    return frame.body
