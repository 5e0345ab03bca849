"""Bytes both ways, as of a guest's screen."""

from __future__ import annotations

import asyncio
import contextlib

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_PIECE = 256 << 10


async def splice(one: Streams, other: Streams) -> None:
    """Carry bytes both ways until either side ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                writer.write(data)
                await writer.drain()

    ways = [asyncio.create_task(carry(one[0], other[1])), asyncio.create_task(carry(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (one, other):
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()
