"""The gateway of a router: its port on an external network."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import fixed_ips, networks, placing, port_options, port_rows, sharing, touch
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import Gateway
from pileus.network.tables import floating_ip, port, router, subnet
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

OWNER = "network:router_gateway"

_c = router.c


def change(call: Call, row: Row[Any], sent: Gateway | None, rule: str) -> None:
    """Set, change or (None or without a network) clear the gateway. Raises NotFound, BadRequest, Conflict."""
    if sent is None or not sent.network_id:
        if sent is not None and (sent.enable_snat is not UNSET or sent.external_fixed_ips):
            raise invalid("external_gateway_info needs a network_id.")
        clear(call, row)
        return
    if sent.enable_snat is not UNSET:
        call.enforce(f"{rule}:external_gateway_info:enable_snat", project_id=row.project_id)
    if sent.external_fixed_ips is not None:
        call.enforce(f"{rule}:external_gateway_info:external_fixed_ips", project_id=row.project_id)
    snat = as_bool(sent.enable_snat) if sent.enable_snat is not UNSET else True
    parent = _external(call, sent.network_id)
    if row.gateway_network_id not in (None, parent.id):
        clear(call, row)
    asked = port_options.asks(sent.external_fixed_ips or None)
    if row.gateway_network_id == parent.id:
        held = call.tx.first(sa.select(port).where(port.c.id == row.gateway_port_id))
        if held is not None and asked is not None:
            fixed_ips.change(call.tx, call.cloud, held, held.mac, asked)
        call.tx.execute(router.update().where(_c.id == row.id).values(enable_snat=snat))
        touch.network(call.tx, call.cloud, parent.id)
        return
    _check_overlap(call, row, parent.id)
    identity = port_rows.insert(
        call.tx, call.cloud, parent, project_id="", asked=asked, device_id=row.id, device_owner=OWNER, host=row.node,
        port_security_enabled=False,
    )
    call.tx.execute(router.update().where(_c.id == row.id).values(
        gateway_network_id=parent.id, gateway_port_id=identity, enable_snat=snat
    ))
    node = placing.seat_router(call.tx, call.cloud, row.id)
    touch.mark(call.tx, [identity])
    touch.network(call.tx, call.cloud, parent.id, node)


def _external(call: Call, network_id: str) -> Row[Any]:
    parent = networks.visible_row(call.tx, call.context, network_id)
    if not parent.external and parent.id not in sharing.external_ids(call.tx, call.context.project_id):
        raise BadRequest(f"Bad router request: Network {network_id} is not an external network.")
    return parent


def _check_overlap(call: Call, row: Row[Any], network_id: str) -> None:
    from pileus.network.routers import connected

    outside = [
        ipaddress.ip_network(cidr)
        for cidr in call.tx.scalars(sa.select(subnet.c.cidr).where(subnet.c.network_id == network_id))
    ]
    for leg in connected(call.tx, row.id):
        inside = ipaddress.ip_network(leg.cidr)
        for other in outside:
            if inside.version == other.version and inside.overlaps(other):
                raise BadRequest(f"Bad router request: Cidr {other} of the external network overlaps with cidr "
                                 f"{inside} of subnet {leg.subnet_id}.")


def clear(call: Call, row: Row[Any]) -> None:
    """Take the gateway away. Raises Conflict while floating IPs go through it."""
    if row.gateway_port_id is None:
        return
    used = sa.select(floating_ip.c.id).where(floating_ip.c.router_id == row.id).limit(1)
    if call.tx.first(used) is not None:
        raise conflict(
            "RouterExternalGatewayInUseByFloatingIp",
            f"Gateway cannot be updated for router {row.id}, since a gateway to external network "
            f"{row.gateway_network_id} is required by one or more floating IPs.",
        )
    outside = {
        str(ip) for ip in call.tx.scalars(sa.select(subnet.c.cidr).where(subnet.c.network_id == row.gateway_network_id))
    }
    through = [n for _, n in row.routes if any(ipaddress.ip_address(n) in ipaddress.ip_network(c) for c in outside)]
    if through:
        raise conflict("RouterInterfaceInUseByRoute", f"Router {row.id} has routes through its gateway: {through}.")
    call.tx.execute(router.update().where(_c.id == row.id).values(
        gateway_network_id=None, gateway_port_id=None, enable_snat=True
    ))
    port_rows.drop(call.tx, call.cloud, row.gateway_port_id)
    touch.network(call.tx, call.cloud, row.gateway_network_id, row.node)


