"""Interfaces of routers: PUT add_router_interface and remove_router_interface."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import (
    addresses,
    fixed_ips,
    lists,
    networks,
    placing,
    port_handlers,
    port_rows,
    quotas,
    routers,
    sharing,
    subnets,
    touch,
)
from pileus.network.faults import conflict, not_found
from pileus.network.fixed_ips import Ask
from pileus.network.routers import INTERFACE
from pileus.network.schemas import InterfaceBody
from pileus.network.tables import allocation, floating_ip, network, port, router
from pileus.web.call import Call
from pileus.web.errors import BadRequest


def _bad(message: str) -> BadRequest:
    return BadRequest(f"Bad router request: {message}")


def add(call: Call) -> dict[str, Any]:
    """PUT /v2.0/routers/{id}/add_router_interface: 200."""
    sent: InterfaceBody = call.body
    row = routers.find_for(call, "update")
    call.enforce("add_router_interface", project_id=row.project_id)
    if bool(sent.subnet_id) == bool(sent.port_id):
        raise _bad("Either subnet_id or port_id must be specified, and not both.")
    if sent.port_id:
        port_id, subnet_ids, network_id = _join_port(call, row, sent.port_id)
    else:
        port_id, subnet_ids, network_id = _join_subnet(call, row, sent.subnet_id or "")
    node = placing.seat_router(call.tx, call.cloud, row.id)
    touch.mark(call.tx, [port_id])
    touch.network(call.tx, call.cloud, network_id, node)
    lists.update(call, router, row.id, {})
    return _reply(row, port_id, subnet_ids, network_id)


def _reply(row: Row[Any], port_id: str, subnet_ids: Sequence[str], network_id: str) -> dict[str, Any]:
    return {
        "id": row.id, "project_id": row.project_id, "tenant_id": row.project_id, "port_id": port_id,
        "network_id": network_id, "subnet_id": subnet_ids[0], "subnet_ids": list(subnet_ids),
    }


def _check_subnets(call: Call, row: Row[Any], new: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """No two subnets of a router overlap; the router's addresses."""
    legs = routers.connected(call.tx, row.id)
    for found in new:
        cidr = ipaddress.ip_network(found.cidr)
        for leg in legs:
            if leg.subnet_id == found.id:
                raise _bad(f"Router already has a port on subnet {found.id}.")
            other = ipaddress.ip_network(leg.cidr)
            if cidr.version == other.version and cidr.overlaps(other):
                raise _bad(f"Cidr {cidr} of subnet {found.id} overlaps with cidr {other} of subnet {leg.subnet_id}.")
    return legs


def _join_subnet(call: Call, row: Row[Any], subnet_id: str) -> tuple[str, list[str], str]:
    found = lists.find(call, subnets.NOUN, subnet_id)
    if not found.gateway_ip:
        raise _bad("Subnet for router interface must have a gateway IP.")
    legs = _check_subnets(call, row, [found])
    if found.ip_version == 6:
        shared = [
            leg for leg in legs
            if leg.network_id == found.network_id and leg.device_owner == INTERFACE and ":" in leg.ip
        ]
        if shared:  # IPv6 subnets of one network share a port, as one router advertises them all
            addresses.take_exact(call.tx, found, found.gateway_ip, shared[0].port_id, len(shared))
            return shared[0].port_id, [found.id], found.network_id
    parent = call.tx.first(sa.select(network).where(network.c.id == found.network_id))
    assert parent is not None
    quotas.room(call.tx, call.cloud, row.project_id, {"port": 1})
    port_id = port_rows.insert(
        call.tx, call.cloud, parent, project_id=row.project_id, asked=[Ask(found.id, found.gateway_ip)],
        device_id=row.id, device_owner=INTERFACE, host=row.node, port_security_enabled=False,
    )
    return port_id, [found.id], found.network_id


def _join_port(call: Call, row: Row[Any], port_id: str) -> tuple[str, list[str], str]:
    found = lists.find(call, port_handlers.NOUN, port_id)
    if found.project_id not in (sharing.own(call.context), row.project_id) and not lists.is_admin(call):
        raise not_found("PortNotFound", "Port", port_id)
    if found.device_id:
        raise conflict("PortInUse", f"Unable to complete operation on port {port_id} for network {found.network_id}. "
                                    f"Port already has an attached device {found.device_id}.")
    held = fixed_ips.of(call.tx, [port_id]).get(port_id, [])
    if not held:
        raise _bad(f"Port {port_id} has no fixed IP; a router interface needs one.")
    rows = [s for s in networks.subnets_of(call.tx, [found.network_id])[found.network_id]
            if s.id in {a.subnet_id for a in held}]
    if sum(1 for a in held if ":" not in a.ip) > 1:
        raise _bad("Cannot have multiple IPv4 subnets on router port")
    _check_subnets(call, row, rows)
    port_rows.set_groups(call.tx, port_id, ())
    lists.update(call, port, port_id, {
        "device_id": row.id, "device_owner": INTERFACE, "host": row.node, "port_security_enabled": False,
        "allowed_pairs": [], "status": "DOWN",
    })
    return port_id, [a.subnet_id for a in held], found.network_id


def remove(call: Call) -> dict[str, Any]:
    """PUT /v2.0/routers/{id}/remove_router_interface: 200. The port goes too."""
    sent: InterfaceBody = call.body
    row = routers.find_for(call, "update")
    call.enforce("remove_router_interface", project_id=row.project_id)
    if not sent.subnet_id and not sent.port_id:
        raise _bad("Either subnet_id or port_id must be specified.")
    legs = [leg for leg in routers.connected(call.tx, row.id) if leg.device_owner == INTERFACE]
    mine = [leg for leg in legs if (not sent.port_id or leg.port_id == sent.port_id)
            and (not sent.subnet_id or leg.subnet_id == sent.subnet_id)]
    if not mine:
        if sent.subnet_id and not sent.port_id:
            raise not_found("RouterInterfaceNotFoundForSubnet",
                            f"Router {row.id} has no interface on subnet {sent.subnet_id}; an interface on",
                            sent.subnet_id)
        raise not_found("RouterInterfaceNotFound",
                        f"Router {row.id} does not have an interface with id", sent.port_id or "")
    _check_unused(call, row, mine)
    first = mine[0]
    whole = len(mine) == sum(1 for leg in legs if leg.port_id == first.port_id)
    touch.network(call.tx, call.cloud, first.network_id, row.node)
    if whole:
        port_rows.drop(call.tx, call.cloud, first.port_id)
    else:
        call.tx.execute(allocation.delete().where(
            allocation.c.port_id == first.port_id, allocation.c.subnet_id.in_([leg.subnet_id for leg in mine])
        ))
    lists.update(call, router, row.id, {})
    touch.nodes(call.tx, call.cloud, (row.node,))
    return _reply(row, first.port_id, [leg.subnet_id for leg in mine], first.network_id)


def _check_unused(call: Call, row: Row[Any], legs: Sequence[Row[Any]]) -> None:
    for leg in legs:
        used = (
            sa.select(floating_ip.c.id)
            .join(allocation, sa.and_(
                allocation.c.port_id == floating_ip.c.port_id, allocation.c.ip == floating_ip.c.fixed_ip_address
            ))
            .where(floating_ip.c.router_id == row.id, allocation.c.subnet_id == leg.subnet_id).limit(1)
        )
        if call.tx.first(used) is not None:
            raise conflict(
                "RouterInterfaceInUseByFloatingIP",
                f"Router interface for subnet {leg.subnet_id} on router {row.id} cannot be deleted, as it is "
                "required by one or more floating IPs.",
            )
        cidr = ipaddress.ip_network(leg.cidr)
        if any(ipaddress.ip_address(nexthop) in cidr for _, nexthop in row.routes):
            raise conflict(
                "RouterInterfaceInUseByRoute",
                f"Router interface for subnet {leg.subnet_id} on router {row.id} cannot be deleted, as it is "
                "required by one or more routes.",
            )


