"""Ready time, and what a cloud at rest takes: memory and CPU."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics

from benchmarks.lab import Lab, cpu, lab, pss, rss
from benchmarks.promises import Measured

_LISTS = ("/identity/v3/projects", "/image/v2/images", "/compute/v2.1/servers/detail", "/network/v2.0/networks",
          "/placement/resource_providers")
_SETTLE, _REST = 6.0, 20.0


async def _used(cloud: Lab) -> None:
    """Every service has been asked once."""
    await cloud.login()
    for path in _LISTS:
        await cloud.http.ok("GET", path, cloud.token)


async def _at_rest(hypervisor: str, **options: str) -> tuple[float, float, str]:
    """PSS in MB, percent of one core of a used cloud over twenty seconds of rest, and RSS as a note."""
    with lab(hypervisor, bcrypt_rounds="12", **options) as cloud:
        await asyncio.to_thread(cloud.up)
        await _used(cloud)
        await asyncio.sleep(_SETTLE)
        before = cpu(cloud.pid)
        await asyncio.sleep(_REST)
        taken = cpu(cloud.pid) - before
        return pss(cloud.pid), taken / _REST * 100, f"RSS {rss(cloud.pid):.0f} MB"


async def measure() -> list[Measured]:
    """First start, later starts; memory and CPU at rest of a cloud that has been asked once."""
    first, later = [], []
    for _ in range(3):
        with lab(bcrypt_rounds="12") as cloud:
            first.append(await asyncio.to_thread(cloud.up))
            await asyncio.to_thread(cloud.down)
            later.append(await asyncio.to_thread(cloud.up))
            await _used(cloud)
    memory, rest, note = await _at_rest("fake")
    many_memory, many_rest, many_note = await _at_rest("fake", fake_nodes="10")
    rows = [
        Measured("ready, first start with migrations", statistics.median(first), "s", 3.0),
        Measured("ready, later starts", statistics.median(later), "s", 1.5),
        Measured("idle memory of the whole cloud (PSS), fake hypervisor", memory, "MB", 120.0, note=note),
        Measured("idle memory of the whole cloud (PSS), 10 fake nodes", many_memory, "MB", 120.0, note=many_note),
        Measured("CPU at rest, of one core", rest, "%", 1.0),
        Measured("CPU at rest, 10 fake nodes, of one core", many_rest, "%", 3.0),
    ]
    if os.geteuid() == 0 and shutil.which("qemu-system-x86_64"):
        memory, rest, note = await _at_rest("qemu", namespace_prefix="bench", accelerator="tcg")
        name = "idle memory of the whole cloud (PSS), qemu, agent included"
        rows.append(Measured(name, memory, "MB", 120.0, note=note))
        rows.append(Measured("CPU at rest, qemu, of one core", rest, "%", 1.0))
    return rows
