"""Security group rules: as nft text, and as a judgement on a connection that already exists."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from pileus.node.contract import NodeFault, RuleState, SecurityGroupState

_PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17,
    "udplite": 136, "vrrp": 112,
}  # fmt: skip
_ICMP = (1, 58)
_WITH_PORTS = (6, 17, 33, 132, 136)


class Flow(msgspec.Struct, frozen=True):
    """A tracked connection as its first packet saw it; for ICMP the ports are type and code."""

    protocol: int
    source: str
    destination: str
    source_port: int = 0
    port: int = 0  # destination port, or ICMP type
    code: int = 0
    mark: int = 0
    key: bytes = b""  # the kernel's own form of the tuple, to name the connection by
    reply_source: str = ""
    reply_destination: str = ""


def protocol_number(rule: RuleState) -> int | None:
    """The protocol of a rule by number; None: any. "icmp" in an IPv6 rule means ICMPv6, as in Neutron."""
    if rule.protocol is None or rule.protocol in ("any", "0"):
        return None
    name = rule.protocol.lower()
    number = int(name) if name.isdigit() else _PROTOCOLS.get(name)
    if number is None or not 0 <= number <= 255:
        raise NodeFault(f"security group rule {rule.id}: protocol {rule.protocol!r} is not known")
    return 58 if number == 1 and rule.ethertype == "IPv6" else number


def member_set(group_id: str, ethertype: str) -> str:
    """Name of the set with the addresses of a group's members."""
    return f"m{ethertype[-1]}_{group_id.replace('-', '')}"


def rule_text(rule: RuleState, remote_groups: dict[str, SecurityGroupState]) -> str | None:
    """One nft rule that accepts what the security group rule allows; None if it can match nothing."""
    six = rule.ethertype == "IPv6"
    words = [f"meta nfproto {'ipv6' if six else 'ipv4'}"]
    address = f"{'ip6' if six else 'ip'} {'saddr' if rule.direction == 'ingress' else 'daddr'}"
    if rule.remote_group is not None:
        if rule.remote_group not in remote_groups:
            return None
        words.append(f"{address} @{member_set(rule.remote_group, rule.ethertype)}")
    elif rule.remote_cidr is not None:
        network = ipaddress.ip_network(rule.remote_cidr, strict=False)
        if network.prefixlen:
            words.append(f"{address} {network}")
    number = protocol_number(rule)
    if number is not None:
        words.append(f"meta l4proto {number}")
        words += _ports(rule, number)
    return " ".join([*words, "accept"])


def _ports(rule: RuleState, number: int) -> list[str]:
    if rule.port_min is None:
        return []
    if number in _ICMP:
        kind = "icmp" if number == 1 else "icmpv6"
        words = [f"{kind} type {rule.port_min}"]
        return words if rule.port_max is None else [*words, f"{kind} code {rule.port_max}"]
    if number not in _WITH_PORTS:
        return []
    last = rule.port_max if rule.port_max is not None else rule.port_min
    return [f"th dport {rule.port_min}" + (f"-{last}" if last != rule.port_min else "")]


def allows(
    rules: Iterable[RuleState], direction: str, flow: Flow, remote_groups: dict[str, SecurityGroupState]
) -> bool:
    """Whether any rule of this direction would let the connection's first packet pass."""
    remote = ipaddress.ip_address(flow.source if direction == "ingress" else flow.destination)
    ethertype = f"IPv{remote.version}"
    return any(
        _matches(rule, flow, remote, remote_groups)
        for rule in rules
        if rule.direction == direction and rule.ethertype == ethertype
    )


def _matches(
    rule: RuleState,
    flow: Flow,
    remote: ipaddress.IPv4Address | ipaddress.IPv6Address,
    remote_groups: dict[str, SecurityGroupState],
) -> bool:
    if rule.remote_group is not None:
        group = remote_groups.get(rule.remote_group)
        members = group.members if group else ()
        if not any(remote in ipaddress.ip_network(member, strict=False) for member in members):
            return False
    elif rule.remote_cidr is not None and remote not in ipaddress.ip_network(rule.remote_cidr, strict=False):
        return False
    number = protocol_number(rule)
    if number is None:
        return True
    if number != flow.protocol:
        return False
    if rule.port_min is None or number not in (*_ICMP, *_WITH_PORTS):
        return True
    if number in _ICMP:
        return rule.port_min == flow.port and rule.port_max in (None, flow.code)
    return rule.port_min <= flow.port <= (rule.port_max if rule.port_max is not None else rule.port_min)
