"""Security groups of servers: seen and changed on all of their ports at once."""

from __future__ import annotations

from typing import Any

from pileus.compute import servers, states
from pileus.compute.proxy import ask
from pileus.compute.schemas import SecurityGroupName
from pileus.compute.security_groups import group_view, names_of
from pileus.network import ports, security_groups
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound


async def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-security-groups: 200, the groups of its ports."""

    def ids() -> list[str]:
        row = servers.get(call, call.params["server_id"], "os_compute_api:os-security-groups:list")
        return list({i: None for port in servers.ports_of(call, row) for i in port.security_group_ids})

    wanted = [("id", i) for i in await call.run(ids, write=False)]
    if not wanted:
        return {"security_groups": []}
    found = (await ask(call, "network", "GET", "/v2.0/security-groups", query=wanted))["security_groups"]
    names = await names_of(call, found)
    return {"security_groups": [group_view(group, names) for group in found]}


def add(call: Call, row: Any, value: SecurityGroupName) -> None:
    """addSecurityGroup: 202."""
    states.require(call.context, row, "addSecurityGroup")
    group_id = _group(call, value.name)
    mine = [port for port in servers.ports_of(call, row) if port.port_security and port.fixed_ips]
    if not mine:
        raise BadRequest(f"Instance {row.id} has no port that security groups could be put on.")
    for port in mine:
        if group_id not in port.security_group_ids:
            ports.set_security_groups(call.tx, call.cloud, port.id, [*port.security_group_ids, group_id])


def remove(call: Call, row: Any, value: SecurityGroupName) -> None:
    """removeSecurityGroup: 202."""
    states.require(call.context, row, "addSecurityGroup", "removeSecurityGroup")
    group_id = _group(call, value.name)
    mine = [port for port in servers.ports_of(call, row) if group_id in port.security_group_ids]
    if not mine:
        raise NotFound(f"Security group {value.name} not associated with the instance {row.id}")
    for port in mine:
        left = [held for held in port.security_group_ids if held != group_id]
        ports.set_security_groups(call.tx, call.cloud, port.id, left)


def _group(call: Call, name: str) -> str:
    return security_groups.resolve(call.tx, call.cloud, call.context, [name])[0]
