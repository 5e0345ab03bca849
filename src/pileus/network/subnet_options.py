"""What a subnet may be: its CIDR, gateway, allocation pools, routes, name servers and IPv6 modes."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import UnsetType

from pileus.network.addresses import Network, default_pools, parse, parse_network, spelled
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import HostRoute, Pool
from pileus.network.tables import subnet

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def check_cidr(tx: Tx, network_id: str, cidr: Network) -> None:
    """Subnets of one network do not overlap; those of different networks may. Raises BadRequest."""
    if cidr.prefixlen == 0:
        raise invalid("0 is not allowed as CIDR prefix length.")
    if cidr.network_address.is_multicast or cidr.network_address.is_loopback:
        raise invalid(f"{cidr} is a multicast or loopback range, which no host has addresses of.")
    rows = tx.all(sa.select(subnet.c.id, subnet.c.cidr).where(subnet.c.network_id == network_id))
    for row in rows:
        other = ipaddress.ip_network(row.cidr)
        if other.version == cidr.version and cidr.overlaps(other):
            raise invalid(
                f"Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet."
            )


def check_modes(cidr: Network, enable_dhcp: bool, ra_mode: str | None, address_mode: str | None) -> None:
    """IPv6 modes need IPv6, DHCP enabled, to be the same where both are given, and /64 for SLAAC."""
    if ra_mode is None and address_mode is None:
        return
    if cidr.version == 4:
        raise invalid("ipv6_ra_mode and ipv6_address_mode are for subnets with ip_version 6 only.")
    if not enable_dhcp:
        raise invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False.")
    if ra_mode and address_mode and ra_mode != address_mode:
        raise invalid(f"ipv6_ra_mode set to '{ra_mode}' with ipv6_address_mode set to '{address_mode}' is not valid. "
                      "If both attributes are set, they must be the same value")
    if "dhcpv6-stateful" not in (ra_mode, address_mode) and cidr.prefixlen != 64:
        raise invalid(f"Invalid CIDR {cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, which "
                      "requires the prefix to be /64")


def gateway(cidr: Network, sent: str | UnsetType | None) -> str | None:
    """The gateway: the first address unless another, or none, is asked for. Raises BadRequest."""
    if sent is None:
        return None
    if isinstance(sent, UnsetType):
        if cidr.prefixlen == cidr.max_prefixlen:
            return None
        return str(cidr.network_address if cidr.prefixlen == 31 else cidr.network_address + 1)
    found = parse(sent)
    if found.version != cidr.version:
        raise invalid(f"gateway_ip '{sent}' is not an IPv{cidr.version} address.")
    wide = cidr.version == 4 and cidr.prefixlen < 31
    if wide and found in (cidr.network_address, cidr.broadcast_address):
        raise invalid("Gateway is not valid on subnet: it is the network or the broadcast address.")
    return str(found)


def pools(cidr: Network, gateway_ip: str | None, sent: Sequence[Pool] | None) -> list[list[str]]:
    """The allocation pools, checked: inside the CIDR, apart from each other and from the gateway."""
    if sent is None:
        return default_pools(cidr, gateway_ip)
    spans = []
    for pool in sent:
        low, high = parse(pool.start), parse(pool.end)
        if low.version != cidr.version or high.version != cidr.version or int(low) > int(high):
            raise invalid(f"The allocation pool {pool.start}-{pool.end} is not valid.", "InvalidAllocationPool")
        wide = cidr.version == 4 and cidr.prefixlen < 31
        edge = wide and (low == cidr.network_address or high == cidr.broadcast_address)
        if low not in cidr or high not in cidr or edge:
            raise invalid(f"The allocation pool {pool.start}-{pool.end} spans beyond the subnet cidr {cidr}.",
                          "OutOfBoundsAllocationPool")
        spans.append((int(low), int(high), [str(low), str(high)]))
    ordered = sorted(spans)
    for before, after in itertools.pairwise(ordered):
        if after[0] <= before[1]:
            raise conflict("OverlappingAllocationPools",
                           f"Found overlapping allocation pools: {before[2]} {after[2]} for subnet {cidr}.")
    found = [texts for _, _, texts in spans]
    check_gateway_outside(gateway_ip, found)
    return found


def check_gateway_outside(gateway_ip: str | None, spans: Sequence[Sequence[str]]) -> None:
    """The gateway must not be given to a port. Raises Conflict."""
    if gateway_ip is None:
        return
    at = int(ipaddress.ip_address(gateway_ip))
    for low, high in spans:
        if int(ipaddress.ip_address(low)) <= at <= int(ipaddress.ip_address(high)):
            raise conflict("GatewayConflictWithAllocationPools",
                           f"Gateway ip {gateway_ip} conflicts with allocation pool {low}-{high}.")


def name_servers(sent: Sequence[str] | None) -> list[str]:
    """DNS servers as sent, without repeats. Raises BadRequest."""
    for text in sent or ():
        parse(text, "nameserver")
    if len(set(sent or ())) != len(sent or ()):
        raise invalid("dns_nameservers has the same address twice.")
    return list(sent or ())


def host_routes(sent: Sequence[HostRoute] | None) -> list[list[str]]:
    """[[destination, nexthop], …] as sent. The next hop need not be in the subnet. Raises BadRequest."""
    for route in sent or ():
        destination, nexthop = parse_network(route.destination, "route destination"), parse(route.nexthop)
        if destination.version != nexthop.version:
            raise invalid(f"route {route.destination} and its nexthop {route.nexthop} are of different IP versions.")
    return [[spelled(route.destination), route.nexthop] for route in sent or ()]
