"""Rules of security groups."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import addresses, lists, quotas, security_groups, sharing, touch, views
from pileus.network.faults import conflict, invalid, not_found
from pileus.network.schemas import RuleNew, number
from pileus.network.tables import security_group, security_group_rule
from pileus.web.call import Call

_c = security_group_rule.c

PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "hopopt": 0, "icmp": 1, "icmpv6": 58, "igmp": 2, "ip": 0,
    "ipip": 4, "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136,
    "vrrp": 112,
}
"""IANA's numbers of the protocols that Neutron knows by name."""

_WITH_PORTS = (6, 17, 33, 132, 136)
_ICMP = (1, 58)
_ONLY_V6 = (41, 43, 44, 58, 59, 60)


def _visible(call: Call) -> lists.Clause:
    own = sharing.own(call.context)
    mine = sa.select(security_group.c.id).where(security_group.c.project_id == own)
    return sa.or_(_c.project_id == own, _c.security_group_id.in_(mine))


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [views.rule(row) for row in rows]


NOUN = lists.Noun(
    name="security_group_rule", plural="security_group_rules", title="Security group rule",
    error="SecurityGroupRuleNotFound", table=security_group_rule, visible=_visible, render=_render, taggable=False,
    before_list=security_groups.ensure_own_default,
    filters={
        **lists.standard(security_group_rule), "security_group_id": lists.text(_c.security_group_id),
        "direction": lists.text(_c.direction), "ethertype": lists.text(_c.ethertype),
        "protocol": lists.text(_c.protocol), "port_range_min": lists.integer(_c.port_range_min),
        "port_range_max": lists.integer(_c.port_range_max), "remote_group_id": lists.text(_c.remote_group_id),
        "remote_ip_prefix": lists.text(_c.remote_ip_prefix), "remote_address_group_id": lists.nothing,
    },
    sorts=lists.sorts(security_group_rule, "security_group_id", "direction", "ethertype", "protocol",
                      "port_range_min", "port_range_max", "remote_group_id", "remote_ip_prefix"),
)


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/security-group-rules: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/security-group-rules/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/security-group-rules: 201."""
    return lists.create_all(call, NOUN, make)


def make(call: Call, new: RuleNew) -> str:
    """A new rule, for other rooms too; its id. Raises BadRequest, NotFound, Conflict, OverQuota."""
    lists.owner(call, new, "create_security_group_rule")
    ethertype = _ethertype(new.ethertype)
    protocol, proto_number = _protocol(new.protocol)
    low = None if new.port_range_min is None else number(new.port_range_min)
    high = None if new.port_range_max is None else number(new.port_range_max)
    _check_ports(protocol, proto_number, low, high)
    if proto_number in _ONLY_V6 and ethertype == "IPv4":
        raise invalid(f"Invalid ethertype {ethertype} for protocol {protocol}.",
                      "SecurityGroupEthertypeConflictWithProtocol")
    prefix = _prefix(new.remote_ip_prefix, ethertype)
    if prefix and new.remote_group_id:
        raise invalid("Only remote_ip_prefix or remote_group_id may be provided.",
                      "SecurityGroupMultipleRemoteEntites")
    group = lists.find(call, security_groups.NOUN, new.security_group_id)
    if new.remote_group_id:
        lists.find(call, security_groups.NOUN, new.remote_group_id)
    identity = security_groups.sameness(
        new.direction, ethertype, None if proto_number is None else str(proto_number), low, high,
        new.remote_group_id or None, views.normalized(prefix),
    )
    same = call.tx.first(sa.select(_c.id).where(_c.security_group_id == group.id, _c.identity == identity))
    if same is not None:
        raise conflict("SecurityGroupRuleExists", f"Security group rule already exists. Rule id is {same.id}.")
    quotas.room(call.tx, call.cloud, group.project_id, {"security_group_rule": 1})
    row = {
        **lists.base(call, group.project_id, new.description), "security_group_id": group.id,
        "direction": new.direction, "ethertype": ethertype, "protocol": protocol, "port_range_min": low,
        "port_range_max": high, "remote_group_id": new.remote_group_id or None, "remote_ip_prefix": prefix,
        "identity": identity,
    }
    call.tx.execute(security_group_rule.insert(), row)
    lists.update(call, security_group, group.id, {})
    touch.security_groups(call.tx, call.cloud, [group.id])
    return str(row["id"])


def _ethertype(text: str | None) -> str:
    for known in ("IPv4", "IPv6"):
        if (text or "IPv4").lower() == known.lower():
            return known
    raise invalid(f"Security group rule for ethertype '{text}' not supported. Allowed values are ['IPv4', 'IPv6'].",
                  "SecurityGroupRuleInvalidEtherType")


def _protocol(sent: int | str | None) -> tuple[str | None, int | None]:
    """The protocol as it is shown, and its number; (None, None): any."""
    if sent is None or sent in ("", "any", "-1", -1):
        return None, None
    text = str(sent).lower()
    if text in PROTOCOLS:
        return text, PROTOCOLS[text]
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= 255:
        return str(int(text)), int(text)
    raise invalid(
        f"Security group rule protocol {sent} not supported. Only protocol values [None, {', '.join(PROTOCOLS)}] and "
        "integer representations [0 to 255] are supported.", "SecurityGroupRuleInvalidProtocol",
    )


def _check_ports(protocol: str | None, proto_number: int | None, low: int | None, high: int | None) -> None:
    for value in (low, high):
        if value is not None and not 0 <= value <= 65535:
            raise invalid(f"Invalid value for port {value}", "SecurityGroupInvalidPortValue")
    if low is None and high is None:
        return
    if proto_number is None:
        raise invalid("Must also specify protocol if port range is given.", "SecurityGroupProtocolRequiredWithPorts")
    if proto_number in _ICMP:
        _check_icmp(low, high)
    elif proto_number not in _WITH_PORTS:
        raise invalid(f"Invalid protocol {protocol} for port range, only supported for TCP, UDP, UDPLITE, SCTP and "
                      "DCCP.", "SecurityGroupInvalidProtocolForPort")
    elif low is None or high is None or low > high:
        raise invalid("For TCP/UDP protocols, port_range_min must be <= port_range_max",
                      "SecurityGroupInvalidPortRange")


def _check_icmp(kind: int | None, code: int | None) -> None:
    for name, field, value in (("type", "port_range_min", kind), ("code", "port_range_max", code)):
        if value is not None and value > 255:
            raise invalid(f"Invalid value for ICMP {name} ({field}) {value}. It must be 0 to 255.",
                          "SecurityGroupInvalidIcmpValue")
    if kind is None:
        raise invalid(f"ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing.",
                      "SecurityGroupMissingIcmpType")


def _prefix(sent: str | None, ethertype: str) -> str | None:
    """A CIDR as sent; a bare address is a host's."""
    if not sent:
        return None
    try:
        if sent.isdigit() or "%" in sent:
            raise ValueError
        found = ipaddress.ip_network(sent, strict=False)
    except ValueError:
        raise invalid(f"The remote IP prefix '{sent}' is not a valid CIDR.", "InvalidCIDR") from None
    if found.version != (4 if ethertype == "IPv4" else 6):
        raise invalid(f"Conflicting value ethertype {ethertype} for CIDR {sent}",
                      "SecurityGroupRuleParameterConflict")
    return addresses.spelled(sent) if "/" in sent else str(found)


def delete(call: Call) -> None:
    """DELETE /v2.0/security-group-rules/{id}: 204."""
    drop(call, call.params["id"])


def drop(call: Call, identity: str) -> None:
    """Delete a rule, for other rooms too. Raises NotFound, Forbidden."""
    row = lists.find(call, NOUN, identity)
    group = call.tx.first(sa.select(security_group).where(security_group.c.id == row.security_group_id))
    if group is None:
        raise not_found(NOUN.error, NOUN.title, row.id)
    call.enforce("delete_security_group_rule", project_id=group.project_id)
    call.tx.execute(security_group_rule.delete().where(_c.id == row.id))
    lists.update(call, security_group, group.id, {})
    touch.security_groups(call.tx, call.cloud, [group.id])
