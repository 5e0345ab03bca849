"""Routers: between the subnets of a project, and to an external network."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import fixed_ips, gateways, lists, quotas, sharing, tags, touch, views
from pileus.network.addresses import parse, parse_network
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import HostRoute, RouterChange, RouterNew
from pileus.network.tables import allocation, floating_ip, port, router, subnet
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.db.engine import Tx

INTERFACE = "network:router_interface"

_c = router.c


def _visible(call: Call) -> lists.Clause:
    return _c.project_id == sharing.own(call.context)


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    held = fixed_ips.of(call.tx, [row.gateway_port_id for row in rows if row.gateway_port_id])
    named = tags.of(call.tx, [row.id for row in rows])
    full = call.allows("get_router:ha")
    zone = call.cloud.settings.availability_zone
    return [
        views.router(row, held.get(row.gateway_port_id, ()), named.get(row.id, []), full, zone) for row in rows
    ]


def _by_gateway(call: Call, values: list[str]) -> lists.Clause:
    wanted = [value.partition("=")[2] for value in values if value.startswith("network_id=")]
    return _c.gateway_network_id.in_(wanted)


NOUN = lists.Noun(
    name="router", plural="routers", title="Router", error="RouterNotFound", table=router, visible=_visible,
    render=_render,
    filters={
        **lists.standard(router), "status": lists.text(_c.status), "admin_state_up": lists.flag(_c.admin_state_up),
        "external_gateway_info": _by_gateway, "flavor_id": lists.nothing,
        "ha": lambda call, values: sa.false() if all(as_bool(v) for v in values) else sa.true(),
        "distributed": lambda call, values: sa.false() if all(as_bool(v) for v in values) else sa.true(),
    },
    sorts=lists.sorts(router, "name", "status", "admin_state_up"),
)


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/routers: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/routers/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/routers: 201."""
    return lists.create_all(call, NOUN, _create)


def _check_kind(call: Call, sent: RouterNew | RouterChange) -> None:
    for name in ("ha", "distributed"):
        value = getattr(sent, name)
        if value is not UNSET and value is not None and as_bool(value):
            raise invalid(f"{name} routers are not offered here; leave {name} out or set it to false.")


def _create(call: Call, new: RouterNew) -> str:
    project_id = lists.owner(call, new, "create_router")
    lists.enforce_attributes(call, "create_router", new, project_id=project_id)
    _check_kind(call, new)
    quotas.room(call.tx, call.cloud, project_id, {"router": 1})
    row = {
        **lists.base(call, project_id, new.description), "name": new.name,
        "admin_state_up": as_bool(new.admin_state_up), "status": "ACTIVE", "gateway_network_id": None,
        "gateway_port_id": None, "enable_snat": True, "routes": [], "zone_hints": new.availability_zone_hints,
        "node": "", "change": 0,
    }
    call.tx.execute(router.insert(), row)
    if new.external_gateway_info is not None:
        gateways.change(call, _row(call.tx, row["id"]), new.external_gateway_info, "create_router")
    return str(row["id"])


def _row(tx: Tx, identity: str) -> Row[Any]:
    row = tx.first(sa.select(router).where(_c.id == identity))
    assert row is not None
    return row


def find_for(call: Call, action: str) -> Row[Any]:
    """The router of the path, for a change of what hangs on it; no other such change runs at the same time."""
    identity = call.params["id"]
    call.tx.serialize(f"router:{identity}"[:191])
    return lists.find_for(call, NOUN, action, identity)


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/routers/{id}: 200."""
    sent: RouterChange = call.body.router
    row = find_for(call, "update")
    lists.enforce_attributes(call, "update_router", sent, project_id=row.project_id)
    _check_kind(call, sent)
    values = {k: v for k, v in lists.given(sent).items() if k == "name"}
    if sent.description is not UNSET:
        values["description"] = sent.description or ""
    if sent.admin_state_up is not UNSET:
        values["admin_state_up"] = as_bool(sent.admin_state_up)
    if sent.external_gateway_info is not UNSET:
        gateways.change(call, row, sent.external_gateway_info, "update_router")
    if sent.routes is not UNSET:
        values["routes"] = check_routes(call, row, sent.routes or [])
    lists.update(call, router, row.id, values)
    touch.nodes(call.tx, call.cloud, (row.node,))
    return lists.shown(call, NOUN, row.id)


def delete(call: Call) -> None:
    """DELETE /v2.0/routers/{id}: 204."""
    row = find_for(call, "delete")
    used = sa.select(port.c.id).where(port.c.device_id == row.id, port.c.device_owner == INTERFACE).limit(1)
    if call.tx.first(used) is not None:
        raise conflict("RouterInUse", f"Router {row.id} still has ports")
    gateways.clear(call, row)
    tags.drop(call.tx, row.id)
    call.tx.execute(router.delete().where(_c.id == row.id))
    touch.nodes(call.tx, call.cloud, (row.node,))


# -- extra routes


def connected(tx: Tx, router_id: str) -> Sequence[Row[Any]]:
    """Every address of the router with its subnet's CIDR, its gateway included."""
    return tx.all(
        sa.select(allocation.c.ip, subnet.c.cidr, subnet.c.id.label("subnet_id"), port.c.id.label("port_id"),
                  port.c.network_id, port.c.device_owner)
        .join(port, port.c.id == allocation.c.port_id).join(subnet, subnet.c.id == allocation.c.subnet_id)
        .where(port.c.device_id == router_id,
               port.c.device_owner.in_((INTERFACE, gateways.OWNER)))
        .order_by(port.c.created, port.c.id, allocation.c.position)
    )


def check_legs(tx: Tx, router_id: str, port_id: str) -> None:
    """Is the router still whole after the addresses of its port changed? Raises BadRequest, Conflict."""
    legs = connected(tx, router_id)
    if not any(leg.port_id == port_id for leg in legs):
        raise BadRequest(f"Bad router request: port {port_id} is an interface of router {router_id} and must keep an "
                         "address.")
    cidrs = [(leg, ipaddress.ip_network(leg.cidr)) for leg in legs]
    for at, (leg, cidr) in enumerate(cidrs):
        for other, other_cidr in cidrs[at + 1 :]:
            if cidr.version == other_cidr.version and cidr.overlaps(other_cidr) and leg.port_id != other.port_id:
                raise BadRequest(f"Bad router request: Cidr {cidr} of subnet {leg.subnet_id} overlaps with cidr "
                                 f"{other_cidr} of subnet {other.subnet_id}.")
    cut_off = (
        sa.select(floating_ip.c.floating_ip_address)
        .join(allocation, sa.and_(
            allocation.c.port_id == floating_ip.c.port_id, allocation.c.ip == floating_ip.c.fixed_ip_address
        ))
        .where(floating_ip.c.router_id == router_id, allocation.c.subnet_id.not_in([leg.subnet_id for leg in legs]))
    )
    lost = tx.scalars(cut_off)
    if lost:
        raise conflict("RouterInterfaceInUseByFloatingIP",
                       f"Port {port_id} of router {router_id} must keep its subnet: floating IPs {lost} go through it.")


def check_routes(call: Call, row: Row[Any], sent: Sequence[HostRoute]) -> list[list[str]]:
    """[[destination, nexthop], …] of which each next hop is a neighbour. Raises BadRequest."""
    legs = connected(call.tx, row.id)
    found = []
    for route in sent:
        destination, nexthop = parse_network(route.destination, "route destination"), parse(route.nexthop)
        if destination.version != nexthop.version:
            raise _bad_routes(sent, f"the nexthop {nexthop} is of another IP version than its destination")
        if not any(nexthop in ipaddress.ip_network(leg.cidr) for leg in legs):
            raise _bad_routes(sent, f"the nexthop is not connected with router: {nexthop}")
        if any(str(nexthop) == leg.ip for leg in legs):
            raise _bad_routes(sent, f"the nexthop {nexthop} is used by router")
        pair = [str(destination), str(nexthop)]
        if pair in found:
            raise _bad_routes(sent, f"the route to {destination} via {nexthop} is there twice")
        found.append(pair)
    return found


def _bad_routes(sent: Sequence[HostRoute], reason: str) -> Exception:
    shown = [f"{r.destination} via {r.nexthop}" for r in sent]
    return invalid(f"Invalid format for routes: {shown}, {reason}", "InvalidRoutes")


def add_extraroutes(call: Call) -> dict[str, Any]:
    """PUT /v2.0/routers/{id}/add_extraroutes: 200, in one step and without losing others' routes."""
    row = find_for(call, "update")
    new = check_routes(call, row, call.body.router.routes)
    return _set_routes(call, row, [*row.routes, *(pair for pair in new if pair not in row.routes)])


def remove_extraroutes(call: Call) -> dict[str, Any]:
    """PUT /v2.0/routers/{id}/remove_extraroutes: 200; routes that are not there are fine."""
    row = find_for(call, "update")
    gone = [
        [str(parse_network(r.destination, "route destination")), str(parse(r.nexthop))]
        for r in call.body.router.routes
    ]
    return _set_routes(call, row, [pair for pair in row.routes if pair not in gone])


def _set_routes(call: Call, row: Row[Any], pairs: list[list[str]]) -> dict[str, Any]:
    lists.update(call, router, row.id, {"routes": pairs})
    touch.nodes(call.tx, call.cloud, (row.node,))
    return lists.shown(call, NOUN, row.id)
