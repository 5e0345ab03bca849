"""How long nodes have run: the one thing about hypervisors that is asked of the nodes themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pileus.compute import hypervisors
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Problem

_AT_ONCE = 50


async def uptime(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/{hypervisor_id}/uptime up to 2.87: 200. Raises BadRequest where the node does not answer."""
    found = await _read(call, hypervisors.brief)
    name = found["hypervisor_hostname"]
    if found["state"] != "up":
        raise BadRequest(f"Compute service of {name} is unavailable at this time.")
    try:
        said = await _ask(call, name)
    except Problem as reason:
        raise BadRequest(reason.message) from None
    return {"hypervisor": {**found, "uptime": said}}


async def show(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/{hypervisor_id} from 2.88 on: 200, with its uptime, null where the node does not answer."""
    reply = await _read(call, hypervisors.show)
    await _fill(call, [reply["hypervisor"]])
    return reply


async def detail(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/detail from 2.88 on: 200, each with its uptime, null where the node does not answer."""
    reply = await _read(call, hypervisors.detail)
    await _fill(call, reply["hypervisors"])
    return reply


async def _read(call: Call, handler: Callable[[Call], dict[str, Any]]) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        return handler(call)

    return await call.run(work, write=False)


async def _fill(call: Call, items: list[dict[str, Any]]) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def fill(item: dict[str, Any]) -> None:
        async with turn:
            try:
                item["uptime"] = await _ask(call, item["hypervisor_hostname"])
            except Problem:
                item["uptime"] = None

    await asyncio.gather(*(fill(item) for item in items if item["state"] == "up"))


async def _ask(call: Call, node: str) -> str:
    return str(await call.cloud.ask(node, "uptime", {}))
