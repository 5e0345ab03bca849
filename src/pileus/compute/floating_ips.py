"""Floating addresses and their pools as compute had them up to 2.35: the network service's."""

from __future__ import annotations

from typing import Any

from pileus.compute.proxy import ask
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

_IPS = "/v2.0/floatingips"


async def _pools(call: Call) -> list[dict[str, Any]]:
    found = await ask(call, "network", "GET", "/v2.0/networks", query=[("router:external", "True")])
    return list(found["networks"])


async def pools(call: Call) -> dict[str, Any]:
    """GET /os-floating-ip-pools: 200, the external networks."""
    return {"floating_ip_pools": [{"name": pool["name"] or pool["id"]} for pool in await _pools(call)]}


async def _shown(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {pool["id"]: pool["name"] for pool in await _pools(call)}
    wanted = [("id", item["port_id"]) for item in items if item["port_id"]]
    ports = (await ask(call, "network", "GET", "/v2.0/ports", query=wanted))["ports"] if wanted else []
    servers = {port["id"]: port["device_id"] for port in ports if port["device_owner"].startswith("compute:")}
    return [
        {
            "id": item["id"], "ip": item["floating_ip_address"], "fixed_ip": item["fixed_ip_address"],
            "pool": names.get(item["floating_network_id"]) or item["floating_network_id"],
            "instance_id": servers.get(item["port_id"]),
        }
        for item in items
    ]


async def index(call: Call) -> dict[str, Any]:
    """GET /os-floating-ips: 200, those of the project."""
    found = await ask(call, "network", "GET", _IPS, query=[("project_id", call.context.project_id or "")])
    return {"floating_ips": await _shown(call, found["floatingips"])}


async def show(call: Call) -> dict[str, Any]:
    """GET /os-floating-ips/{floating_ip_id}: 200."""
    found = await ask(call, "network", "GET", f"{_IPS}/{call.params['floating_ip_id']}")
    return {"floating_ip": (await _shown(call, [found["floatingip"]]))[0]}


async def create(call: Call) -> dict[str, Any]:
    """POST /os-floating-ips: 200. `pool` is an external network's name or id; without it the first is used."""
    pool = call.body.pool if call.body is not None else None
    found = [net for net in await _pools(call) if pool is None or pool in (net["id"], net["name"])]
    if not found:
        raise NotFound(f"Floating IP pool {pool} not found." if pool else "There is no floating IP pool.")
    if pool is not None and len(found) > 1:
        raise BadRequest(f"Multiple floating IP pools match '{pool}'; use an id.")
    made = await ask(call, "network", "POST", _IPS, {"floatingip": {"floating_network_id": found[0]["id"]}})
    return {"floating_ip": (await _shown(call, [made["floatingip"]]))[0]}


async def delete(call: Call) -> None:
    """DELETE /os-floating-ips/{floating_ip_id}: 202."""
    await ask(call, "network", "DELETE", f"{_IPS}/{call.params['floating_ip_id']}")
