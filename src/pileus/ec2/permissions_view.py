"""Rules of security groups as EC2's permissions: one form for what is there and for what is asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec

from pileus.ec2 import ids
from pileus.network.belongings import GroupInfo, RuleInfo
from pileus.network.security_group_rules import PROTOCOLS

ANY, ICMP, TCP, UDP, ICMPV6 = "-1", "icmp", "tcp", "udp", "icmpv6"

_NAMES = {1: ICMP, 6: TCP, 17: UDP, 58: ICMPV6}
_ALL = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}


class Perm(msgspec.Struct, frozen=True):
    """One protocol with its ports, from or to one place. Two that are equal let the same through."""

    egress: bool
    protocol: str  # tcp, udp, icmp, icmpv6, a number, or -1: any
    low: int | None  # -1: any type or code of ICMP
    high: int | None
    prefix: str | None
    group: str | None  # the UUID of the other group

    @property
    def ports(self) -> tuple[str, int | None, int | None]:
        return self.protocol, self.low, self.high


def protocol_name(number: int) -> str:
    """How EC2 writes a protocol."""
    return _NAMES.get(number, str(number))


def prefix_of(text: str) -> str:
    """A CIDR with its host bits cut off. Raises ValueError."""
    return str(ipaddress.ip_network(text, strict=False))


def perm(rule: RuleInfo) -> Perm:
    """A rule as a permission."""
    protocol = ANY
    if rule.protocol is not None:
        number = PROTOCOLS.get(rule.protocol)
        protocol = protocol_name(int(rule.protocol) if number is None else number)
    low, high = rule.low, rule.high
    if protocol in (TCP, UDP):
        low, high = (0, 65535) if low is None else (low, high)
    elif protocol in (ICMP, ICMPV6):
        low, high = -1 if low is None else low, -1 if high is None else high
    prefix = None
    if rule.remote_group_id is None:
        prefix = prefix_of(rule.remote_prefix) if rule.remote_prefix else _ALL[rule.ethertype]
    return Perm(rule.direction == "egress", protocol, low, high, prefix, rule.remote_group_id)


def merged(group: GroupInfo, names: Mapping[str, str], egress: bool) -> list[dict[str, Any]]:
    """`ipPermissions`: what has the same protocol and ports is one item."""
    found: dict[tuple[str, int | None, int | None], dict[Perm, str]] = {}
    for rule in group.rules:
        one = perm(rule)
        if one.egress == egress:
            found.setdefault(one.ports, {}).setdefault(one, rule.description)
    return [_item(ports, places, group, names) for ports, places in found.items()]


def _item(
    ports: tuple[str, int | None, int | None], places: Mapping[Perm, str], group: GroupInfo, names: Mapping[str, str]
) -> dict[str, Any]:
    item: dict[str, Any] = {"ipProtocol": ports[0], "fromPort": ports[1], "toPort": ports[2]}
    item |= {"groups": [], "ipRanges": [], "ipv6Ranges": [], "prefixListIds": []}
    for one, description in places.items():
        note = {"description": description or None}
        if one.group is not None:
            item["groups"].append({
                "userId": group.project_id, "groupId": ids.write(ids.GROUP, one.group),
                "groupName": names.get(one.group), **note,
            })
        elif one.prefix is not None and ":" in one.prefix:
            item["ipv6Ranges"].append({"cidrIpv6": one.prefix, **note})
        else:
            item["ipRanges"].append({"cidrIp": one.prefix, **note})
    return item


def rule_view(group: GroupInfo, rule: RuleInfo) -> dict[str, Any]:
    """An item of a `securityGroupRuleSet`."""
    one = perm(rule)
    v6 = one.prefix is not None and ":" in one.prefix
    return {
        "securityGroupRuleId": ids.write(ids.RULE, rule.id), "groupId": ids.write(ids.GROUP, group.id),
        "groupOwnerId": group.project_id, "isEgress": one.egress, "ipProtocol": one.protocol, "fromPort": one.low,
        "toPort": one.high, "cidrIpv4": None if v6 else one.prefix, "cidrIpv6": one.prefix if v6 else None,
        "referencedGroupInfo": {"groupId": ids.write(ids.GROUP, one.group), "userId": group.project_id}
        if one.group is not None else None,
        "description": rule.description or None,
    }
