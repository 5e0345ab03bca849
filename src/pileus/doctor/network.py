"""What the database says of networks, and whether the host carries it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.doctor import database
from pileus.doctor.findings import Carried, Finding, Guest, Host
from pileus.network import tables as network
from pileus.node.net import names

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_SERVICE = "network:%"
_LEGS = ("network:router_interface", "network:router_gateway")
_STATIC6 = ("dhcpv6-stateful", "dhcpv6-stateless")


def ports(tx: Tx) -> Iterator[Finding]:
    """Each compute port belongs to a living server and is bound to its host; each address has its port."""
    alive = {row.id: row for row in database.servers(tx)}
    table = network.port
    for row in tx.all(sa.select(table).where(table.c.device_owner.like("compute:%"))):
        server = alive.get(row.device_id)
        if server is None:
            yield Finding("ports", f"port {row.id}", f"belongs to server {row.device_id}, which is not there")
        elif server.host and row.host != server.host:
            yield Finding("ports", f"port {row.id}", f"is bound to '{row.host}', its server is on {server.host}")
    yield from _subports(tx)
    own = {port for server in alive.values() for port in server.own_ports}
    there = set(tx.scalars(sa.select(table.c.id)))
    for port in own - there:
        yield Finding("ports", f"port {port}", "is a server's own, and is not there")
    lost = sa.select(network.allocation.c.ip).where(~network.allocation.c.port_id.in_(sa.select(table.c.id)))
    for address in tx.scalars(lost):
        yield Finding("ports", f"address {address}", "is taken by a port that is not there")


def _branches(tx: Tx) -> list[Any]:
    """Subports with their trunk's parent."""
    below, parent, sub = network.port, network.port.alias("parent"), network.subport
    return list(tx.all(
        sa.select(below.c.id, below.c.host, parent.c.id.label("parent_id"), parent.c.host.label("parent_host"))
        .join(sub, sub.c.port_id == below.c.id).join(network.trunk, network.trunk.c.id == sub.c.trunk_id)
        .join(parent, parent.c.id == network.trunk.c.port_id)
    ))


def _subports(tx: Tx) -> Iterator[Finding]:
    """Each subport is bound where its trunk's parent is."""
    for row in _branches(tx):
        if row.host != row.parent_host:
            yield Finding("ports", f"subport {row.id}", f"is bound to '{row.host}', its parent {row.parent_id} to "
                                                        f"'{row.parent_host}'")


def floating_ips(tx: Tx) -> Iterator[Finding]:
    """Each floating IP is whole at both ends."""
    held: dict[str, set[str]] = {}
    for row in tx.all(sa.select(network.allocation.c.port_id, network.allocation.c.ip)):
        held.setdefault(row.port_id, set()).add(row.ip)
    routers = {row.id: row for row in tx.all(sa.select(network.router))}
    outside = {
        row.id: row.device_id for row in tx.all(
            sa.select(network.port).where(network.port.c.device_owner == "network:floatingip")
        )
    }
    rows = tx.all(sa.select(network.floating_ip))
    for row in rows:
        thing = f"floating IP {row.floating_ip_address}"
        if row.floating_ip_address not in held.get(row.floating_port_id, ()):
            yield Finding("floating", thing, f"its port {row.floating_port_id} does not have the address")
        if row.port_id is None:
            continue
        if row.fixed_ip_address not in held.get(row.port_id, ()):
            yield Finding("floating", thing, f"leads to {row.fixed_ip_address}, which port {row.port_id} does not have")
        router = routers.get(row.router_id)
        if router is None or router.gateway_network_id != row.floating_network_id:
            yield Finding("floating", thing, f"goes through router {row.router_id}, which does not lead there")
    for port in outside.keys() - {row.floating_port_id for row in rows}:
        yield Finding("floating", f"port {port}", "is a floating IP's, and that is not there")


def security_groups(tx: Tx) -> Iterator[Finding]:
    """Whoever has guests' ports has one default group; memberships are of groups that are there."""
    groups = {row.id: row for row in tx.all(sa.select(network.security_group))}
    defaults = {row.default_of for row in groups.values() if row.default_of}
    guests = sa.select(network.port.c.project_id).where(network.port.c.device_owner.like("compute:%")).distinct()
    for project in set(tx.scalars(guests)) - defaults:
        yield Finding("groups", f"project {project}", "has guests, and no default security group")
    for row in groups.values():
        if row.default_of and row.default_of != row.project_id:
            yield Finding("groups", f"security group {row.id}", f"is the default of {row.default_of}, and not its own")
    members = set(tx.scalars(sa.select(network.port_group.c.group_id).distinct()))
    for lost in members - groups.keys():
        yield Finding("groups", f"security group {lost}", "has ports, and is not there")


def carried(tx: Tx, host: Host, seen: Carried) -> Iterator[Finding]:
    """The host's namespaces, taps, DHCP servers and routers' addresses are what they shall be."""
    wanted = _networks(tx, host.nodes)
    routers = {row.id: row for row in tx.all(sa.select(network.router).where(network.router.c.node.in_(host.nodes)))}
    yield from _both("network", wanted, seen.networks)
    yield from _both("router", set(routers), seen.routers)
    yield from _taps(tx, host.nodes, host.guests, seen.taps)
    served = {names.network_namespace(host.prefix, network_id) for network_id in _served(tx, host.nodes) & wanted}
    announcing = {names.router_namespace(host.prefix, router_id) for router_id in routers}
    for namespace in served:
        count = seen.dhcp.get(namespace, 0)
        if count != 1:
            yield Finding("dhcp", f"namespace {namespace}", f"has {count} DHCP servers, not 1")
    for namespace in seen.dhcp.keys() - served - announcing:
        yield Finding("dhcp", f"namespace {namespace}", "has a DHCP server, and nothing asks for it")
    active = sa.select(network.floating_ip).where(network.floating_ip.c.port_id.is_not(None))
    for row in tx.all(active):
        if row.router_id in routers and row.floating_ip_address not in seen.addresses.get(row.router_id, ()):
            yield Finding("floating", f"floating IP {row.floating_ip_address}", f"router {row.router_id} lacks it")


def _both(kind: str, wanted: set[str], there: frozenset[str]) -> Iterator[Finding]:
    for thing in there - wanted:
        yield Finding("network", f"{kind} {thing}", "is on the host, and nothing asks for it")
    for thing in wanted - there:
        yield Finding("network", f"{kind} {thing}", "should be on the host, and is not")


def _guest_ports(tx: Tx, nodes: tuple[str, ...]) -> list[Any]:
    table = network.port
    return list(tx.all(sa.select(table).where(table.c.host.in_(nodes), table.c.device_owner.not_like(_SERVICE))))


def _networks(tx: Tx, nodes: tuple[str, ...]) -> set[str]:
    """The networks that a guest or a router here is on, and those that are served here and have a guest anywhere."""
    table, guest = network.port, network.port.alias("guest")
    legs = sa.select(table.c.network_id).where(table.c.host.in_(nodes), table.c.device_owner.in_(_LEGS))
    served = sa.select(network.network.c.id).where(
        network.network.c.node.in_(nodes),
        sa.exists().where(
            guest.c.network_id == network.network.c.id, guest.c.host != "", guest.c.device_owner.not_like(_SERVICE)
        ),
    )
    found = {row.network_id for row in _guest_ports(tx, nodes)}
    return found | set(tx.scalars(legs)) | set(tx.scalars(served))


def _served(tx: Tx, nodes: tuple[str, ...]) -> set[str]:
    """The networks whose DHCP is served here."""
    dhcp = network.port.alias("dhcp")
    hands_out = sa.or_(network.subnet.c.ip_version == 4, network.subnet.c.ipv6_address_mode.in_(_STATIC6))
    return set(tx.scalars(
        sa.select(network.network.c.id).where(
            network.network.c.node.in_(nodes),
            sa.exists().where(
                network.subnet.c.network_id == network.network.c.id, network.subnet.c.enable_dhcp.is_(True), hands_out
            ),
            sa.exists().where(dhcp.c.network_id == network.network.c.id, dhcp.c.device_owner == "network:dhcp"),
        )
    ))


def _taps(tx: Tx, nodes: tuple[str, ...], guests: dict[str, Guest], there: frozenset[str]) -> Iterator[Finding]:
    """The taps are those of the running guests' ports, and each trunk's subports have a device on the parent's."""
    wanted = {
        row.id: row.device_id for row in _guest_ports(tx, nodes)
        if row.device_id in guests and guests[row.device_id].running
    }
    wanted |= {row.id: wanted[row.parent_id] for row in _branches(tx) if row.parent_id in wanted}
    for port in wanted.keys() - there:
        yield Finding("taps", f"port {port}", f"its server {wanted[port]} runs, and there is no tap")
    for port in there - wanted.keys():
        yield Finding("taps", f"port {port}", "has a tap, and no running guest has the port")
