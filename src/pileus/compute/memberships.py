"""Security groups of servers: seen and changed on all of their ports at once."""

from __future__ import annotations

from typing import Any

from pileus.compute import servers, states
from pileus.compute.schemas import SecurityGroupName
from pileus.network import ports, security_groups
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound


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
