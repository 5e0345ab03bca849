"""The port of a network's DHCP server: made with the first subnet that has DHCP, gone with the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import addresses, fixed_ips, placing, port_rows
from pileus.network.networks import subnets_of
from pileus.network.tables import allocation, network, port

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

OWNER = "network:dhcp"

_PORT = sa.select(port).where(
    port.c.network_id == sa.bindparam("n"), port.c.device_owner == OWNER
).order_by(port.c.id)


def sync(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """Give the DHCP server one address in each subnet with DHCP, and in no other. A subnet that is full goes
    without: its guests were there first."""
    wanted = {row.id: row for row in subnets_of(tx, [network_id]).get(network_id, []) if row.enable_dhcp}
    row = tx.first(_PORT, {"n": network_id})
    if row is None:
        if not wanted:
            return
        row = _make(tx, cloud, network_id)
    have = {old.subnet_id for old in fixed_ips.of(tx, [row.id]).get(row.id, [])}
    for subnet_id in have - wanted.keys():
        tx.execute(allocation.delete().where(allocation.c.port_id == row.id, allocation.c.subnet_id == subnet_id))
    got = len(have & wanted.keys())
    for subnet_id in wanted.keys() - have:
        got += _take(tx, cloud, wanted[subnet_id], row, got)
    if not got:
        tx.execute(port.delete().where(port.c.id == row.id))


def _take(tx: Tx, cloud: Cloud, subnet: Row[Any], row: Row[Any], position: int) -> bool:
    if addresses.is_auto(subnet):
        ip = addresses.eui64(subnet.cidr, row.mac)
        return addresses.take(tx, subnet.id, ip, row.id, position)
    return addresses.take_free(tx, cloud, subnet, row.id, position) is not None


def _make(tx: Tx, cloud: Cloud, network_id: str) -> Row[Any]:
    found = tx.first(sa.select(network).where(network.c.id == network_id))
    assert found is not None
    node = found.node
    if not node and not found.detached:
        physical = [found.physical_network] if found.physical_network else []
        node = placing.choose(tx, cloud, placing.DHCP, physical)
        tx.execute(network.update().where(network.c.id == network_id).values(node=node))
    port_rows.insert(
        tx, cloud, found, project_id=found.project_id, device_id=f"dhcp-{network_id}", device_owner=OWNER, host=node,
        port_security_enabled=False, asked=(),
    )
    row = tx.first(_PORT, {"n": network_id})
    assert row is not None
    return row
