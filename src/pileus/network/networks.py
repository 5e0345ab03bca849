"""Networks: what ports are on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.auth.context import Context
from pileus.db.engine import Retry
from pileus.network import lists, names, quotas, segments, sharing, tags, touch, views
from pileus.network.faults import conflict, invalid, not_found
from pileus.network.schemas import NetworkChange, NetworkNew, number
from pileus.network.tables import floating_ip, network, port, rbac, router, subnet, subnet_pool
from pileus.web.call import Call
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

AUTO_OWNERS = ("network:dhcp",)
"""Owners of ports that the service made by itself, and that go with the network or subnet."""


class SubnetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet, for other rooms."""

    id: str
    name: str
    cidr: str
    ip_version: int
    gateway_ip: str | None
    enable_dhcp: bool
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)
    ipv6_ra_mode: str | None = None
    ipv6_address_mode: str | None = None


class NetworkInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A network with its subnets, for other rooms."""

    id: str
    name: str
    project_id: str
    mtu: int
    shared: bool
    external: bool
    admin_state_up: bool
    port_security: bool
    network_type: str
    dns_domain: str = ""
    subnets: tuple[SubnetInfo, ...] = ()


# -- for other modules and rooms


def subnet_info(row: Row[Any]) -> SubnetInfo:
    """A subnet's row as other rooms see it."""
    return SubnetInfo(
        id=row.id, name=row.name, cidr=row.cidr, ip_version=row.ip_version, gateway_ip=row.gateway_ip,
        enable_dhcp=row.enable_dhcp, dns_nameservers=tuple(row.dns_nameservers),
        host_routes=tuple((d, n) for d, n in row.host_routes), ipv6_ra_mode=row.ipv6_ra_mode,
        ipv6_address_mode=row.ipv6_address_mode,
    )


_SUBNETS = (
    sa.select(subnet).where(subnet.c.network_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(subnet.c.created, subnet.c.id)
)


def subnets_of(tx: Tx, network_ids: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The rows of the subnets of networks, oldest first."""
    found: dict[str, list[Row[Any]]] = {}
    for row in tx.all(_SUBNETS, {"ids": list(network_ids)}):
        found.setdefault(row.network_id, []).append(row)
    return found


def _infos(tx: Tx, rows: Sequence[Row[Any]]) -> list[NetworkInfo]:
    subnets = subnets_of(tx, [row.id for row in rows])
    return [
        NetworkInfo(
            id=row.id, name=row.name, project_id=row.project_id, mtu=row.mtu, shared=row.shared,
            external=row.external, admin_state_up=row.admin_state_up, port_security=row.port_security_enabled,
            network_type=row.network_type, dns_domain=row.dns_domain,
            subnets=tuple(subnet_info(s) for s in subnets.get(row.id, ())),
        )
        for row in rows
    ]


def usable(tx: Tx, context: Context) -> list[NetworkInfo]:
    """Networks that a server of the context's project can be put on without naming one: its own and
    those shared with it, not external, oldest first."""
    mine = sharing.usable(sharing.own(context))
    rows = tx.all(
        sa.select(network).where(mine, network.c.external.is_(False)).order_by(network.c.created, network.c.id)
    )
    return _infos(tx, rows)


def get(tx: Tx, context: Context, network_id: str) -> NetworkInfo:
    """A network that the context sees. Raises NotFound."""
    return _infos(tx, [visible_row(tx, context, network_id)])[0]


_PHYSICAL = sa.select(network.c.physical_network).where(
    network.c.id.in_(sa.bindparam("ids", expanding=True)), network.c.physical_network.is_not(None)
)


def physical(tx: Tx, network_ids: Iterable[str]) -> frozenset[str]:
    """The physical networks that networks are on; none for those that cross nodes by themselves."""
    ids = sorted(set(network_ids))
    return frozenset(tx.scalars(_PHYSICAL, {"ids": ids})) if ids else frozenset()


_BY_ID = sa.select(network).where(network.c.id == sa.bindparam("i"))
_VISIBLE = _BY_ID.where(sharing.visible(sa.bindparam("p")))


def visible_row(tx: Tx, context: Context, network_id: str) -> Row[Any]:
    """The row of a network that the context sees. Raises NotFound (NetworkNotFound)."""
    if context.is_admin:
        row = tx.first(_BY_ID, {"i": network_id})
    else:
        row = tx.first(_VISIBLE, {"i": network_id, "p": sharing.own(context)})
    if row is None:
        raise not_found("NetworkNotFound", "Network", network_id)
    return row


# -- the noun


def _visible(call: Call) -> lists.Clause:
    return sharing.visible(sharing.own(call.context))


def _rule_attributes(call: Call) -> bool:
    return call.allows("get_network:provider:network_type")


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    named = tags.of(call.tx, ids)
    children: dict[str, list[str]] = {}
    scopes: dict[tuple[str, int], str] = {}
    columns = (
        sa.select(subnet.c.id, subnet.c.network_id, subnet.c.ip_version, subnet_pool.c.address_scope_id)
        .outerjoin(subnet_pool, subnet_pool.c.id == subnet.c.subnetpool_id)
        .order_by(subnet.c.created, subnet.c.id)
    )
    for at in range(0, len(ids), 5000):
        for row in call.tx.all(columns.where(subnet.c.network_id.in_(ids[at : at + 5000]))):
            children.setdefault(row.network_id, []).append(row.id)
            if row.address_scope_id:
                scopes[row.network_id, row.ip_version] = row.address_scope_id
    zone = call.cloud.settings.availability_zone
    full = _rule_attributes(call)
    given = sharing.shared_ids(call.tx, call.context.project_id)
    outside = sharing.external_ids(call.tx, call.context.project_id)
    return [
        views.network(
            row, children.get(row.id, []), named.get(row.id, []), full,
            shared=row.shared or row.id in given, external=row.external or row.id in outside, zone=zone,
            scopes=(scopes.get((row.id, 4)), scopes.get((row.id, 6))),
        )
        for row in rows
    ]


def _shared(call: Call, values: list[str]) -> lists.Clause:
    given = sa.select(rbac.c.object_id).where(
        rbac.c.target_project == call.context.project_id, rbac.c.action == sharing.SHARED
    )
    is_shared = sa.or_(network.c.shared.is_(True), network.c.id.in_(given))
    return sa.or_(*(is_shared if as_bool(v) else ~is_shared for v in values))


_c = network.c

NOUN = lists.Noun(
    name="network", plural="networks", title="Network", error="NetworkNotFound", table=network, visible=_visible,
    render=_render,
    filters={
        **lists.standard(network), "status": lists.text(_c.status), "admin_state_up": lists.flag(_c.admin_state_up),
        "shared": _shared, "router:external": lists.flag(_c.external), "is_default": lists.flag(_c.is_default),
        "mtu": lists.integer(_c.mtu), "provider:network_type": lists.text(_c.network_type),
        "provider:physical_network": lists.text(_c.physical_network),
        "provider:segmentation_id": lists.integer(_c.segmentation_id), "dns_domain": lists.text(_c.dns_domain),
        "port_security_enabled": lists.flag(_c.port_security_enabled),
    },
    sorts=lists.sorts(network, "name", "status", "admin_state_up", "shared", "mtu", "router:external=external"),
)


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/networks: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/networks/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/networks: 201."""
    return lists.create_all(call, NOUN, _create)


def _create(call: Call, new: NetworkNew) -> str:
    project_id = lists.owner(call, new, "create_network")
    lists.enforce_attributes(call, "create_network", new, project_id=project_id)
    quotas.room(call.tx, call.cloud, project_id, {"network": 1})
    return insert(call.tx, call.cloud, project_id, new)


def insert(tx: Tx, cloud: Cloud, project_id: str, new: NetworkNew) -> str:
    """Make a network; its id. Raises BadRequest, Conflict."""
    segment = segments.choose(tx, cloud, new)
    largest = segments.largest_mtu(tx, cloud, segment.network_type)
    mtu = number(new.mtu) if new.mtu is not UNSET else 0
    _check_mtu(mtu or largest, largest)
    shared, external, default = (
        v is not UNSET and as_bool(v) for v in (new.shared, new.external, new.is_default)
    )
    if default:
        _check_default(tx, external, None)
    now = cloud.world.now()
    identity = cloud.world.uuid()
    _insert(tx, {
        "id": identity, "project_id": project_id, "description": new.description or "", "created": now,
        "updated": now, "revision": 1, "name": new.name, "admin_state_up": as_bool(new.admin_state_up),
        "status": "ACTIVE", "shared": shared, "external": external, "is_default": default,
        "network_type": segment.network_type, "physical_network": segment.physical_network,
        "segmentation_id": segment.segmentation_id, "segment": segment.name, "mtu": mtu or largest,
        "port_security_enabled": as_bool(new.port_security_enabled), "dns_domain": names.dns_name(new.dns_domain),
        "zone_hints": new.availability_zone_hints, "node": "",
    })
    for action, on in ((sharing.SHARED, shared), (sharing.EXTERNAL, external)):
        if on:
            sharing.set_for_all(tx, cloud, identity, project_id, action, True)
    return identity


def _insert(tx: Tx, row: dict[str, Any]) -> None:
    try:
        with tx.savepoint():
            tx.execute(network.insert(), row)
    except sa.exc.IntegrityError:
        raise Retry from None  # another took the segment at the same time; the next try sees that


def _check_mtu(mtu: int, largest: int) -> None:
    if mtu > largest:
        raise invalid(f"Requested MTU is too big, maximum is {largest}.")
    if mtu < 68:
        raise invalid("Requested MTU is too small, minimum is 68.")


def _check_default(tx: Tx, external: bool, identity: str | None) -> None:
    if not external:
        raise invalid("A default network must be external: set router:external too.")
    other = tx.first(sa.select(_c.id).where(_c.is_default.is_(True), _c.id != (identity or "")))
    if other is not None:
        raise conflict("DefaultExternalNetworkExists", f"A default external network already exists: {other.id}.")


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/networks/{id}: 200."""
    sent: NetworkChange = call.body.network
    row = lists.find_for(call, NOUN, "update", call.params["id"])
    lists.enforce_attributes(call, "update_network", sent, project_id=row.project_id)
    values = lists.given(sent, "network_type", "physical_network", "segmentation_id", "mtu")
    for name in ("admin_state_up", "shared", "external", "is_default", "port_security_enabled"):
        if name in values:
            values[name] = as_bool(values[name])
    if "description" in values:
        values["description"] = values["description"] or ""
    if "dns_domain" in values:
        values["dns_domain"] = names.dns_name(values["dns_domain"])
    _check_provider(row, sent)
    if sent.mtu is not UNSET:
        values["mtu"] = number(sent.mtu)
        _check_mtu(values["mtu"], segments.largest_mtu(call.tx, call.cloud, row.network_type))
    if values.get("is_default"):
        _check_default(call.tx, values.get("external", row.external), row.id)
    _check_sharing(call, row, values)
    for column, action in (("shared", sharing.SHARED), ("external", sharing.EXTERNAL)):
        if column in values:
            sharing.set_for_all(call.tx, call.cloud, row.id, row.project_id, action, values[column])
    lists.update(call, network, row.id, values)
    touch.network(call.tx, call.cloud, row.id)
    return lists.shown(call, NOUN, row.id)


def _check_provider(row: Row[Any], sent: NetworkChange) -> None:
    for name in ("network_type", "physical_network", "segmentation_id"):
        value = getattr(sent, name)
        if value is not UNSET and str(value) != str(getattr(row, name)):
            raise invalid("Plugin does not support updating provider attributes.")


def _check_sharing(call: Call, row: Row[Any], values: dict[str, Any]) -> None:
    if row.shared and values.get("shared") is False:
        check_unshared(call.tx, row)
    if row.external and values.get("external") is False:
        used = (
            sa.select(router.c.id).where(router.c.gateway_network_id == row.id).limit(1),
            sa.select(floating_ip.c.id).where(floating_ip.c.floating_network_id == row.id).limit(1),
        )
        if any(call.tx.first(statement) is not None for statement in used):
            raise conflict(
                "ExternalNetworkInUse",
                f"External network {row.id} cannot be updated to be made non-external, since it has existing "
                "gateway ports.",
            )


def check_unshared(tx: Tx, row: Row[Any], target: str = "*") -> None:
    """Can the network stop being shared with `target`? Raises Conflict while others have ports there."""
    allowed = sa.select(rbac.c.target_project).where(
        rbac.c.object_id == row.id, rbac.c.action == sharing.SHARED, rbac.c.target_project != target
    )
    left = set(tx.scalars(allowed))
    if "*" in left:
        return
    others = sa.select(port.c.project_id).distinct().where(
        port.c.network_id == row.id, port.c.project_id.not_in([row.project_id, "", *left])
    )
    affected = [p for p in tx.scalars(others) if target in ("*", p)]
    if affected:
        raise conflict(
            "InvalidSharedSetting",
            f"Unable to reconfigure sharing settings for network {row.id}. Multiple tenants are using it.",
        )


def delete(call: Call) -> None:
    """DELETE /v2.0/networks/{id}: 204. Its subnets, the ports that the service made, and the floating IPs that
    lead nowhere go too."""
    row = lists.find_for(call, NOUN, "delete", call.params["id"])
    tx = call.tx
    _drop_idle_floating_ips(tx, row.id)
    used = sa.select(port.c.id).where(port.c.network_id == row.id, port.c.device_owner.not_in(AUTO_OWNERS)).limit(1)
    if tx.first(used) is not None:
        raise conflict(
            "NetworkInUse",
            f"Unable to complete operation on network {row.id}. There are one or more ports still in use on the "
            "network.",
        )
    touch.network(tx, call.cloud, row.id)
    tx.execute(port.delete().where(port.c.network_id == row.id))
    for subnet_id in tx.scalars(sa.select(subnet.c.id).where(subnet.c.network_id == row.id)):
        tags.drop(tx, subnet_id)
    tx.execute(subnet.delete().where(subnet.c.network_id == row.id))
    tx.execute(rbac.delete().where(rbac.c.object_id == row.id))
    tags.drop(tx, row.id)
    tx.execute(network.delete().where(network.c.id == row.id))


def _drop_idle_floating_ips(tx: Tx, network_id: str) -> None:
    idle = tx.all(
        sa.select(floating_ip.c.id, floating_ip.c.floating_port_id)
        .where(floating_ip.c.floating_network_id == network_id, floating_ip.c.port_id.is_(None))
    )
    for found in idle:
        tags.drop(tx, found.id)
        tx.execute(floating_ip.delete().where(floating_ip.c.id == found.id))
        tx.execute(port.delete().where(port.c.id == found.floating_port_id))
