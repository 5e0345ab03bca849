"""Many nodes: servers on 1, 10, 100 and 1,000 fake nodes in a few agent processes, and what a thousand cost at rest."""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks.client import Http, drain
from benchmarks.compute import Servers
from benchmarks.lab import Cluster, cluster, cpu, pss
from benchmarks.promises import Measured

_REST = 60.0
_WARM = 16
_SERVERS = {1: 300, 10: 300, 100: 1_000, 1_000: 10_000}


async def measure() -> list[Measured]:
    """Medians one after another and rates of sixteen clients by the number of nodes; idle CPU with a thousand."""
    rows: list[Measured] = []
    medians: dict[int, float] = {}
    for nodes, servers in _SERVERS.items():
        async with cluster(nodes) as cloud:
            idle = await _idle(cloud) if nodes == 1_000 else None
            made = Servers(cloud)
            await made.prepare()
            await drain([made.boot] * _WARM)
            first = await _median(made)
            creates = await drain([made.boot] * (servers - _WARM - 20))
            medians[nodes] = statistics.median((first, await _median(made))) if nodes < 1_000 else await _median(made)
            memory = pss(cloud.pid)
            rows.append(Measured(
                f"creates to ACTIVE, {nodes:,} nodes, 16 clients, {servers:,} servers", creates, "/s", 20.0, True,
                f"median {medians[nodes]:.0f} ms; nodes connected after {cloud.joined:.1f} s; server {memory:.0f} MB",
            ))
            if idle is not None:
                rows.append(Measured(
                    "idle CPU of the server, 1,000 nodes heartbeating", idle, "% of a core", 25.0,
                    note=f"over {_REST:.0f} s",
                ))
    ratio = medians[1_000] / medians[10]
    rows.append(Measured(
        "median create to ACTIVE at 1,000 nodes and 10,000 servers, of that at 10", ratio, "", 1.5,
        note=", ".join(f"{nodes:,} nodes: {taken:.0f} ms" for nodes, taken in medians.items()),
    ))
    return rows


async def _median(made: Servers) -> float:
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        await made.boot()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


async def _idle(cloud: Cluster) -> float:
    await asyncio.sleep(15.0)
    before = cpu(cloud.pid)
    await asyncio.sleep(_REST)
    taken = (cpu(cloud.pid) - before) / _REST * 100
    cloud.http = Http(cloud.base)  # the controller has ended connections that rested so long
    return taken
