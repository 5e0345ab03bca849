"""Security groups as compute had them up to 2.35: the network service's, of which only ingress rules show."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from pileus.compute.proxy import ask
from pileus.compute.schemas_rest import Limited, SecurityGroupText, SecurityRuleNew, is_uuid, number
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict

_GROUPS = "/v2.0/security-groups"
_RULES = "/v2.0/security-group-rules"

# -- for other modules


def group_view(group: dict[str, Any], names: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A group of the network service in compute's old shape. `names` has name and tenant_id of groups by id."""
    return {
        "id": group["id"], "name": group["name"], "description": group["description"] or "",
        "tenant_id": group["project_id"],
        "rules": [rule_view(rule, names) for rule in group["security_group_rules"] if rule["direction"] == "ingress"],
    }


def rule_view(rule: dict[str, Any], names: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A rule of the network service in compute's old shape, where every port is -1 to -1 or 1 to 65535."""
    protocol, first, last = rule["protocol"], rule["port_range_min"], rule["port_range_max"]
    if protocol and first is None:
        first, last = (1, 65535) if protocol in ("tcp", "udp") else (-1, -1)
    shown: dict[str, Any] = {
        "id": rule["id"], "parent_group_id": rule["security_group_id"], "ip_protocol": protocol, "from_port": first,
        "to_port": last, "group": {}, "ip_range": {},
    }
    remote = rule.get("remote_group_id")
    if remote is not None:
        shown["group"] = names.get(remote, {})
    else:
        anywhere = "::/0" if rule["ethertype"] == "IPv6" else "0.0.0.0/0"
        shown["ip_range"] = {"cidr": rule["remote_ip_prefix"] or anywhere}
    return shown


async def names_of(call: Call, groups: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Name and tenant_id of the groups and of those that their rules name, by id."""
    known = {group["id"]: group for group in groups}
    wanted = {
        rule["remote_group_id"] for group in groups for rule in group["security_group_rules"]
        if rule.get("remote_group_id")
    } - set(known)
    if wanted:
        query = [("id", group_id) for group_id in sorted(wanted)]
        found = await ask(call, "network", "GET", _GROUPS, query=query)
        known |= {group["id"]: group for group in found["security_groups"]}
    return {key: {"name": group["name"], "tenant_id": group["project_id"]} for key, group in known.items()}


# -- handlers


async def index(call: Call) -> dict[str, Any]:
    """GET /os-security-groups: 200. Administrators see all projects' with `all_tenants`."""
    query: Limited = call.query
    pairs = [] if query.all_tenants and call.context.is_admin else [("project_id", call.context.project_id or "")]
    found = (await ask(call, "network", "GET", _GROUPS, query=pairs))["security_groups"]
    names = await names_of(call, found)
    shown = sorted((group_view(group, names) for group in found), key=lambda g: (g["tenant_id"], g["name"]))
    return {"security_groups": shown[query.offset :][: query.limit]}


def _id(call: Call, name: str) -> str:
    wanted = call.params[name]
    if not is_uuid(wanted):
        raise BadRequest(f"Security group id should be uuid, not {wanted}.")
    return wanted


async def _shown(call: Call, group: dict[str, Any]) -> dict[str, Any]:
    return {"security_group": group_view(group, await names_of(call, [group]))}


async def show(call: Call) -> dict[str, Any]:
    """GET /os-security-groups/{group_id}: 200."""
    found = await ask(call, "network", "GET", f"{_GROUPS}/{_id(call, 'group_id')}")
    return await _shown(call, found["security_group"])


def _text(body: SecurityGroupText) -> dict[str, str]:
    if not body.name.strip():
        raise BadRequest("Security group name cannot be empty.")
    return {"name": body.name, "description": body.description or ""}


async def create(call: Call) -> dict[str, Any]:
    """POST /os-security-groups: 200."""
    body = {"security_group": _text(call.body.security_group)}
    return await _shown(call, (await ask(call, "network", "POST", _GROUPS, body))["security_group"])


async def update(call: Call) -> dict[str, Any]:
    """PUT /os-security-groups/{group_id}: 200."""
    body = {"security_group": _text(call.body.security_group)}
    found = await ask(call, "network", "PUT", f"{_GROUPS}/{_id(call, 'group_id')}", body)
    return await _shown(call, found["security_group"])


async def delete(call: Call) -> None:
    """DELETE /os-security-groups/{group_id}: 202. Raises BadRequest for the default group and one in use."""
    try:
        await ask(call, "network", "DELETE", f"{_GROUPS}/{_id(call, 'group_id')}")
    except Conflict as problem:
        raise BadRequest(problem.message) from None


async def create_rule(call: Call) -> dict[str, Any]:
    """POST /os-security-group-rules: 200. An ingress rule, for a group or for a CIDR."""
    new: SecurityRuleNew = call.body.security_group_rule
    parent = await ask(call, "network", "GET", f"{_GROUPS}/{_parent(new.parent_group_id)}")
    rule: dict[str, Any] = {
        "security_group_id": parent["security_group"]["id"], "direction": "ingress", "ethertype": "IPv4",
        **_ports(new),
    }
    groups = [parent["security_group"]]
    if new.group_id is not None:
        remote = await ask(call, "network", "GET", f"{_GROUPS}/{_parent(new.group_id)}")
        groups.append(remote["security_group"])
        rule["remote_group_id"] = remote["security_group"]["id"]
    else:
        rule |= _range(new.cidr)
    try:
        made = await ask(call, "network", "POST", _RULES, {"security_group_rule": rule})
    except Conflict as problem:
        raise BadRequest(problem.message) from None
    names = {group["id"]: {"name": group["name"], "tenant_id": group["project_id"]} for group in groups}
    return {"security_group_rule": rule_view(made["security_group_rule"], names)}


def _parent(group_id: str) -> str:
    if not is_uuid(group_id):
        raise BadRequest(f"Security group id should be uuid, not {group_id}.")
    return group_id


def _ports(new: SecurityRuleNew) -> dict[str, Any]:
    if new.ip_protocol is None:
        if new.group_id is None:
            raise BadRequest("Not enough parameters to build a valid rule: ip_protocol is missing.")
        return {}
    protocol = new.ip_protocol.lower()
    if protocol not in ("tcp", "udp", "icmp"):
        raise BadRequest(f"Invalid IP protocol {new.ip_protocol}.")
    if new.from_port is None or new.to_port is None:
        if new.group_id is None:
            raise BadRequest("Not enough parameters to build a valid rule: from_port and to_port are missing.")
        return {"protocol": protocol}
    first, last = number(new.from_port, "from_port", -1), number(new.to_port, "to_port", -1)
    most = 255 if protocol == "icmp" else 65535
    if first > most or last > most or (protocol != "icmp" and (first > last or first < 1)):
        raise BadRequest(f"Invalid port range {first}:{last}. Valid {protocol} ports are 1 to {most}.")
    if first == -1:
        return {"protocol": protocol}
    return {"protocol": protocol, "port_range_min": first, "port_range_max": None if last == -1 else last}


def _range(cidr: str | None) -> dict[str, Any]:
    if not cidr:
        return {"remote_ip_prefix": "0.0.0.0/0"}
    try:
        net = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        raise BadRequest(f"Invalid cidr {cidr}.") from None
    if net.prefixlen == 0 and not cidr.startswith(("0.0.0.0", "::")):
        raise BadRequest(f"Bad prefix for network in cidr {cidr}.")
    return {"remote_ip_prefix": cidr if "/" in cidr else str(net), "ethertype": f"IPv{net.version}"}


async def delete_rule(call: Call) -> None:
    """DELETE /os-security-group-rules/{rule_id}: 202."""
    await ask(call, "network", "DELETE", f"{_RULES}/{_id(call, 'rule_id')}")
