"""Networks and ports."""

from __future__ import annotations

import statistics
import time

from benchmarks.client import drain, median
from benchmarks.lab import running
from benchmarks.promises import Measured


async def measure() -> list[Measured]:
    """Network, subnet and port one after another; a list of a thousand ports."""
    async with running() as cloud:
        ask, token = cloud.http.ok, cloud.token
        quota = {"quota": {"port": -1, "network": -1, "subnet": -1}}
        await ask("PUT", f"/network/v2.0/quotas/{cloud.project_id}", token, quota)
        taken, network = [], ""
        for _ in range(20):
            began = time.perf_counter()
            made = await ask("POST", "/network/v2.0/networks", token, {"network": {"name": "bench"}})
            network = made.json()["network"]["id"]
            subnet = {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.8.0.0/16"}}
            await ask("POST", "/network/v2.0/subnets", token, subnet)
            await ask("POST", "/network/v2.0/ports", token, {"port": {"network_id": network}})
            taken.append((time.perf_counter() - began) * 1000)
        port = {"port": {"network_id": network}}
        await drain([lambda: ask("POST", "/network/v2.0/ports", token, port)] * 960)
        listed = (await ask("GET", "/network/v2.0/ports?limit=1000", token)).json()["ports"]
        listing = await median(lambda: ask("GET", "/network/v2.0/ports?limit=1000", token))
    return [
        Measured("network + subnet + port, one after another, median", statistics.median(taken), "ms", 25.0),
        Measured("GET /ports of 1,000", listing, "ms", 100.0, note=f"{len(listed)} ports"),
    ]
