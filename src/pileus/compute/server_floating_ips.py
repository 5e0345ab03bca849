"""addFloatingIp and removeFloatingIp, up to 2.43: the network service's floating addresses, put on a server."""

from __future__ import annotations

import ipaddress
from typing import Any

from pileus.compute import states
from pileus.compute.proxy import ask
from pileus.compute.schemas import AddFloatingIp
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

_IPS = "/v2.0/floatingips"


async def add(call: Call, row: Any, value: AddFloatingIp) -> None:
    """addFloatingIp: 202. For the fixed address that is named, or the first one of version 4."""
    states.require(call.context, row, "addSecurityGroup", "addFloatingIp")
    floating = await _find(call, value.address)
    port, fixed = _target(await _ports(call, row), value.fixed_address, row.id)
    body = {"floatingip": {"port_id": port["id"], "fixed_ip_address": fixed}}
    try:
        await ask(call, "network", "PUT", f"{_IPS}/{floating['id']}", body)
    except Conflict as taken:  # a fixed address has one floating address at most: Nova says 400
        raise BadRequest(taken.message) from None


async def remove(call: Call, row: Any, value: AddFloatingIp) -> None:
    """removeFloatingIp: 202."""
    states.require(call.context, row, "addSecurityGroup", "removeFloatingIp")
    floating = await _find(call, value.address)
    if floating["port_id"] not in [port["id"] for port in await _ports(call, row)]:
        raise Conflict(f"Floating IP {value.address} is not associated with instance {row.id}.")
    await ask(call, "network", "PUT", f"{_IPS}/{floating['id']}", {"floatingip": {"port_id": None}})


async def _find(call: Call, address: str) -> dict[str, Any]:
    try:
        wanted = str(ipaddress.ip_address(address))
    except ValueError:
        raise BadRequest(f"Invalid input for field/attribute address. Value: {address}.") from None
    pairs = [("floating_ip_address", wanted), ("project_id", call.context.project_id or "")]
    found = (await ask(call, "network", "GET", _IPS, query=pairs))["floatingips"]
    if not found:
        raise NotFound(f"floating IP not found: {address}")
    item: dict[str, Any] = found[0]
    return item


async def _ports(call: Call, row: Any) -> list[dict[str, Any]]:
    return list((await ask(call, "network", "GET", "/v2.0/ports", query=[("device_id", row.id)]))["ports"])


def _target(ports: list[dict[str, Any]], fixed: str | None, server_id: str) -> tuple[dict[str, Any], str]:
    for port in ports:
        for item in port["fixed_ips"]:
            address = item["ip_address"]
            if address == fixed or (fixed is None and ":" not in address):
                return port, address
    if fixed is not None:
        raise BadRequest(f"Specified fixed address {fixed} is not assigned to instance {server_id}.")
    raise BadRequest(f"No fixed IPs associated to instance {server_id}.")
