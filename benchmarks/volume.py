"""Volumes on fake nodes: what the control plane takes to make, attach, list and delete them."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from benchmarks.client import drain, median
from benchmarks.lab import Lab, running
from benchmarks.promises import Measured

_MANY = 1000


async def measure() -> list[Measured]:
    """One after another, then a thousand with 16 clients, their list, and their end."""
    async with running(fake_nodes="10") as cloud:
        ask, token = cloud.http.ok, cloud.token
        base = f"/volume/v3/{cloud.project_id}"
        quota = {"quota_set": {"volumes": -1, "gigabytes": -1}}
        await ask("PUT", f"{base}/os-quota-sets/{cloud.project_id}", token, quota)
        body = {"volume": {"size": 1}}
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            made = (await ask("POST", f"{base}/volumes", token, body)).json()["volume"]
            await _until(cloud, f"{base}/volumes/{made['id']}", "available")
            taken.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        await drain([lambda: ask("POST", f"{base}/volumes", token, body)] * (_MANY - 20))
        available = await _count(cloud, f"{base}/volumes/detail?limit=1000&status=available", _MANY)
        rate = (_MANY - 20) / (time.perf_counter() - began)
        listing = await median(lambda: ask("GET", f"{base}/volumes/detail?limit=1000", token))
        began = time.perf_counter()
        await drain([lambda v=v: ask("DELETE", f"{base}/volumes/{v['id']}", token) for v in available])
        await _count(cloud, f"{base}/volumes?limit=1", 0)
        gone = _MANY / (time.perf_counter() - began)
    return [
        Measured("volume create to available, one after another, median", statistics.median(taken), "ms", 30.0),
        Measured("volume creates to available, 16 clients", rate, "/s", 80.0, at_least=True, note="all available"),
        Measured("GET /volumes/detail of 1,000", listing, "ms", 100.0, note=f"{len(available)} volumes"),
        Measured("volume deletes until gone, 16 clients", gone, "/s", 80.0, at_least=True),
    ]


async def _count(cloud: Lab, path: str, count: int) -> list[dict[str, Any]]:
    """What is listed once so many are."""
    while True:
        found: list[dict[str, Any]] = (await cloud.http.ok("GET", path, cloud.token)).json()["volumes"]
        if len(found) == count:
            return found
        await asyncio.sleep(0.05)


async def _until(cloud: Lab, path: str, status: str) -> None:
    while (seen := (await cloud.http.ok("GET", path, cloud.token)).json()["volume"]["status"]) != status:
        if seen == "error":
            raise RuntimeError(f"{path} is in error")
        await asyncio.sleep(0.002)
