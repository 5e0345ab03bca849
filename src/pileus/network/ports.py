"""Ports, as other rooms use them: made, claimed, moved and dropped with a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.auth.context import Context
from pileus.network import addresses, fixed_ips, networks, port_rows, quotas, sharing, subports, touch
from pileus.network import security_groups as groups_room
from pileus.network.faults import conflict, invalid, not_found
from pileus.network.fixed_ips import Ask
from pileus.network.networks import SubnetInfo
from pileus.network.tables import allocation, floating_ip, network, port, port_group, security_group, subnet, trunk
from pileus.web.errors import Forbidden

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class PortInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A port, for other rooms. `subnets` has one entry for each of `fixed_ips`, in the same order."""

    id: str
    name: str
    project_id: str
    network_id: str
    network_name: str
    mac: str
    mtu: int
    status: str
    admin_state_up: bool
    device_id: str
    device_owner: str
    host: str  # the node it is bound to; "": none
    moving_to: str  # the node that its server is moving to; "": none
    port_security: bool
    dns_name: str
    network_type: str
    fixed_ips: tuple[tuple[str, str], ...] = ()  # (subnet id, address)
    subnets: tuple[SubnetInfo, ...] = ()
    floating_ips: tuple[tuple[str, str], ...] = ()  # (fixed address, floating address)
    security_group_ids: tuple[str, ...] = ()
    security_group_names: tuple[str, ...] = ()


_WITH_NETWORK = sa.select(
    port, network.c.name.label("network_name"), network.c.mtu, network.c.network_type
).join(network, network.c.id == port.c.network_id)
_BY_ID = _WITH_NETWORK.where(port.c.id == sa.bindparam("i"))
_WITH_TRUNK = (
    sa.select(port, trunk.c.id.label("trunk_id")).outerjoin(trunk, trunk.c.port_id == port.c.id)
    .where(port.c.id == sa.bindparam("i"))
)
_BY_DEVICES = (
    _WITH_NETWORK.where(port.c.device_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(port.c.created, port.c.id)
)
_ADDRESSES = (
    sa.select(allocation.c.port_id, allocation.c.ip, subnet)
    .join(subnet, subnet.c.id == allocation.c.subnet_id)
    .where(allocation.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(allocation.c.port_id, allocation.c.position, allocation.c.ip_key)
)
_GROUPS = (
    sa.select(port_group.c.port_id, security_group.c.id, security_group.c.name)
    .join(security_group, security_group.c.id == port_group.c.group_id)
    .where(port_group.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(port_group.c.port_id, security_group.c.name)
)
_FLOATING = (
    sa.select(floating_ip.c.port_id, floating_ip.c.fixed_ip_address, floating_ip.c.floating_ip_address)
    .where(floating_ip.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(floating_ip.c.floating_ip_address)
)


def _by_port(rows: Iterable[Row[Any]]) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.port_id, []).append(row)
    return found


def _infos(tx: Tx, rows: Sequence[Row[Any]]) -> list[PortInfo]:
    ids = {"ids": [row.id for row in rows]}
    held, grouped, floating = (_by_port(tx.all(s, ids)) for s in (_ADDRESSES, _GROUPS, _FLOATING))
    return [
        PortInfo(
            id=row.id, name=row.name, project_id=row.project_id, network_id=row.network_id,
            network_name=row.network_name, mac=row.mac, mtu=row.mtu, status=row.status,
            admin_state_up=row.admin_state_up, device_id=row.device_id, device_owner=row.device_owner, host=row.host,
            moving_to=row.moving_to or "", port_security=row.port_security_enabled, dns_name=row.dns_name,
            network_type=row.network_type,
            fixed_ips=tuple((a.id, a.ip) for a in held.get(row.id, ())),
            subnets=tuple(networks.subnet_info(a) for a in held.get(row.id, ())),
            floating_ips=tuple((f.fixed_ip_address, f.floating_ip_address) for f in floating.get(row.id, ())),
            security_group_ids=tuple(g.id for g in grouped.get(row.id, ())),
            security_group_names=tuple(g.name for g in grouped.get(row.id, ())),
        )
        for row in rows
    ]


def get(tx: Tx, port_id: str) -> PortInfo:
    """A port, whoever's it is. Raises NotFound."""
    row = tx.first(_BY_ID, {"i": port_id})
    if row is None:
        raise missing(port_id)
    return _infos(tx, [row])[0]


def missing(port_id: str) -> Exception:
    """404 for a port."""
    return not_found("PortNotFound", "Port", port_id)


def visible(tx: Tx, context: Context, port_id: str) -> PortInfo:
    """A port of the context's project, or any for an administrator. Raises NotFound."""
    info = get(tx, port_id)
    if not context.is_admin and info.project_id != context.project_id:
        raise missing(port_id)
    return info


def of_servers(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[PortInfo]]:
    """The ports of servers by server id, oldest first, in four statements however many there are."""
    found: dict[str, list[PortInfo]] = {identity: [] for identity in server_ids}
    for info in _infos(tx, tx.all(_BY_DEVICES, {"ids": list(found)})):
        found[info.device_id].append(info)
    return found


def create(
    tx: Tx, cloud: Cloud, context: Context, *, network_id: str, device_id: str, device_owner: str, host: str,
    fixed_ip: str | None = None, subnet_id: str | None = None, security_groups: Sequence[str] | None = None,
    name: str = "", dns_name: str = "", hostname: str = "", project_id: str | None = None,
) -> PortInfo:
    """A new port for a server. `security_groups` are ids; None: the project's default group.

    Raises NotFound, Forbidden (an external network), Conflict, OverQuota."""
    row = networks.visible_row(tx, context, network_id)
    owner = project_id or context.project_id or ""
    check_usable(tx, context, row)
    quotas.room(tx, cloud, owner, {"port": 1})
    groups: list[str] = []
    if row.port_security_enabled:
        if security_groups is None:
            groups = [groups_room.ensure_default(tx, cloud, owner)]
        else:
            groups = groups_room.check_ids(tx, context, security_groups, owner)
    asked = None if fixed_ip is None and subnet_id is None else [Ask(subnet_id, fixed_ip)]
    identity = port_rows.insert(
        tx, cloud, row, project_id=owner, asked=asked, groups=groups, name=name, device_id=device_id,
        device_owner=device_owner, host=host, port_security_enabled=row.port_security_enabled,
        dns_name=dns_name or hostname,
    )
    _heard(tx, cloud, identity, network_id, groups)
    return get(tx, identity)


def check_usable(tx: Tx, context: Context, row: Row[Any]) -> None:
    """May the context have ports on this network, which it sees? Raises Forbidden."""
    if context.is_admin or row.shared or row.project_id == context.project_id:
        return
    if row.id not in sharing.shared_ids(tx, context.project_id):
        raise Forbidden(f"Tenant {context.project_id} not allowed to create port on this network: it is external.")


def _heard(tx: Tx, cloud: Cloud, port_id: str, network_id: str, groups: Sequence[str], *more: str) -> None:
    """Count and tell a change of a port that nodes wire."""
    touch.mark(tx, [port_id])
    touch.network(tx, cloud, network_id, *more)
    if cloud.settings.hypervisor != "fake":
        touch.security_groups(tx, cloud, groups)


def claim(
    tx: Tx, cloud: Cloud, context: Context, port_id: str, *, device_id: str, device_owner: str, host: str,
    dns_name: str = "",
) -> PortInfo:
    """Give an existing port to a server. Raises NotFound, Conflict (PortInUse) when a device has it."""
    info = visible(tx, context, port_id)
    if info.device_id and info.device_id != device_id:
        raise conflict("PortInUse", f"Port {port_id} is still in use by device {info.device_id}.")
    taken = tx.execute(
        port.update().where(port.c.id == port_id, port.c.device_id == info.device_id).values(
            device_id=device_id, device_owner=device_owner, host=host, moving_to=None,
            dns_name=info.dns_name or dns_name, status="DOWN", updated=cloud.world.now(), revision=port.c.revision + 1,
        )
    )
    if not taken.rowcount:
        raise conflict("PortInUse", f"Port {port_id} was taken by another device at the same time.")
    _heard(tx, cloud, port_id, info.network_id, info.security_group_ids)
    subports.follow(tx, cloud, [port_id])
    return get(tx, port_id)


def release(tx: Tx, cloud: Cloud, port_id: str) -> None:
    """Take a port that a user made off its server; it stays. An unknown one is fine."""
    row = tx.first(sa.select(port).where(port.c.id == port_id))
    if row is None:
        return
    tx.execute(port.update().where(port.c.id == port_id).values(
        device_id="", device_owner="", host="", moving_to=None, status="DOWN", updated=cloud.world.now(),
        revision=port.c.revision + 1,
    ))
    groups = port_rows.groups_of(tx, [port_id]).get(port_id, [])
    _heard(tx, cloud, port_id, row.network_id, groups, row.host, row.moving_to or "")
    subports.follow(tx, cloud, [port_id])


def delete(tx: Tx, cloud: Cloud, port_id: str) -> None:
    """Delete a port, its addresses, and its floating IPs' association. An unknown one is fine.

    One that a trunk has by now is released only: it stays until its trunk goes."""
    row = tx.first(_WITH_TRUNK, {"i": port_id})
    if row is None:
        return
    if row.trunk_id is not None:
        release(tx, cloud, port_id)
        return
    if cloud.settings.hypervisor != "fake":
        touch.security_groups(tx, cloud, port_rows.groups_of(tx, [port_id]).get(port_id, []))
    nodes = port_rows.drop(tx, cloud, port_id)
    fake_guest = cloud.settings.hypervisor == "fake" and not row.device_owner.startswith("network:")
    own = () if fake_guest else (row.host, row.moving_to or "")
    touch.network(tx, cloud, row.network_id, *nodes, *own)


def mark_up(tx: Tx, cloud: Cloud, port_ids: Iterable[str]) -> None:
    """The guest's ports are wired: ACTIVE, but for those whose admin_state_up is false."""
    ids = list(port_ids)
    if ids:
        tx.execute(port.update().where(
            port.c.id.in_(ids), port.c.status != "ACTIVE", port.c.admin_state_up.is_(True)
        ).values(status="ACTIVE"))
        subports.went_up(tx, cloud, ids)


def mark_down(tx: Tx, cloud: Cloud, port_ids: Iterable[str]) -> None:
    """The guest is off: its ports carry nothing."""
    ids = list(port_ids)
    if ids:
        tx.execute(port.update().where(port.c.id.in_(ids), port.c.status != "DOWN").values(status="DOWN"))
        subports.went_down(tx, ids)


def prepare_move(tx: Tx, cloud: Cloud, device_id: str, host: str) -> None:
    """A running server is to move to another node: it wires the server's ports too, and the network's traffic goes on
    to the node where they are. Ends with `move` or `abandon_move`; told twice, the last host counts."""
    _on_the_way(tx, cloud, device_id, host)


def abandon_move(tx: Tx, cloud: Cloud, device_id: str) -> None:
    """The server stays where it is: the other node gives up its ports. None under way is fine."""
    _on_the_way(tx, cloud, device_id, None)


def _on_the_way(tx: Tx, cloud: Cloud, device_id: str, host: str | None) -> None:
    own = of_servers(tx, [device_id])[device_id]
    for info in own:
        target = None if host == info.host else host
        if info.moving_to == (target or ""):
            continue
        before, after = info.moving_to, target or ""
        tx.execute(port.update().where(port.c.id == info.id).values(moving_to=target))
        more = () if cloud.settings.hypervisor == "fake" else (before, after)
        _heard(tx, cloud, info.id, info.network_id, info.security_group_ids, *more)
    subports.follow(tx, cloud, [info.id for info in own])


def move(tx: Tx, cloud: Cloud, device_id: str, host: str) -> None:
    """Bind all ports of a server to another node ("": to none); from now on all traffic goes there.

    Ports that the node has wired already, for `prepare_move`, stay as they are."""
    own = of_servers(tx, [device_id])[device_id]
    for info in own:
        if info.host == host and not info.moving_to:
            continue
        status = info.status if host and host in (info.moving_to, info.host) else "DOWN"
        tx.execute(port.update().where(port.c.id == info.id).values(host=host, moving_to=None, status=status))
        more = () if cloud.settings.hypervisor == "fake" else (info.host, info.moving_to, host)
        _heard(tx, cloud, info.id, info.network_id, info.security_group_ids, *more)
    subports.follow(tx, cloud, [info.id for info in own])


def add_fixed_ip(
    tx: Tx, cloud: Cloud, port_id: str, *, subnet_id: str | None = None, address: str | None = None
) -> str:
    """One more address for a port, of a subnet or any subnet of its network; the address."""
    row = tx.first(sa.select(port).where(port.c.id == port_id))
    if row is None:
        raise missing(port_id)
    asks = [Ask(subnet_id, address)]
    if subnet_id is None and address is None:
        here = networks.subnets_of(tx, [row.network_id]).get(row.network_id, [])
        asks = [Ask(s.id) for s in here if not addresses.is_auto(s)][:1]
        if not asks:
            raise invalid(f"network {row.network_id} has no subnet to take an address from.")
    have = fixed_ips.of(tx, [port_id]).get(port_id, [])
    got = fixed_ips.assign(
        tx, cloud, port_id=port_id, mac=row.mac, network_id=row.network_id, device_owner=row.device_owner,
        asked=asks, start=1 + max((a.position for a in have), default=-1),
    )
    _changed(tx, cloud, row)
    return got[0][1]


def remove_fixed_ip(tx: Tx, cloud: Cloud, port_id: str, address: str) -> None:
    """Take one address off a port, and the floating IP that leads to it. Raises NotFound."""
    row = tx.first(sa.select(port).where(port.c.id == port_id))
    if row is None:
        raise missing(port_id)
    mine = sa.and_(allocation.c.port_id == port_id, allocation.c.ip == str(addresses.parse(address)))
    if not tx.execute(allocation.delete().where(mine)).rowcount:
        raise not_found("FixedIpNotFound", f"Port {port_id} has no fixed IP; address", address)
    here = sa.and_(floating_ip.c.port_id == port_id, floating_ip.c.fixed_ip_address == address)
    touch.nodes(tx, cloud, port_rows.unfloat(tx, here, cloud.world.now()))
    _changed(tx, cloud, row)


def _changed(tx: Tx, cloud: Cloud, row: Row[Any]) -> None:
    tx.execute(port.update().where(port.c.id == row.id).values(
        updated=cloud.world.now(), revision=port.c.revision + 1
    ))
    _heard(tx, cloud, row.id, row.network_id, port_rows.groups_of(tx, [row.id]).get(row.id, []))


def set_security_groups(tx: Tx, cloud: Cloud, port_id: str, group_ids: Sequence[str]) -> None:
    """Put a port in exactly these groups, which `security_groups.resolve` has found."""
    row = tx.first(sa.select(port).where(port.c.id == port_id))
    if row is None:
        raise missing(port_id)
    before = port_rows.groups_of(tx, [port_id]).get(port_id, [])
    port_rows.set_groups(tx, port_id, group_ids)
    touch.security_groups(tx, cloud, before)
    _changed(tx, cloud, row)


def server_ids_by_ip(tx: Tx, project_id: str | None, pattern: str, version: int) -> list[str]:
    """Servers that have an address in which the pattern (a regular expression) is found from its start.

    Raises BadRequest for a pattern that is none."""
    try:
        wanted = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise invalid(f"'{pattern}' is not a regular expression.") from None
    statement = (
        sa.select(port.c.device_id, allocation.c.ip).join(allocation, allocation.c.port_id == port.c.id)
        .join(subnet, subnet.c.id == allocation.c.subnet_id)
        .where(port.c.device_owner.like("compute:%"), subnet.c.ip_version == version)
    )
    if project_id is not None:
        statement = statement.where(port.c.project_id == project_id)
    return list({row.device_id: None for row in tx.all(statement) if wanted.match(row.ip)})


def server_ids_by_network(tx: Tx, network_id: str) -> list[str]:
    """Servers with a port on the network."""
    return tx.scalars(
        sa.select(port.c.device_id).distinct()
        .where(port.c.network_id == network_id, port.c.device_owner.like("compute:%"))
    )

