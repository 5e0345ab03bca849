"""Subnets: the addresses of a network."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import (
    addresses,
    dhcp,
    fixed_ips,
    lists,
    networks,
    quotas,
    sharing,
    subnet_pools,
    tags,
    touch,
    views,
)
from pileus.network import subnet_options as options
from pileus.network.addresses import Network
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import SubnetChange, SubnetNew, number
from pileus.network.tables import allocation, network, port, subnet
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Forbidden
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_c = subnet.c


def _visible(call: Call) -> lists.Clause:
    own = sharing.own(call.context)
    return sa.or_(_c.project_id == own, _c.network_id.in_(sa.select(network.c.id).where(sharing.usable(own))))


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    named = tags.of(call.tx, [row.id for row in rows])
    return [views.subnet(row, named.get(row.id, [])) for row in rows]


NOUN = lists.Noun(
    name="subnet", plural="subnets", title="Subnet", error="SubnetNotFound", table=subnet, visible=_visible,
    render=_render,
    filters={
        **lists.standard(subnet), "network_id": lists.text(_c.network_id), "ip_version": lists.integer(_c.ip_version),
        "cidr": lists.text(_c.cidr), "gateway_ip": lists.text(_c.gateway_ip),
        "enable_dhcp": lists.flag(_c.enable_dhcp), "ipv6_ra_mode": lists.text(_c.ipv6_ra_mode),
        "ipv6_address_mode": lists.text(_c.ipv6_address_mode), "subnetpool_id": lists.text(_c.subnetpool_id),
        "segment_id": lists.nothing, "shared": lambda call, values: _c.network_id.in_(
            sa.select(network.c.id).where(sa.or_(*(network.c.shared.is_(as_bool(v)) for v in values)))
        ),
    },
    sorts=lists.sorts(subnet, "name", "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp"),
)


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/subnets: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/subnets/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/subnets: 201."""
    return lists.create_all(call, NOUN, _create)


def _create(call: Call, new: SubnetNew) -> str:
    parent = networks.visible_row(call.tx, call.context, new.network_id)
    target = {"network:project_id": parent.project_id}
    project_id = lists.owner(call, new, "create_subnet", **target)
    if parent.project_id != call.context.project_id and not lists.is_admin(call):
        raise Forbidden(f"Only its owner makes subnets of network {parent.id}.", rule="create_subnet")
    lists.enforce_attributes(call, "create_subnet", new, project_id=project_id, **target)
    quotas.room(call.tx, call.cloud, project_id, {"subnet": 1})
    call.tx.serialize(f"network:{parent.id}")
    pool_id, cidr = _cidr(call, new, project_id)
    return insert(call.tx, call.cloud, parent, project_id, new, cidr, pool_id)


def _cidr(call: Call, new: SubnetNew, project_id: str) -> tuple[str | None, Network]:
    """Where the addresses are from: the CIDR named, or cut from a subnet pool."""
    version = number(new.ip_version) if new.ip_version is not UNSET else None
    pool_id = new.subnetpool_id
    if pool_id is None and as_bool(new.use_default_subnetpool):
        pool_id = subnet_pools.default_pool(call, version or 4)
    named = addresses.parse_network(new.cidr) if new.cidr else None
    length = number(new.prefixlen) if new.prefixlen is not None else None
    if named is not None and length is not None:
        raise BadRequest("'cidr' and 'prefixlen' exclude each other; send one of them.")
    if pool_id is None or (pool_id == "prefix_delegation" and named is None):
        if named is None:
            raise BadRequest("Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
        return None, named
    found = subnet_pools.allocate(call, pool_id, project_id, named, length)
    if version not in (None, found.version):
        raise BadRequest(f"Bad subnets request: the pool has IPv{found.version} prefixes.")
    return pool_id, found


def insert(
    tx: Tx, cloud: Cloud, parent: Row[Any], project_id: str, new: SubnetNew, cidr: Network, pool_id: str | None = None
) -> str:
    """Make a subnet of a network; its id. Raises BadRequest, Conflict."""
    version = number(new.ip_version) if new.ip_version is not UNSET else (cidr.version if pool_id else None)
    if version is None:
        raise BadRequest("Failed to parse request. Required attribute 'ip_version' not specified")
    if version not in (4, 6):
        raise invalid(f"'{version}' is not in [4, 6] as ip_version.")
    if version != cidr.version:
        raise invalid(f"ip_version {version} does not match cidr {cidr}, which is IPv{cidr.version}.")
    options.check_cidr(tx, parent.id, cidr)
    enable_dhcp = as_bool(new.enable_dhcp)
    options.check_modes(cidr, enable_dhcp, new.ipv6_ra_mode, new.ipv6_address_mode)
    gateway = options.gateway(cidr, new.gateway_ip)
    pools = options.pools(cidr, gateway, new.allocation_pools)
    now = cloud.world.now()
    identity = cloud.world.uuid()
    tx.execute(subnet.insert(), {
        "id": identity, "project_id": project_id, "description": new.description or "", "created": now,
        "updated": now, "revision": 0, "name": new.name, "network_id": parent.id, "ip_version": version,
        "cidr": str(cidr), "gateway_ip": gateway, "pools": pools, "enable_dhcp": enable_dhcp,
        "dns_nameservers": options.name_servers(new.dns_nameservers),
        "host_routes": options.host_routes(new.host_routes), "ipv6_ra_mode": new.ipv6_ra_mode,
        "ipv6_address_mode": new.ipv6_address_mode, "subnetpool_id": pool_id, "service_types": new.service_types,
    })
    if enable_dhcp:
        dhcp.sync(tx, cloud, parent.id)
    if version == 6 and new.ipv6_address_mode in addresses.AUTO_MODES:
        _auto_addresses(tx, identity, parent.id)
    touch.network(tx, cloud, parent.id)
    return identity


def _auto_addresses(tx: Tx, subnet_id: str, network_id: str) -> None:
    """Guests that are there already make addresses in a new subnet too, as soon as they hear of it."""
    row = tx.first(sa.select(subnet).where(_c.id == subnet_id))
    assert row is not None
    here = tx.all(sa.select(port).where(port.c.network_id == network_id, port.c.device_owner.not_like("network:%")))
    held = fixed_ips.of(tx, [p.id for p in here])
    for found in here:
        fixed_ips.auto(tx, row, found.id, found.mac, len(held.get(found.id, ())))


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/subnets/{id}: 200."""
    sent: SubnetChange = call.body.subnet
    row = lists.find(call, NOUN, call.params["id"])
    owner = call.tx.scalar(sa.select(network.c.project_id).where(network.c.id == row.network_id))
    row = lists.find_for(call, NOUN, "update", row.id, **{"network:project_id": owner})
    lists.enforce_attributes(call, "update_subnet", sent, project_id=row.project_id, **{"network:project_id": owner})
    cidr = ipaddress.ip_network(row.cidr)
    values: dict[str, Any] = {k: v for k, v in lists.given(sent).items() if k in ("name", "service_types")}
    if sent.description is not UNSET:
        values["description"] = sent.description or ""
    if sent.gateway_ip is not UNSET:
        values["gateway_ip"] = _new_gateway(call, row, sent.gateway_ip)
    gateway = values.get("gateway_ip", row.gateway_ip)
    if sent.allocation_pools is not UNSET:
        values["pools"] = options.pools(cidr, gateway, sent.allocation_pools)
    elif "gateway_ip" in values:
        options.check_gateway_outside(gateway, row.pools)
    if sent.enable_dhcp is not UNSET:
        values["enable_dhcp"] = as_bool(sent.enable_dhcp)
        options.check_modes(cidr, values["enable_dhcp"], row.ipv6_ra_mode, row.ipv6_address_mode)
    if sent.dns_nameservers is not UNSET:
        values["dns_nameservers"] = options.name_servers(sent.dns_nameservers)
    if sent.host_routes is not UNSET:
        values["host_routes"] = options.host_routes(sent.host_routes)
    lists.update(call, subnet, row.id, values)
    if "enable_dhcp" in values or "pools" in values:
        dhcp.sync(call.tx, call.cloud, row.network_id)
    touch.network(call.tx, call.cloud, row.network_id)
    return lists.shown(call, NOUN, row.id)


def _new_gateway(call: Call, row: Row[Any], sent: str | None) -> str | None:
    wanted = None if sent is None else options.gateway(ipaddress.ip_network(row.cidr), sent)
    if wanted != row.gateway_ip and row.gateway_ip is not None:
        holder = call.tx.first(
            sa.select(port.c.id, port.c.device_id).join(allocation, allocation.c.port_id == port.c.id)
            .where(
                allocation.c.subnet_id == row.id, allocation.c.ip == row.gateway_ip,
                port.c.device_owner == "network:router_interface",
            )
        )
        if holder is not None:
            raise conflict("GatewayIpInUse", f"Current gateway ip {row.gateway_ip} already in use by port {holder.id}. "
                                             "Unable to update.")
    return wanted


def delete(call: Call) -> None:
    """DELETE /v2.0/subnets/{id}: 204. Addresses of DHCP and those that guests made themselves go with it."""
    row = lists.find(call, NOUN, call.params["id"])
    owner = call.tx.scalar(sa.select(network.c.project_id).where(network.c.id == row.network_id))
    row = lists.find_for(call, NOUN, "delete", row.id, **{"network:project_id": owner})
    used = (
        sa.select(port.c.id).join(allocation, allocation.c.port_id == port.c.id)
        .where(allocation.c.subnet_id == row.id, port.c.device_owner.not_in(networks.AUTO_OWNERS)).limit(1)
    )
    if addresses.is_auto(row):
        used = used.where(port.c.device_owner.like("network:%"))
    if call.tx.first(used) is not None:
        raise conflict("SubnetInUse", f"Unable to complete operation on subnet {row.id}: One or more ports have an IP "
                                      "allocation from this subnet.")
    touch.network(call.tx, call.cloud, row.network_id)
    call.tx.execute(allocation.delete().where(allocation.c.subnet_id == row.id))
    call.tx.execute(subnet.delete().where(_c.id == row.id))
    tags.drop(call.tx, row.id)
    dhcp.sync(call.tx, call.cloud, row.network_id)
