"""Work in threads that uses what its caller owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(function: Callable[..., T], *arguments: object) -> T:
    """Run something short in a thread. Who is cancelled waits for it first: what comes next, as the removal of files
    that it writes, must not meet a thread that is still at work. Raises what the function raises."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
