"""Ports, as their API shows and changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import (
    dhcp,
    fixed_ips,
    lists,
    names,
    networks,
    placing,
    port_options,
    port_rows,
    ports,
    quotas,
    routers,
    security_groups,
    sharing,
    subports,
    tags,
    touch,
    views,
)
from pileus.network.faults import conflict
from pileus.network.schemas import PortChange, PortNew
from pileus.network.tables import allocation, floating_ip, network, port, port_group
from pileus.web.call import Call
from pileus.web.schemas import as_bool

_c = port.c


def _visible(call: Call) -> lists.Clause:
    own = sharing.own(call.context)
    mine = sa.select(network.c.id).where(network.c.project_id == own)
    return sa.or_(_c.project_id == own, _c.network_id.in_(mine))


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    held, groups, named = fixed_ips.of(call.tx, ids), port_rows.groups_of(call.tx, ids), tags.of(call.tx, ids)
    trunked = subports.details(call.tx, ids)
    full = call.allows("get_port:binding:host_id")
    failed = placing.unreached(call.tx, rows) if full else set()
    domain = call.cloud.settings.dns_domain.rstrip(".")
    return [
        views.port(
            row, held.get(row.id, ()), groups.get(row.id, []), named.get(row.id, []), domain, full, row.id in failed,
            trunked.get(row.id),
        )
        for row in rows
    ]


def _by_address(call: Call, values: list[str]) -> lists.Clause:
    """`fixed_ips=ip_address=10.0.0.5`, `subnet_id=…`, `ip_address_substr=…`: one address that fits them all."""
    kinds: dict[str, list[lists.Clause]] = {}
    for value in values:
        name, _, wanted = value.partition("=")
        if name == "ip_address":
            kinds.setdefault("ip", []).append(allocation.c.ip == port_options.compressed(wanted))
        elif name == "subnet_id":
            kinds.setdefault("subnet", []).append(allocation.c.subnet_id == wanted)
        elif name == "ip_address_substr":
            kinds.setdefault("part", []).append(allocation.c.ip.contains(wanted, autoescape=True))
    fits = [sa.or_(*clauses) for clauses in kinds.values()]
    return sa.exists().where(allocation.c.port_id == _c.id, *fits) if fits else sa.true()


def _by_group(call: Call, values: list[str]) -> lists.Clause:
    return sa.exists().where(port_group.c.port_id == _c.id, port_group.c.group_id.in_(values))


NOUN = lists.Noun(
    name="port", plural="ports", title="Port", error="PortNotFound", table=port, visible=_visible, render=_render,
    filters={
        **lists.standard(port), "network_id": lists.text(_c.network_id), "mac_address": lists.text(_c.mac),
        "status": lists.text(_c.status), "admin_state_up": lists.flag(_c.admin_state_up),
        "device_id": lists.text(_c.device_id), "device_owner": lists.text(_c.device_owner),
        "binding:host_id": lists.text(_c.host), "binding:vnic_type": lists.text(_c.vnic_type),
        "dns_name": lists.text(_c.dns_name), "port_security_enabled": lists.flag(_c.port_security_enabled),
        "fixed_ips": _by_address, "security_groups": _by_group,
    },
    sorts=lists.sorts(
        port, "name", "network_id", "mac_address=mac", "status", "admin_state_up", "device_id", "device_owner"
    ),
)


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/ports: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/ports/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/ports: 201."""
    return lists.create_all(call, NOUN, _create)


def _create(call: Call, new: PortNew) -> str:
    tx, cloud = call.tx, call.cloud
    parent = networks.visible_row(tx, call.context, new.network_id)
    target: dict[str, Any] = {"network:project_id": parent.project_id}
    project_id = lists.owner(call, new, "create_port", **target)
    ports.check_usable(tx, call.context, parent)
    device_owner = new.device_owner if new.device_owner is not UNSET else ""
    target |= {"project_id": project_id, "network_device": device_owner.startswith("network:")}
    _check_rules(call, "create_port", new, target, set())
    port_options.check_owner(device_owner)
    quotas.room(tx, cloud, project_id, {"port": 1})
    secured = parent.port_security_enabled if new.port_security_enabled is UNSET else as_bool(new.port_security_enabled)
    groups = _groups(call, new.security_groups, project_id, secured, device_owner)
    pairs = port_options.pairs(new.allowed_address_pairs or None, secured)
    host = (new.host_id or "") if new.host_id is not UNSET else ""
    identity = port_rows.insert(
        tx, cloud, parent, project_id=project_id, asked=port_options.asks(new.fixed_ips),
        mac=port_rows.check_mac(new.mac_address) if new.mac_address else None, groups=groups, name=new.name,
        description=new.description or "", admin_state_up=as_bool(new.admin_state_up), device_id=new.device_id,
        device_owner=device_owner, port_security_enabled=secured, allowed_pairs=pairs,
        dhcp_options=port_options.dhcp_options(new.extra_dhcp_opts), host=host, profile=new.profile or None,
        dns_name=names.dns_name(new.dns_name),
    )
    if new.tags:
        tags.add(tx, identity, new.tags)
    touch.mark(tx, [identity])
    touch.network(tx, cloud, parent.id)
    touch.security_groups(tx, cloud, groups)
    return identity


def _check_rules(
    call: Call, rule: str, sent: PortNew | PortChange, target: dict[str, Any], have: set[str]
) -> None:
    """Attributes with rules of their own; an address that the port has already may be sent back by anybody."""
    lists.enforce_attributes(call, rule, sent, **target)
    asked = sent.fixed_ips if sent.fixed_ips is not UNSET else None
    if any(ask.ip_address and port_options.compressed(ask.ip_address) not in have for ask in asked or ()):
        call.enforce(f"{rule}:fixed_ips:ip_address", **target)


def _groups(
    call: Call, sent: Any, project_id: str, secured: bool, device_owner: str
) -> list[str]:
    if sent is UNSET or sent is None:
        if not secured or device_owner.startswith("network:"):
            return []
        return [security_groups.ensure_default(call.tx, call.cloud, project_id)]
    if sent and not secured:
        raise port_options.needs_security()
    return security_groups.check_ids(call.tx, call.context, sent, project_id)


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/ports/{id}: 200."""
    sent: PortChange = call.body.port
    row = lists.find(call, NOUN, call.params["id"])
    owner = call.tx.scalar(sa.select(network.c.project_id).where(network.c.id == row.network_id))
    device_owner = sent.device_owner if sent.device_owner is not UNSET else row.device_owner
    target: dict[str, Any] = {
        "network:project_id": owner, "network_device": device_owner.startswith("network:"),
    }
    row = lists.find_for(call, NOUN, "update", row.id, **target)
    target["project_id"] = row.project_id
    have = {a.ip for a in fixed_ips.of(call.tx, [row.id]).get(row.id, [])}
    _check_rules(call, "update_port", sent, target, have)
    port_options.check_change(row, sent)
    if row.device_owner == subports.OWNER:
        _check_kept(call, row, sent)
    values = _values(row, sent, call.cloud.settings.hypervisor == "fake")
    before = port_rows.groups_of(call.tx, [row.id]).get(row.id, [])
    groups = _new_groups(call, row, sent, values.get("port_security_enabled", row.port_security_enabled), before)
    if "mac" in values:
        _check_mac_free(call, row, values["mac"])
    nodes = _change_addresses(call, row, sent, values.get("mac", row.mac))
    if groups is not None:
        port_rows.set_groups(call.tx, row.id, groups)
    lists.update(call, port, row.id, values)
    _tell(call, row, nodes, [*before, *(groups or ())])
    subports.follow(call.tx, call.cloud, [row.id])
    if row.device_owner == subports.OWNER:
        subports.settle(call.tx, [row.device_id])
    return lists.shown(call, NOUN, row.id)


def _check_kept(call: Call, row: Row[Any], sent: PortChange) -> None:
    """What a trunk decides of its subports cannot be changed otherwise. Raises Conflict."""
    kept = ((sent.device_id, row.device_id), (sent.device_owner, row.device_owner), (sent.host_id, row.host))
    if any(asked is not UNSET and asked != now for asked, now in kept):
        _check_untrunked(call, row)


def _check_untrunked(call: Call, row: Row[Any]) -> None:
    above = subports.trunk_above(call.tx, row.id)
    if above is not None:
        raise conflict("PortInUseAsSubPort", f"Port {row.id} is currently a subport for trunk {above}.")


def _values(row: Row[Any], sent: PortChange, fake: bool) -> dict[str, Any]:
    values = lists.given(
        sent, "mac_address", "fixed_ips", "security_groups", "allowed_address_pairs", "extra_dhcp_opts", "host_id",
    )
    for name in ("admin_state_up", "port_security_enabled"):
        if name in values:
            values[name] = as_bool(values[name])
    if "description" in values:
        values["description"] = values["description"] or ""
    if "profile" in values:
        values["profile"] = values["profile"] or {}
    if "dns_name" in values:
        values["dns_name"] = names.dns_name(values["dns_name"])
    if sent.mac_address is not UNSET:
        values["mac"] = port_rows.check_mac(sent.mac_address)
        if row.host and values["mac"] != row.mac:
            raise conflict("PortBound", f"Unable to complete operation on port {row.id}, port is already bound, "
                                        f"vif_type: bridge, old_mac {row.mac}, new_mac {values['mac']}.")
    if sent.host_id is not UNSET:
        values["host"] = sent.host_id or ""
        if values["host"] != row.host:
            values["status"] = "DOWN"
            values["moving_to"] = None
    if sent.allowed_address_pairs is not UNSET:
        secured = values.get("port_security_enabled", row.port_security_enabled)
        pairs = port_options.pairs(sent.allowed_address_pairs or None, secured)
        values["allowed_pairs"] = [[ip, mac or values.get("mac", row.mac)] for ip, mac in pairs]
    elif row.allowed_pairs and values.get("port_security_enabled") is False:
        raise port_options.pairs_need_security()
    if sent.extra_dhcp_opts is not UNSET:
        values["dhcp_options"] = port_options.changed_options(row.dhcp_options, sent.extra_dhcp_opts or [])
    if values.get("admin_state_up") is False:
        values["status"] = "DOWN"
    elif fake and values.get("admin_state_up") and row.host and (
        row.device_owner.startswith("compute:") or row.device_owner == subports.OWNER
    ):
        values["status"] = "ACTIVE"  # no node will ever report it: a fake guest's port is wired by being bound
    return values


def _new_groups(
    call: Call, row: Row[Any], sent: PortChange, secured: bool, before: Sequence[str]
) -> list[str] | None:
    if sent.security_groups is UNSET:
        if before and not secured:
            raise conflict("PortSecurityPortHasSecurityGroup",
                           "Port has security group associated. Cannot disable port security or IP address until "
                           "security group is removed.")
        return None
    if sent.security_groups and not secured:
        raise port_options.needs_security()
    return security_groups.check_ids(call.tx, call.context, sent.security_groups or [], row.project_id)


def _check_mac_free(call: Call, row: Row[Any], mac: str) -> None:
    other = sa.select(_c.id).where(_c.network_id == row.network_id, _c.mac == mac, _c.id != row.id)
    if call.tx.first(other) is not None:
        raise port_rows.mac_in_use(row.network_id, mac)


def _change_addresses(call: Call, row: Row[Any], sent: PortChange, mac: str) -> list[str]:
    if sent.fixed_ips is UNSET:
        return []
    gone = fixed_ips.change(call.tx, call.cloud, row, mac, port_options.asks(sent.fixed_ips) or [])
    if row.device_owner == routers.INTERFACE:
        routers.check_legs(call.tx, row.device_id, row.id)
    if not gone:
        return []
    led = sa.and_(floating_ip.c.port_id == row.id, floating_ip.c.fixed_ip_address.in_(gone))
    return port_rows.unfloat(call.tx, led, call.now)


def _tell(call: Call, row: Row[Any], nodes: Sequence[str], groups: Sequence[str]) -> None:
    guest_of_fake = call.cloud.settings.hypervisor == "fake" and not row.device_owner.startswith("network:")
    own = () if guest_of_fake else (row.host, row.moving_to or "")
    touch.mark(call.tx, [row.id])
    touch.network(call.tx, call.cloud, row.network_id, *nodes, *own)
    touch.security_groups(call.tx, call.cloud, groups)


def delete(call: Call) -> None:
    """DELETE /v2.0/ports/{id}: 204. Ports of routers and floating IPs go with these; that of DHCP is made anew."""
    row = lists.find(call, NOUN, call.params["id"])
    owner = call.tx.scalar(sa.select(network.c.project_id).where(network.c.id == row.network_id))
    row = lists.find_for(call, NOUN, "delete", row.id, **{"network:project_id": owner})
    if row.device_owner in port_options.SERVED and row.device_owner != dhcp.OWNER:
        raise conflict("ServicePortInUse", f"Port {row.id} cannot be deleted directly via the port API: has device "
                                           f"owner {row.device_owner}.")
    _check_untrunked(call, row)
    trunk_id = subports.trunk_of(call.tx, row.id)
    if trunk_id is not None:
        raise conflict("PortInUseAsTrunkParent", f"Port {row.id} is currently a parent port for trunk {trunk_id}.")
    ports.delete(call.tx, call.cloud, row.id)
    if row.device_owner == dhcp.OWNER:
        dhcp.sync(call.tx, call.cloud, row.network_id)
