"""`/servers/{id}/topology`: how a guest's processors and memory lie on its host's NUMA nodes."""

from __future__ import annotations

from typing import Any

from pileus.compute import servers
from pileus.web.call import Call


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/topology, from 2.78 on: 200.

    Guests are never bound to NUMA nodes or large pages here, which Nova says with an empty list."""
    servers.get(call, call.params["server_id"], "compute:server:topology:index")
    return {"nodes": [], "pagesize_kb": None}
