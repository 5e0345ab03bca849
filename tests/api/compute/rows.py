"""Rows of servers and nodes as they are after a build, for specifications that need no build."""

from __future__ import annotations

import uuid
from typing import Any

from pileus.cloud import Cloud
from pileus.compute import nodes
from pileus.compute.tables import server
from pileus.node.contract import HypervisorFacts

FACTS = HypervisorFacts(
    hypervisor_type="fake", hypervisor_version=1_000_000, accelerator="none", hostname="host", architecture="x86_64",
    vcpus=8, memory_mib=16_384, disk_gib=100, cpu_model="none", cpu_features=("sse",), traits=("HW_CPU_X86_SSE",),
)


def add_node(cloud: Cloud, name: str = "", facts: HypervisorFacts = FACTS) -> str:
    """A node that has just registered; its name."""
    name = name or "node-" + uuid.uuid4().hex[:12]
    cloud.db.run_sync(lambda tx: nodes.register(tx, cloud, name, facts))
    return name


def add_server(cloud: Cloud, project_id: str, user_id: str = "someone", **more: Any) -> str:
    """A server that runs; its id."""
    now = cloud.world.now()
    row: dict[str, Any] = {
        "id": str(uuid.uuid4()), "project_id": project_id, "user_id": user_id, "name": "server", "hostname": "server",
        "vm_state": "active", "flavor_id": "1", "flavor": {"name": "m1.tiny", "disk": 1, "ephemeral": 2}, "vcpus": 2,
        "ram": 512, "metadata": {}, "hints": {}, "security_groups": [], "reservation_id": "r-1", "nic_tags": {},
        "own_ports": [], "created": now, "updated": now, "launched": now, **more,
    }
    cloud.db.run_sync(lambda tx: tx.execute(server.insert().values(**row)))
    return str(row["id"])
