"""Hosts as the API had them up to 2.42: what a node has, in all and by project."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute import availability_zones, nodes
from pileus.compute.schemas_rest import HostChange, HostQuery
from pileus.compute.services import change
from pileus.compute.tables import node, server
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /os-hosts: 200."""
    query: HostQuery = call.query
    if query.service not in (None, "", "compute"):
        return {"hosts": []}
    zones = availability_zones.by_host(call.tx)
    default = call.cloud.settings.availability_zone
    found = [
        {"host_name": name, "service": "compute", "zone": zones.get(name, default)}
        for name in call.tx.scalars(sa.select(node.c.name).order_by(node.c.name))
    ]
    return {"hosts": [item for item in found if query.zone in (None, "", item["zone"])]}


def _find(call: Call) -> Any:
    row = nodes.by_name(call.tx, call.params["host"])
    if row is None:
        raise NotFound(f"Compute host {call.params['host']} could not be found.")
    return row


def show(call: Call) -> dict[str, Any]:
    """GET /os-hosts/{host}: 200; all of it, what servers use now, and the same by project."""
    row = _find(call)
    facts = nodes.facts_of(row)
    sums: dict[str, list[int]] = {}
    columns = (server.c.project_id, server.c.vcpus, server.c.ram, server.c.flavor)
    for taken in call.tx.all(sa.select(*columns).where(server.c.host == row.name, server.c.deleted.is_(False))):
        disk = taken.flavor.get("disk", 0) + taken.flavor.get("ephemeral", 0)
        total = sums.setdefault(taken.project_id, [0, 0, 0])
        sums[taken.project_id] = [total[0] + taken.vcpus, total[1] + taken.ram, total[2] + disk]
    now = [sum(part) for part in zip(*sums.values(), strict=True)] or [0, 0, 0]
    lines = [
        ("(total)", [facts.vcpus, facts.memory_mib, facts.disk_gib]),
        ("(used_now)", [now[0], now[1] + call.cloud.settings.reserved_memory, now[2]]),
        ("(used_max)", now), *sorted(sums.items()),
    ]
    return {"host": [
        {"resource": {"host": row.name, "project": name, "cpu": cpu, "memory_mb": ram, "disk_gb": disk}}
        for name, (cpu, ram, disk) in lines
    ]}


def update(call: Call) -> dict[str, Any]:
    """PUT /os-hosts/{host}: 200; enables or disables the node's service. There is no maintenance mode."""
    body: HostChange = call.body
    row = _find(call)
    if body.maintenance_mode is not None:
        raise BadRequest("Nodes have no maintenance mode; disable the node's service instead.")
    if body.status is None:
        raise BadRequest("Invalid input: give a status, enable or disable.")
    change(call, row, {"disabled": body.status == "disable", "disabled_reason": None})
    return {"host": row.name, "status": f"{body.status}d"}


def power(call: Call) -> None:
    """GET /os-hosts/{host}/startup, shutdown and reboot: 400. A node's power is not the cloud's to switch."""
    _find(call)
    raise BadRequest("Nodes cannot be started, shut down or rebooted through this API.")
