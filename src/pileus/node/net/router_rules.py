"""A router's nft ruleset: what it translates, and what it keeps for itself."""

from __future__ import annotations

import ipaddress

from pileus.node.contract import RouterState
from pileus.node.net import names
from pileus.node.net.ruleset import Chain, Container, Ruleset, Table

TABLE = "pileus"


def gateway_address(router: RouterState) -> str | None:
    """The IPv4 address, without prefix, that the router's guests appear under outside."""
    for text in router.gateway.addresses if router.gateway else ():
        if ":" not in text:
            return text.partition("/")[0]
    return None


def render(router: RouterState) -> Ruleset:
    """SNAT, floating IPs one to one, and a closed door on the router's own services."""
    # Two floating IPs of one fixed address would give a map two values for a key: the first one leaves.
    outward: dict[str, str] = {}
    for floating in router.floating_ips:
        outward.setdefault(floating.fixed_ip, floating.floating_ip)
    inward = frozenset(f"{floating.floating_ip} : {floating.fixed_ip}" for floating in router.floating_ips)
    nat = Table(
        "ip",
        TABLE,
        {
            "to_fixed": Chain(
                ("dnat to ip daddr map @inward",), "type nat hook prerouting priority -100; policy accept;"
            ),
            "to_floating": Chain(
                tuple(_source_rules(router)), "type nat hook postrouting priority 100; policy accept;"
            ),
        },
        {
            "inward": Container("map", "ipv4_addr : ipv4_addr", inward),
            "outward": Container(
                "map", "ipv4_addr : ipv4_addr", frozenset(f"{fixed} : {public}" for fixed, public in outward.items())
            ),
        },
    )
    return (nat, _filter(router))


def _source_rules(router: RouterState) -> list[str]:
    if router.gateway is None:
        return []
    outside = f'oifname "{names.router_leg(router.gateway.port_id, gateway=True)}"'
    rules = [f"{outside} ct status dnat accept", f"{outside} snat to ip saddr map @outward"]
    address = gateway_address(router)
    if address is not None:
        if router.enable_snat:
            rules.append(f"{outside} snat to {address}")
        # A guest that calls a floating IP of its own router must get the answer through the router too.
        rules.append(f'iifname "qr-*" oifname "qr-*" ct status dnat snat to {address}')
    return rules


def _filter(router: RouterState) -> Table:
    """Only the tenant's side may speak to the router's metadata and DHCP servers."""
    rules = ["ct state established,related accept", 'iifname { "lo" } accept']
    if router.gateway is not None:
        leg = names.router_leg(router.gateway.port_id, gateway=True)
        rules += [
            f'iifname "{leg}" ip daddr {names.METADATA4} drop',
            f'iifname "{leg}" meta l4proto {{ 6, 17 }} drop',
        ]
    return Table(
        "inet", TABLE, {"own": Chain(tuple(rules), "type filter hook input priority 0; policy accept;")}, {}
    )


def floating_addresses(router: RouterState) -> set[str]:
    """The floating IPs as the gateway's interface holds them."""
    if router.gateway is None:
        return set()
    return {f"{ipaddress.ip_address(floating.floating_ip)}/32" for floating in router.floating_ips}
