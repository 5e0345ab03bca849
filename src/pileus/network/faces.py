"""What a server's view shows of its ports: two lean statements, since every view of a server asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.network.tables import allocation, floating_ip, network, port, port_group, security_group

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_DEVICES = port.c.device_id.in_(sa.bindparam("ids", expanding=True))
_ADDRESSES = (
    sa.select(
        port.c.device_id, port.c.id, network.c.name, port.c.mac, allocation.c.subnet_id, allocation.c.ip
    )
    .join(network, network.c.id == port.c.network_id)
    .outerjoin(allocation, allocation.c.port_id == port.c.id)
    .where(_DEVICES)
    .order_by(port.c.created, port.c.id, allocation.c.position, allocation.c.ip_key)
)
_GROUPS = (
    sa.select(port_group.c.port_id, security_group.c.name.label("one"), sa.literal_column("''").label("other"))
    .join(port, port.c.id == port_group.c.port_id)
    .join(security_group, security_group.c.id == port_group.c.group_id)
    .where(_DEVICES)
)
_FLOATING = (
    sa.select(floating_ip.c.port_id, floating_ip.c.fixed_ip_address, floating_ip.c.floating_ip_address)
    .join(port, port.c.id == floating_ip.c.port_id)
    .where(_DEVICES)
)
# By the name of a group, which has no other, and by the floating address.
_OTHERS = sa.union_all(_GROUPS, _FLOATING).order_by("other", "one")


class Face:
    """A port as a server's view shows it; the names are those of `ports.PortInfo`."""

    __slots__ = ("fixed_ips", "floating_ips", "mac", "network_name", "security_group_names")

    def __init__(self, network_name: str, mac: str) -> None:
        self.network_name = network_name
        self.mac = mac
        self.fixed_ips: list[tuple[str, str]] = []  # (subnet id, address)
        self.floating_ips: list[tuple[str, str]] = []  # (fixed address, floating address)
        self.security_group_names: list[str] = []


def _rows(tx: Tx, statement: sa.Select[Any] | sa.CompoundSelect[Any], devices: dict[str, list[str]]) -> Iterable[Any]:
    return tx.all(statement, devices)


def of_servers(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[Face]]:
    """The faces of servers' ports by server id, oldest first, in at most two statements."""
    found: dict[str, list[Face]] = {}
    by_port: dict[str, Face] = {}
    devices = {"ids": list(server_ids)}
    for server_id, port_id, name, mac, subnet_id, ip in _rows(tx, _ADDRESSES, devices):
        face = by_port.get(port_id)
        if face is None:
            face = by_port[port_id] = Face(name, mac)
            found.setdefault(server_id, []).append(face)
        if ip is not None:
            face.fixed_ips.append((subnet_id, ip))
    if by_port:
        for port_id, one, other in _rows(tx, _OTHERS, devices):
            if other:
                by_port[port_id].floating_ips.append((one, other))
            else:
                by_port[port_id].security_group_names.append(one)
    return found
