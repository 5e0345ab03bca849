"""A stream of data frames on a connection of its own: an image's bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pileus.cluster import frames
from pileus.cluster.errors import as_failure, from_failure
from pileus.cluster.frames import Broken, Data, Failure

IDLE = 60.0
"""Seconds without a byte after which the other side counts as gone."""


async def send(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes], offset: int = 0) -> None:
    """Send what comes after the first `offset` bytes. An error before its end is told in its place.

    Raises Broken, TimeoutError when the other side takes nothing for `IDLE` seconds."""
    try:
        async for piece in pieces:
            if offset >= len(piece):
                offset -= len(piece)
                continue
            async with asyncio.timeout(IDLE):
                await frames.write(writer, Data(bytes(piece[offset:])))
            offset = 0
    except (Broken, TimeoutError):
        raise
    except Exception as error:
        await frames.write(writer, as_failure(0, "sending an image", error))
        return
    await frames.write(writer, Data())


async def receive(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a stream. Raises Broken when it ends before its end, and what the sender tells."""
    while True:
        try:
            async with asyncio.timeout(IDLE):
                frame = await frames.read(reader)
        except TimeoutError:
            raise Broken(f"nothing came for {IDLE:.0f} s") from None
        if isinstance(frame, Failure):
            raise from_failure(frame)
        if not isinstance(frame, Data):
            raise Broken("something else than data was sent")
        if not frame.data:
            return
        yield frame.data
