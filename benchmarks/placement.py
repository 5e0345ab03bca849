"""Allocation candidates."""

from __future__ import annotations

import uuid
from functools import partial

from benchmarks.client import drain, median
from benchmarks.lab import Lab, running
from benchmarks.promises import Measured

_VERSION = {"OpenStack-API-Version": "placement 1.29"}


async def _provider(cloud: Lab, number: int) -> None:
    ask, token = cloud.http.ok, cloud.token
    provider = str(uuid.uuid4())
    body = {"uuid": provider, "name": f"bench-{number}"}
    await ask("POST", "/placement/resource_providers", token, body, headers=_VERSION)
    sizes = {"VCPU": 64, "MEMORY_MB": 262144, "DISK_GB": 2000}
    inventories = {name: {"total": total} for name, total in sizes.items()}
    await ask("PUT", f"/placement/resource_providers/{provider}/inventories", token,
              {"resource_provider_generation": 0, "inventories": inventories}, headers=_VERSION)


async def measure() -> list[Measured]:
    """Candidates over a thousand providers, without a limit and with limit=1000."""
    async with running() as cloud:
        await drain([partial(_provider, cloud, number) for number in range(1000)])
        path = "/placement/allocation_candidates?resources=VCPU:1,MEMORY_MB:512,DISK_GB:10"
        found = await cloud.http.ok("GET", path, cloud.token, headers=_VERSION)
        count = len(found.json()["allocation_requests"])
        whole = await median(lambda: cloud.http.ok("GET", path, cloud.token, headers=_VERSION))
        few = await median(lambda: cloud.http.ok("GET", path + "&limit=10", cloud.token, headers=_VERSION))
    return [
        Measured("allocation candidates over 1,000 providers", whole, "ms", 40.0, note=f"{count} candidates"),
        Measured("the same, limit=10", few, "ms", 40.0),
    ]
