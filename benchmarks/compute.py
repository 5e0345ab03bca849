"""Servers on ten fake nodes."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import Any

from benchmarks.client import drain, in_turns, median, of_first, rates
from benchmarks.lab import Lab, bare, running
from benchmarks.promises import Measured

_COMPUTE = "/compute/v2.1"


class Servers:
    """What is needed to make servers."""

    def __init__(self, cloud: Lab) -> None:
        self.cloud = cloud
        self.flavor = self.image = self.network = ""

    async def prepare(self) -> None:
        """An image, a flavor, a network, and no quotas in the way."""
        ask, token = self.cloud.http.ok, self.cloud.token
        quota = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
        await ask("PUT", f"{_COMPUTE}/os-quota-sets/{self.cloud.project_id}", token, quota)
        await ask("PUT", f"/network/v2.0/quotas/{self.cloud.project_id}", token, {"quota": {"port": -1}})
        flavor = {"flavor": {"name": "bench", "ram": 64, "vcpus": 1, "disk": 0}}
        self.flavor = (await ask("POST", f"{_COMPUTE}/flavors", token, flavor)).json()["flavor"]["id"]
        image = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
        self.image = (await ask("POST", "/image/v2/images", token, image)).json()["id"]
        await ask("PUT", f"/image/v2/images/{self.image}/file", token, bytes(1 << 20))
        made = await ask("POST", "/network/v2.0/networks", token, {"network": {"name": "bench"}})
        self.network = made.json()["network"]["id"]
        subnet = {"subnet": {"network_id": self.network, "ip_version": 4, "cidr": "10.9.0.0/16"}}
        await ask("POST", "/network/v2.0/subnets", token, subnet)

    async def create(self) -> str:
        """Ask for one; its id."""
        body = {"server": {"name": "bench", "flavorRef": self.flavor, "imageRef": self.image,
                           "networks": [{"uuid": self.network}]}}
        answer = await self.cloud.http.ok("POST", f"{_COMPUTE}/servers", self.cloud.token, body)
        server: str = answer.json()["server"]["id"]
        return server

    async def active(self, server: str) -> None:
        """Wait until it is ACTIVE."""
        while True:  # polled, as clients do
            answer = await self.cloud.http.ok("GET", f"{_COMPUTE}/servers/{server}", self.cloud.token)
            status = answer.json()["server"]["status"]
            if status == "ACTIVE":
                return
            if status == "ERROR":
                raise RuntimeError(f"server {server} is in ERROR: {answer.body!r}")
            await asyncio.sleep(0.005)

    async def boot(self) -> str:
        """Create and wait."""
        server = await self.create()
        await self.active(server)
        return server

    async def delete(self, server: str) -> None:
        """Delete, and wait until it is gone."""
        path = f"{_COMPUTE}/servers/{server}"
        await self.cloud.http.ok("DELETE", path, self.cloud.token)
        while (await self.cloud.http.ask("GET", path, self.cloud.token)).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def listed(self) -> list[Any]:
        """All servers, with details."""
        answer = await self.cloud.http.ok("GET", f"{_COMPUTE}/servers/detail?limit=1000", self.cloud.token)
        servers: list[Any] = answer.json()["servers"]
        return servers


async def measure() -> list[Measured]:
    """One after another, sixteen at once, a list of a thousand, one by id, and all deleted."""
    async with running(fake_nodes="10") as cloud:
        servers = Servers(cloud)
        await servers.prepare()
        one_by_one = []
        for _ in range(20):
            began = time.perf_counter()
            await servers.boot()
            one_by_one.append((time.perf_counter() - began) * 1000)
        creates = await drain([servers.boot] * 200)
        await drain([servers.boot] * 780)
        path = f"{_COMPUTE}/servers/detail?limit=1000"
        listing = await median(lambda: cloud.http.ok("GET", path, cloud.token))
        listed = await servers.listed()
        one = f"{_COMPUTE}/servers/{listed[0]['id']}"
        with bare() as hello:
            turns = await in_turns(lambda: hello.ok("GET", "/"), lambda: cloud.http.ok("GET", one, cloud.token))
        deletes = await drain([partial(servers.delete, server["id"]) for server in listed[:400]])
    active = sum(1 for server in listed if server["status"] == "ACTIVE")
    return [
        Measured("GET /servers/{id}, 16 clients, of bare", of_first(turns, 1), "", 1 / 8, True, rates(turns, 1)),
        Measured("GET /servers/detail of 1,000", listing, "ms", 150.0, note=f"{active} of {len(listed)} ACTIVE"),
        Measured("server create to ACTIVE, one after another, median", statistics.median(one_by_one), "ms", 50.0,
                 note="10 fake nodes, with a port"),
        Measured("server creates to ACTIVE, 16 clients", creates, "/s", 40.0, True, "all ACTIVE"),
        Measured("server deletes until gone, 16 clients", deletes, "/s", 80.0, True),
    ]
