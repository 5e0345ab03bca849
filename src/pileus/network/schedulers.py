"""Which agent serves a network's DHCP or has a router, as operators see and change it by hand.

Extensions dhcp_agent_scheduler and l3_agent_scheduler. A network has one DHCP server and a router one node: to add a
network to another agent moves it there.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import agents, lists, networks, placing, routers
from pileus.network.faults import conflict, not_found
from pileus.network.placing import DHCP, L3
from pileus.network.tables import agent, network, router
from pileus.web.call import Call


def _agent(call: Call, kind: str) -> Row[Any]:
    """The agent of the path. Raises NotFound, Conflict for one of another kind."""
    identity = call.params["id"]
    row = call.tx.first(sa.select(agent).where(agent.c.id == identity))
    if row is None:
        raise not_found("AgentNotFound", "Agent", identity)
    if row.kind != kind:
        what = agents.KINDS[kind][0]
        name = "InvalidDHCPAgent" if kind == DHCP else "InvalidL3Agent"
        raise conflict(name, f"Agent {identity} is not a valid {what} or has been disabled.")
    return row


def _check_can(call: Call, row: Row[Any], physical: list[str]) -> None:
    """Raises Conflict for an agent that is disabled, or does not reach what is needed."""
    if not row.admin_state_up:
        name = "InvalidDHCPAgent" if row.kind == DHCP else "InvalidL3Agent"
        raise conflict(name, f"Agent {row.id} is not a valid {agents.KINDS[row.kind][0]} or has been disabled.")
    lacking = [name for name in physical if row.physical_networks is not None and name not in row.physical_networks]
    if lacking:
        raise conflict(
            "PhysicalNetworkNotReached",
            f"Node {row.node} has no physical network {', '.join(lacking)}: its setting physical_networks names those "
            "that it has.",
        )


# -- DHCP


def networks_of_agent(call: Call) -> dict[str, Any]:
    """GET /v2.0/agents/{id}/dhcp-networks: 200."""
    row = _agent(call, DHCP)
    found = call.tx.all(sa.select(network).where(network.c.node == row.node).order_by(network.c.created, network.c.id))
    return {"networks": networks.NOUN.render(call, found)}


def add_network(call: Call) -> None:
    """POST /v2.0/agents/{id}/dhcp-networks: 201. Raises NotFound, Conflict when it is there already."""
    row = _agent(call, DHCP)
    found = lists.find(call, networks.NOUN, call.body.network_id)
    _check_can(call, row, [found.physical_network] if found.physical_network else [])
    if found.node == row.node and not found.detached:
        raise conflict("NetworkHostedByDHCPAgent",
                       f"The network {found.id} has been already hosted by the DHCP Agent {row.id}.")
    placing.put_networks(call.tx, call.cloud, {found.id: row.node}, [found.node], detached=False)


def remove_network(call: Call) -> None:
    """DELETE /v2.0/agents/{id}/dhcp-networks/{network_id}: 204. It stays without DHCP until it is added again.

    Raises NotFound, Conflict when it is not there."""
    row = _agent(call, DHCP)
    found = lists.find(call, networks.NOUN, call.params["network_id"])
    if found.node != row.node:
        raise conflict("NetworkNotHostedByDhcpAgent",
                       f"The network {found.id} is not hosted by the DHCP agent {row.id}.")
    placing.put_networks(call.tx, call.cloud, {found.id: ""}, [found.node], detached=True)


def agents_of_network(call: Call) -> dict[str, Any]:
    """GET /v2.0/networks/{id}/dhcp-agents: 200."""
    found = lists.find(call, networks.NOUN, call.params["id"])
    return {"agents": agents.shown_on(call, DHCP, found.node)}


# -- routers


def routers_of_agent(call: Call) -> dict[str, Any]:
    """GET /v2.0/agents/{id}/l3-routers: 200."""
    row = _agent(call, L3)
    found = call.tx.all(sa.select(router).where(router.c.node == row.node).order_by(router.c.created, router.c.id))
    return {"routers": routers.NOUN.render(call, found)}


def add_router(call: Call) -> None:
    """POST /v2.0/agents/{id}/l3-routers: 201; nothing, when it is there. Raises NotFound, Conflict when another agent
    has it: it is removed from that one first."""
    row = _agent(call, L3)
    found = lists.find(call, routers.NOUN, call.body.router_id)
    _check_can(call, row, placing.needs_of(call.tx, found.id))
    if found.node and found.node != row.node:
        raise conflict("RouterHostedByL3Agent",
                       f"The router {found.id} has been already hosted by the L3 Agent on {found.node}.")
    if found.node != row.node:
        placing.put_routers(call.tx, call.cloud, {found.id: row.node}, detached=False)


def remove_router(call: Call) -> None:
    """DELETE /v2.0/agents/{id}/l3-routers/{router_id}: 204. It is nowhere until it is added again.

    Raises NotFound, Conflict when it is not there."""
    row = _agent(call, L3)
    found = lists.find(call, routers.NOUN, call.params["router_id"])
    if found.node != row.node:
        raise conflict("RouterNotHostedByL3Agent", f"The router {found.id} is not hosted by L3 agent {row.id}.")
    placing.put_routers(call.tx, call.cloud, {found.id: ""}, [found.node], detached=True)


def agents_of_router(call: Call) -> dict[str, Any]:
    """GET /v2.0/routers/{id}/l3-agents: 200."""
    found = lists.find(call, routers.NOUN, call.params["id"])
    return {"agents": agents.shown_on(call, L3, found.node)}
