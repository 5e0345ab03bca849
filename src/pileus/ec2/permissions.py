"""Authorize and revoke: permissions asked for, as rules of the group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pileus.ec2 import ids, permissions_view, security_groups
from pileus.ec2.faults import refused
from pileus.ec2.permissions_view import ANY, ICMP, ICMPV6, TCP, UDP, Perm
from pileus.ec2.schemas import GroupPair, IpRange, Permission, Permissions, Revocation
from pileus.network import security_group_rules
from pileus.network.belongings import GroupInfo
from pileus.network.schemas import RuleNew
from pileus.network.security_group_rules import PROTOCOLS
from pileus.web.call import Call


def authorize_ingress(call: Call, params: Permissions) -> dict[str, Any]:
    """AuthorizeSecurityGroupIngress."""
    return _authorize(call, params, False)


def authorize_egress(call: Call, params: Permissions) -> dict[str, Any]:
    """AuthorizeSecurityGroupEgress."""
    return _authorize(call, params, True)


def revoke_ingress(call: Call, params: Revocation) -> dict[str, Any]:
    """RevokeSecurityGroupIngress."""
    return _revoke(call, params, False)


def revoke_egress(call: Call, params: Revocation) -> dict[str, Any]:
    """RevokeSecurityGroupEgress."""
    return _revoke(call, params, True)


def _authorize(call: Call, params: Permissions, egress: bool) -> dict[str, Any]:
    group = security_groups.one(call, group_id=params.group_id, group_name=params.group_name)
    there = {permissions_view.perm(rule) for rule in group.rules}
    made: list[str] = []
    for perm, description in _asked(call, params, egress):
        if perm in there:
            raise refused("InvalidPermission.Duplicate", f"the specified rule \"{_words(perm)}\" already exists")
        there.add(perm)
        made += _rules(call, group, perm, description)
    after = security_groups.one(call, group_id=ids.write(ids.GROUP, group.id))
    return {"return": True, "securityGroupRuleSet": [
        permissions_view.rule_view(after, rule) for rule in after.rules if rule.id in made
    ]}


def _rules(call: Call, group: GroupInfo, perm: Perm, description: str) -> list[str]:
    """Make the rules that a permission is: one, or for another group's members one for each IP version."""
    if perm.prefix is not None:
        versions = ["IPv6" if ":" in perm.prefix else "IPv4"]
    else:
        versions = {ICMP: ["IPv4"], ICMPV6: ["IPv6"]}.get(perm.protocol, ["IPv4", "IPv6"])
    return [
        security_group_rules.make(call, RuleNew(
            security_group_id=group.id, direction="egress" if perm.egress else "ingress", ethertype=version,
            protocol=None if perm.protocol == ANY else perm.protocol, port_range_min=_bound(perm.low),
            port_range_max=_bound(perm.high), remote_group_id=perm.group, remote_ip_prefix=perm.prefix,
            description=description,
        ))
        for version in versions
    ]


def _bound(number: int | None) -> int | None:
    return None if number == -1 else number


def _revoke(call: Call, params: Revocation, egress: bool) -> dict[str, Any]:
    if params.security_group_rule_id and (params.ip_permissions or params.ip_protocol or params.cidr_ip):
        raise refused("InvalidParameterCombination", "Name either rules by id or permissions")
    group = security_groups.one(call, group_id=params.group_id, group_name=params.group_name)
    rules = [(permissions_view.perm(rule), rule.id) for rule in group.rules]
    doomed: dict[str, None] = {}
    for text in params.security_group_rule_id:
        identity = ids.read(ids.RULE, text)
        if (egress, identity) not in {(perm.egress, one) for perm, one in rules}:
            raise ids.missing(ids.RULE, text)
        doomed[identity] = None
    for perm, _ in () if params.security_group_rule_id else _asked(call, params, egress):
        same = [identity for there, identity in rules if there == perm]
        if not same:
            raise refused("InvalidPermission.NotFound", f"The specified rule \"{_words(perm)}\" does not exist in this "
                                                        "security group.")
        doomed |= dict.fromkeys(same)
    for identity in doomed:
        security_group_rules.drop(call, identity)
    return {"return": True}


def _words(perm: Perm) -> str:
    place = perm.prefix or ids.write(ids.GROUP, perm.group or "")
    return f"{place}, {perm.protocol}, {perm.low} to {perm.high}"


# -- what was asked for


def _asked(call: Call, params: Permissions, egress: bool) -> Iterator[tuple[Perm, str]]:
    """Every permission with its description. Raises BadRequest."""
    given = list(params.ip_permissions)
    if params.ip_protocol is not None or params.cidr_ip is not None:
        if given or params.ip_protocol is None or params.cidr_ip is None:
            raise refused("InvalidParameterCombination", "IpProtocol and CidrIp go together, without IpPermissions")
        given = [Permission(
            ip_protocol=params.ip_protocol, from_port=params.from_port, to_port=params.to_port,
            ip_ranges=[IpRange(cidr_ip=params.cidr_ip)],
        )]
    if not given:
        raise refused("MissingParameter", "The request must contain the parameter IpPermissions")
    for one in given:
        protocol = _protocol(one.ip_protocol)
        low, high = _ports(one, protocol)
        if not (one.ip_ranges or one.ipv6_ranges or one.groups):
            raise refused("MissingParameter", "A permission needs IpRanges, Ipv6Ranges or Groups")
        for v4 in one.ip_ranges:
            yield Perm(egress, protocol, low, high, _prefix(v4.cidr_ip, 4), None), v4.description
        for v6 in one.ipv6_ranges:
            yield Perm(egress, protocol, low, high, _prefix(v6.cidr_ipv6, 6), None), v6.description
        for pair in one.groups:
            yield Perm(egress, protocol, low, high, None, _other(call, pair)), pair.description


def _protocol(text: str) -> str:
    lower = text.lower()
    if lower in (ANY, "all"):
        return ANY
    number = PROTOCOLS.get(lower)
    if number is None and lower.isascii() and lower.isdigit() and len(lower) < 4 and int(lower) <= 255:
        number = int(lower)
    if number is None:
        raise refused("InvalidPermission.Malformed", f"Invalid value '{text[:80]}' for IP protocol.")
    return permissions_view.protocol_name(number)


def _ports(one: Permission, protocol: str) -> tuple[int | None, int | None]:
    """The ports, or ICMP's type and code; for other protocols there are none, whatever was sent, as AWS has it."""
    if protocol in (ICMP, ICMPV6):
        kind, code = -1 if one.from_port is None else one.from_port, -1 if one.to_port is None else one.to_port
        if kind > 255 or code > 255 or (kind == -1 and code != -1):
            raise refused("InvalidPermission.Malformed", f"ICMP type {kind} with code {code} is not possible")
        return kind, code
    if protocol not in (TCP, UDP):
        return None, None
    if one.from_port is None or one.to_port is None or not 0 <= one.from_port <= one.to_port:
        raise refused("InvalidPermission.Malformed", f"{protocol} needs FromPort and ToPort, from 0 to 65535 and in "
                                                     "this order")
    return one.from_port, one.to_port


def _prefix(text: str, version: int) -> str:
    try:
        found = permissions_view.prefix_of(text) if "/" in text and "%" not in text else ""
    except ValueError:
        found = ""
    if not found or (":" in found) != (version == 6):
        raise refused("InvalidParameterValue", f"CIDR block {text[:80]} is malformed")
    return found


def _other(call: Call, pair: GroupPair) -> str:
    if pair.user_id is not None and pair.user_id != call.context.project_id:
        raise refused("InvalidGroup.NotFound", "A group of another project cannot be named here")
    return security_groups.one(call, group_id=pair.group_id, group_name=pair.group_name).id
