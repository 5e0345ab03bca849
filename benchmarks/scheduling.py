"""Servers on 10, 100 and 1,000 nodes with ten servers each: what choosing among many nodes costs.

Nodes and servers are rows here and the application runs in this process, without a socket, so that what is compared
is the request itself. Clouds of many agents are measured elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Any

from benchmarks.promises import Measured
from pileus.cloud import Cloud
from pileus.compute import nodes
from pileus.compute.tables import node, server
from pileus.db.engine import Tx
from pileus.node.contract import HypervisorFacts
from pileus.placement import allocations
from pileus.settings import Settings
from pileus.web.app import App

PASSWORD = "measured"
_COUNTS = (10, 100, 1000)
_TIMES = 150
_COMPUTE = "/compute/v2.1"
_FEATURES = tuple(f"feature{number}" for number in range(80))
_TRAITS = tuple(
    f"HW_CPU_X86_{name}" for name in ("SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42", "AVX", "AVX2", "F16C", "FMA3",
                                      "AESNI", "BMI", "BMI2", "ABM", "SHA", "MMX", "VMX", "CLMUL")
)
FACTS = HypervisorFacts(
    hypervisor_type="fake", hypervisor_version=1_000_000, accelerator="none", hostname="host", architecture="x86_64",
    vcpus=64, memory_mib=262_144, disk_gib=4_000, cpu_model="EPYC", cpu_features=_FEATURES, traits=_TRAITS,
)
_EACH = {"VCPU": 1, "MEMORY_MB": 64}


class Direct:
    """The application, called without a socket."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.app = cloud, App(cloud, cloud.served, {})
        self.token = self.project_id = ""

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[bytes, bytes], Any]:
        """One request: status, headers, body. `body` is JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = b"application/octet-stream" if isinstance(body, bytes) else b"application/json"
        headers = [(b"host", b"bench"), (b"content-type", kind), (b"content-length", str(len(data)).encode()),
                   (b"openstack-api-version", b"compute 2.37")]
        if self.token:
            headers.append((b"x-auth-token", self.token.encode()))
        raw, _, query = path.partition("?")
        scope = {"type": "http", "method": method, "path": raw, "raw_path": raw.encode(), "headers": headers,
                 "query_string": query.encode(), "scheme": "http", "server": ("bench", 80), "client": ("::1", 1)}
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(content) if content else None

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of the answer. Raises RuntimeError unless the status is below 400."""
        status, _, answer = await self.ask(method, path, body)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    async def login(self) -> None:
        """Become admin."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        project = {"project": {"name": "admin", "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": project}}
        _, headers, answer = await self.ask("POST", "/identity/v3/auth/tokens", body)
        self.token, self.project_id = headers[b"x-subject-token"].decode(), answer["token"]["project"]["id"]


def rows(cloud: Cloud, count: int, each: int = 10) -> None:
    """`count` nodes that are up, with `each` servers and their allocations."""

    def write(tx: Tx) -> None:
        now = cloud.world.now()
        for number in range(count):
            name = f"node-{number:04}"
            nodes.register(tx, cloud, name, FACTS)
            row = nodes.by_name(tx, name)
            assert row is not None
            values = [_server(name, now) for _ in range(each)]
            tx.execute(server.insert(), values)
            for one in values:
                allocations.claim(
                    tx, cloud, consumer=one["id"], project_id="bench", user_id="bench", resources={row.id: dict(_EACH)},
                )

        tx.execute(node.update().values(seen=now + 86400))  # nobody sends heartbeats here

    cloud.db.run_sync(write)


def _server(host: str, now: float) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()), "project_id": "bench", "user_id": "bench", "name": "bench", "hostname": "bench",
        "vm_state": "active", "power_state": 1, "host": host, "zone": "nova", "flavor_id": "bench",
        "flavor": {"name": "bench", "disk": 0, "ephemeral": 0}, "vcpus": 1, "ram": 64, "metadata": {}, "hints": {},
        "security_groups": [], "reservation_id": "r-bench", "nic_tags": {}, "own_ports": [], "created": now,
        "updated": now, "launched": now,
    }


@contextlib.contextmanager
def filled(count: int, database: str = "") -> Iterator[Cloud]:
    """A cloud in this process with so many nodes as rows."""
    state = tempfile.mkdtemp(prefix="pileus-bench-", dir="/var/tmp")
    cloud = Cloud(Settings(
        state_dir=state, hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        public_url="http://bench", database=database,
    ))
    try:
        cloud.open()
        rows(cloud, count)
        yield cloud
    finally:
        cloud.close()
        shutil.rmtree(state, ignore_errors=True)


async def prepare(direct: Direct) -> dict[str, Any]:
    """A flavor, an image, a network, no quotas in the way; the body that asks for one server."""
    await direct.login()
    quota = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
    await direct.ok("PUT", f"{_COMPUTE}/os-quota-sets/{direct.project_id}", quota)
    await direct.ok("PUT", f"/network/v2.0/quotas/{direct.project_id}", {"quota": {"port": -1}})
    flavor = {"flavor": {"name": "bench", "ram": 64, "vcpus": 1, "disk": 0}}
    flavor_id = (await direct.ok("POST", f"{_COMPUTE}/flavors", flavor))["flavor"]["id"]
    image = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
    image_id = (await direct.ok("POST", "/image/v2/images", image))["id"]
    await direct.ok("PUT", f"/image/v2/images/{image_id}/file", bytes(1 << 20))
    network = (await direct.ok("POST", "/network/v2.0/networks", {"network": {"name": "bench"}}))["network"]["id"]
    subnet = {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/16"}}
    await direct.ok("POST", "/network/v2.0/subnets", subnet)
    return {"server": {"name": "bench", "flavorRef": flavor_id, "imageRef": image_id, "networks": [{"uuid": network}]}}


async def _timed(direct: Direct, method: str, path: str, body: Any = None) -> float:
    """Milliseconds of one request."""
    began = time.perf_counter()
    await direct.ok(method, path, body)
    return (time.perf_counter() - began) * 1000


async def _check_spread(direct: Direct, count: int) -> None:
    """Raises RuntimeError when servers were not made, or all on a few nodes."""
    listed = (await direct.ok("GET", f"{_COMPUTE}/servers/detail?limit=1000"))["servers"]
    hosts = {one["OS-EXT-SRV-ATTR:host"] for one in listed}
    if None in hosts or len(hosts) < min(count, len(listed)):
        raise RuntimeError(f"{len(listed)} servers were not spread: they are on {len(hosts)} of {count} nodes")


async def measure() -> list[Measured]:
    """Creates by the number of nodes, in turn, so that what else this machine does slows all alike; and two lists."""
    with contextlib.ExitStack() as stack:
        clouds = {count: Direct(stack.enter_context(filled(count))) for count in _COUNTS}
        bodies = {count: await prepare(direct) for count, direct in clouds.items()}
        taken: dict[int, list[float]] = {count: [] for count in _COUNTS}
        for number in range(_TIMES + 10):
            for count, direct in clouds.items():
                took = await _timed(direct, "POST", f"{_COMPUTE}/servers", bodies[count])
                if number >= 10:  # statements are prepared by then
                    taken[count].append(took)
        for count, direct in clouds.items():
            await _check_spread(direct, count)
        many = clouds[_COUNTS[-1]]
        hypervisors, services = [
            statistics.median([await _timed(many, "GET", _COMPUTE + path) for _ in range(7)])
            for path in ("/os-hypervisors/detail", "/os-services")
        ]
    ten, hundred, thousand = (statistics.median(taken[count]) for count in _COUNTS)
    return [
        Measured("POST /servers at 1,000 nodes, of that at 10", thousand / ten, "", 1.5,
                 note=f"{ten:.2f}, {hundred:.2f}, {thousand:.2f} ms at 10, 100, 1,000"),
        Measured("POST /servers at 1,000 nodes with 10,000 servers, one after another", 1000 / thousand, "/s", 20.0,
                 True, "in process, with a port"),
        Measured("GET /os-hypervisors/detail of 1,000 nodes with 10,000 servers", hypervisors, "ms", 150.0),
        Measured("GET /os-services of 1,000 nodes", services, "ms", 100.0),
    ]
