"""Ready time and idle memory."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.lab import lab, pss
from benchmarks.promises import Measured


async def measure() -> list[Measured]:
    """First start, later starts, and the memory of a cloud that has been asked once and rests."""
    first, later, memory = [], [], []
    for _ in range(3):
        with lab(bcrypt_rounds="12") as cloud:
            first.append(await asyncio.to_thread(cloud.up))
            await asyncio.to_thread(cloud.down)
            later.append(await asyncio.to_thread(cloud.up))
            await cloud.login()
            for path in ("/identity/v3/projects", "/image/v2/images", "/compute/v2.1/servers/detail",
                         "/network/v2.0/networks", "/placement/resource_providers"):
                await cloud.http.ok("GET", path, cloud.token)
            await asyncio.sleep(2)
            memory.append(pss(cloud.pid))
    return [
        Measured("ready, first start with migrations", statistics.median(first), "s", 3.0),
        Measured("ready, later starts", statistics.median(later), "s", 1.5),
        Measured("idle memory of the whole cloud (PSS), fake hypervisor", statistics.median(memory), "MB", 120.0),
    ]
