"""Floating IPs: addresses of an external network that lead to a port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import (
    addresses,
    fixed_ips,
    lists,
    names,
    networks,
    port_rows,
    ports,
    quotas,
    sharing,
    tags,
    touch,
    views,
)
from pileus.network.faults import conflict, not_found
from pileus.network.fixed_ips import Ask
from pileus.network.routers import INTERFACE
from pileus.network.schemas import FloatingIpChange, FloatingIpNew
from pileus.network.tables import allocation, floating_ip, port, router, subnet
from pileus.web.call import Call
from pileus.web.errors import BadRequest

OWNER = "network:floatingip"

_c = floating_ip.c


def _bad(message: str) -> BadRequest:
    return BadRequest(f"Bad floatingip request: {message}")


def _visible(call: Call) -> lists.Clause:
    return _c.project_id == sharing.own(call.context)


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    named = tags.of(call.tx, [row.id for row in rows])
    wanted = [row.port_id for row in rows if row.port_id]
    details = {
        p.id: {
            "name": p.name, "network_id": p.network_id, "mac_address": p.mac, "admin_state_up": p.admin_state_up,
            "status": p.status, "device_id": p.device_id, "device_owner": p.device_owner,
        }
        for at in range(0, len(wanted), 5000)
        for p in call.tx.all(sa.select(port).where(port.c.id.in_(wanted[at : at + 5000])))
    }
    return [views.floating_ip(row, named.get(row.id, []), details.get(row.port_id)) for row in rows]


NOUN = lists.Noun(
    name="floatingip", plural="floatingips", title="Floating IP", error="FloatingIPNotFound", table=floating_ip,
    visible=_visible, render=_render,
    filters={
        **lists.standard(floating_ip), "floating_network_id": lists.text(_c.floating_network_id),
        "floating_ip_address": lists.text(_c.floating_ip_address), "port_id": lists.text(_c.port_id),
        "fixed_ip_address": lists.text(_c.fixed_ip_address), "router_id": lists.text(_c.router_id),
        "status": lists.text(_c.status), "dns_name": lists.text(_c.dns_name),
        "dns_domain": lists.text(_c.dns_domain),
    },
    sorts=lists.sorts(floating_ip, "floating_network_id", "floating_ip_address", "port_id", "fixed_ip_address",
                      "router_id", "status"),
)


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/floatingips: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/floatingips/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/floatingips: 201."""
    return lists.create_all(call, NOUN, make)


def make(call: Call, new: FloatingIpNew) -> str:
    """A new floating IP, for other rooms too; its id. Raises BadRequest, NotFound, Conflict, OverQuota."""
    tx = call.tx
    project_id = lists.owner(call, new, "create_floatingip")
    lists.enforce_attributes(call, "create_floatingip", new, project_id=project_id)
    parent = networks.visible_row(tx, call.context, new.floating_network_id)
    if not parent.external and parent.id not in sharing.external_ids(tx, call.context.project_id):
        raise _bad(f"Network {parent.id} is not a valid external network.")
    quotas.room(tx, call.cloud, project_id, {"floatingip": 1})
    base = lists.base(call, project_id, new.description)
    base["revision"] = 1
    asked = _asked(call, parent.id, new)
    port_id = port_rows.insert(
        tx, call.cloud, parent, project_id="", asked=(), device_id=base["id"], device_owner=OWNER,
        port_security_enabled=False, status="N/A",
    )
    address = _take(call, parent.id, port_id, asked)
    tx.execute(floating_ip.insert(), {
        **base, "floating_network_id": parent.id, "floating_ip_address": address, "floating_port_id": port_id,
        "port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN",
        "dns_name": names.dns_name(new.dns_name), "dns_domain": names.dns_name(new.dns_domain), "change": 0,
    })
    if new.port_id:
        row = tx.first(sa.select(floating_ip).where(_c.id == base["id"]))
        assert row is not None
        _associate(call, row, new.port_id, new.fixed_ip_address)
    elif new.fixed_ip_address:
        raise _bad("Cannot specify a fixed_ip_address without a port_id.")
    return str(base["id"])


def _asked(call: Call, network_id: str, new: FloatingIpNew) -> list[Ask]:
    """Where to take the address from, in order of preference. Floating IPs are IPv4."""
    here = [s for s in networks.subnets_of(call.tx, [network_id]).get(network_id, []) if s.ip_version == 4]
    if not here:
        raise _bad(f"Network {network_id} does not contain any IPv4 subnet")
    wanted = new.floating_ip_address if new.floating_ip_address is not UNSET else None
    if new.subnet_id:
        here = [s for s in here if s.id == new.subnet_id]
        if not here:
            raise _bad(f"Subnet {new.subnet_id} is not an IPv4 subnet of network {network_id}.")
    if wanted:
        return [Ask(new.subnet_id or None, wanted)]
    return [Ask(s.id) for s in here]


def _take(call: Call, network_id: str, port_id: str, asked: Sequence[Ask]) -> str:
    row = call.tx.first(sa.select(port).where(port.c.id == port_id))
    assert row is not None
    if asked[0].ip:
        return fixed_ips.assign(call.tx, call.cloud, port_id=port_id, mac=row.mac, network_id=network_id,
                                device_owner=OWNER, asked=asked)[0][1]
    here = {s.id: s for s in networks.subnets_of(call.tx, [network_id])[network_id]}
    for ask in asked:
        found = addresses.take_free(call.tx, call.cloud, here[ask.subnet_id or ""], port_id, 0)
        if found is not None:
            return found
    raise conflict("IpAddressGenerationFailure", f"No more IP addresses available on network {network_id}.")


def _associate(call: Call, row: Row[Any], port_id: str, fixed_ip: str | None) -> None:
    """Lead the floating IP to an address of a port, through the router that joins both sides."""
    target = ports.get(call.tx, port_id)
    mine = target.project_id in (row.project_id, call.context.project_id)
    if not mine and not lists.is_admin(call):
        raise ports.missing(port_id)
    address, subnet_id = _fixed(target, fixed_ip)
    through = _router(call, row.floating_network_id, port_id, subnet_id)
    taken = call.tx.first(sa.select(_c.id, _c.floating_ip_address).where(
        _c.port_id == port_id, _c.fixed_ip_address == address, _c.id != row.id
    ))
    if taken is not None:
        raise conflict(
            "FloatingIPPortAlreadyAssociated",
            f"Cannot associate floating IP {row.floating_ip_address} ({row.id}) with port {port_id} using fixed IP "
            f"{address}, as that fixed IP already has a floating IP on external network {row.floating_network_id}.",
        )
    touch.nodes(call.tx, call.cloud, (through.node, _node_of(call, row)))
    touch.mark(call.tx, [row.id], floating_ip)
    call.tx.execute(floating_ip.update().where(_c.id == row.id).values(
        port_id=port_id, fixed_ip_address=address, router_id=through.id, status="DOWN"
    ))


def _node_of(call: Call, row: Row[Any]) -> str:
    found = call.tx.scalar(sa.select(router.c.node).where(router.c.id == row.router_id)) if row.router_id else ""
    return found or ""


def _fixed(target: ports.PortInfo, wanted: str | None) -> tuple[str, str]:
    held = [(ip, subnet_id) for subnet_id, ip in target.fixed_ips if ":" not in ip]
    if wanted:
        for ip, subnet_id in held:
            if ip == wanted:
                return ip, subnet_id
        raise _bad(f"Port {target.id} does not have fixed ip {wanted}")
    if not held:
        raise _bad(f"Cannot add floating IP to port {target.id} that has no fixed IPv4 addresses")
    if len(held) > 1:
        raise _bad(f"Port {target.id} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when "
                   "assigning a floating IP")
    return held[0]


def _router(call: Call, network_id: str, port_id: str, subnet_id: str) -> Row[Any]:
    found = call.tx.first(
        sa.select(router).join(port, port.c.device_id == router.c.id)
        .join(allocation, allocation.c.port_id == port.c.id).join(subnet, subnet.c.id == allocation.c.subnet_id)
        .where(
            port.c.device_owner == INTERFACE, allocation.c.subnet_id == subnet_id,
            router.c.gateway_network_id == network_id,
        )
        # The router that the guests have as their gateway is the one that answers come back through.
        .order_by(sa.case((allocation.c.ip == subnet.c.gateway_ip, 0), else_=1), router.c.id).limit(1)
    )
    if found is None:
        raise not_found(
            "ExternalGatewayForFloatingIPNotFound",
            f"External network {network_id} is not reachable from subnet {subnet_id}. Therefore, cannot associate "
            f"Port {port_id} with a Floating IP: a router between them", "",
        )
    return found


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/floatingips/{id}: 200. `port_id` null takes it off its port."""
    change(call, call.params["id"], call.body.floatingip)
    return lists.shown(call, NOUN, call.params["id"])


def change(call: Call, identity: str, sent: FloatingIpChange) -> None:
    """Change a floating IP, for other rooms too. Raises BadRequest, NotFound, Forbidden, Conflict."""
    row = lists.find_for(call, NOUN, "update", identity)
    fixed = sent.fixed_ip_address if sent.fixed_ip_address is not UNSET else None
    if sent.port_id is UNSET:
        if fixed:
            raise _bad("fixed_ip_address cannot be specified without a port_id")
    elif sent.port_id:
        _associate(call, row, sent.port_id, fixed)
    else:
        _free(call, row)
    values = {"description": sent.description or ""} if sent.description is not UNSET else {}
    lists.update(call, floating_ip, row.id, values)


def _free(call: Call, row: Row[Any]) -> None:
    touch.nodes(call.tx, call.cloud, (_node_of(call, row),))
    call.tx.execute(floating_ip.update().where(_c.id == row.id).values(
        port_id=None, fixed_ip_address=None, router_id=None, status="DOWN"
    ))


def delete(call: Call) -> None:
    """DELETE /v2.0/floatingips/{id}: 204."""
    drop(call, call.params["id"])


def drop(call: Call, identity: str) -> None:
    """Give a floating IP back, for other rooms too. Raises NotFound, Forbidden."""
    row = lists.find_for(call, NOUN, "delete", identity)
    touch.network(call.tx, call.cloud, row.floating_network_id, _node_of(call, row))
    tags.drop(call.tx, row.id)
    call.tx.execute(floating_ip.delete().where(_c.id == row.id))
    port_rows.drop(call.tx, call.cloud, row.floating_port_id)
