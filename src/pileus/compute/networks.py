"""Networks as compute showed them up to 2.35: the network service's."""

from __future__ import annotations

import ipaddress
from typing import Any

from pileus.compute.proxy import ask
from pileus.web.call import Call
from pileus.web.errors import NotFound


async def _networks(call: Call) -> list[dict[str, Any]]:
    return list((await ask(call, "network", "GET", "/v2.0/networks"))["networks"])


async def _own(call: Call) -> list[dict[str, Any]]:
    """Those that servers of the caller's project can be on."""
    project = call.context.project_id
    return [net for net in await _networks(call) if net["project_id"] == project or net["shared"]]


async def _subnets(call: Call, networks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The subnets of each network, by the network's id."""
    found: dict[str, list[dict[str, Any]]] = {net["id"]: [] for net in networks}
    if networks:
        pairs = [("network_id", net["id"]) for net in networks]
        for subnet in (await ask(call, "network", "GET", "/v2.0/subnets", query=pairs))["subnets"]:
            found[subnet["network_id"]].append(subnet)
    return found


def _first(subnets: list[dict[str, Any]], version: int) -> dict[str, Any]:
    return next((subnet for subnet in subnets if subnet["ip_version"] == version), {})


def _whole(network: dict[str, Any], subnets: list[dict[str, Any]]) -> dict[str, Any]:
    four, six = _first(subnets, 4), _first(subnets, 6)
    servers = [*four.get("dns_nameservers", []), None, None]
    net = ipaddress.ip_network(four["cidr"]) if four else None
    return {
        "id": network["id"], "label": network["name"], "cidr": four.get("cidr"), "gateway": four.get("gateway_ip"),
        "netmask": str(net.netmask) if net else None, "broadcast": str(net.broadcast_address) if net else None,
        "dns1": servers[0], "dns2": servers[1], "cidr_v6": six.get("cidr"), "gateway_v6": six.get("gateway_ip"),
        "netmask_v6": six["cidr"].split("/")[1] if six else None,
    }


def _short(network: dict[str, Any], subnets: list[dict[str, Any]]) -> dict[str, Any]:
    first = _first(subnets, 4) or _first(subnets, 6)
    return {"id": network["id"], "label": network["name"], "cidr": first.get("cidr", "None")}


async def _list(call: Call, networks: list[dict[str, Any]], view: Any) -> dict[str, Any]:
    subnets = await _subnets(call, networks)
    return {"networks": [view(network, subnets[network["id"]]) for network in networks]}


async def _show(call: Call, view: Any) -> dict[str, Any]:
    try:
        found = (await ask(call, "network", "GET", f"/v2.0/networks/{call.params['network_id']}"))["network"]
    except NotFound:
        raise NotFound(f"Network {call.params['network_id']} not found.") from None
    return {"network": view(found, (await _subnets(call, [found]))[found["id"]])}


async def index(call: Call) -> dict[str, Any]:
    """GET /os-networks: 200, all that the caller sees."""
    return await _list(call, await _networks(call), _whole)


async def show(call: Call) -> dict[str, Any]:
    """GET /os-networks/{network_id}: 200."""
    return await _show(call, _whole)


async def tenant_index(call: Call) -> dict[str, Any]:
    """GET /os-tenant-networks: 200."""
    return await _list(call, await _own(call), _short)


async def tenant_show(call: Call) -> dict[str, Any]:
    """GET /os-tenant-networks/{network_id}: 200."""
    return await _show(call, _short)
