"""`/servers/{id}/ips`: the addresses of a server, by network."""

from __future__ import annotations

from typing import Any

from pileus.compute import servers
from pileus.compute.views import addresses_of
from pileus.web.call import Call
from pileus.web.errors import NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/ips: 200."""
    row = servers.get(call, call.params["server_id"], "os_compute_api:ips:index")
    return {"addresses": addresses_of(servers.ports_of(call, row), False)}


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/ips/{network}: 200."""
    row = servers.get(call, call.params["server_id"], "os_compute_api:ips:show")
    found = addresses_of(servers.ports_of(call, row), False)
    name = call.params["network"]
    if name not in found:
        raise NotFound(f"Instance is not a member of specified network: {name}")
    return {name: found[name]}
