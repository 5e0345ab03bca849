"""What a project has in the network service, as other rooms see it: groups with their rules, and floating IPs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from pileus.network import availability, security_groups, sharing
from pileus.network.tables import (
    allocation,
    floating_ip,
    network,
    port,
    router,
    security_group,
    security_group_rule,
    subnet,
)

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.web.call import Call


class RuleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. `protocol` is as its maker wrote it, by name or number; None: any."""

    id: str
    direction: str  # ingress, egress
    ethertype: str  # IPv4, IPv6
    protocol: str | None
    low: int | None  # ports, or ICMP's type and code
    high: int | None
    remote_group_id: str | None
    remote_prefix: str | None
    description: str


class GroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A security group with its rules, oldest first."""

    id: str
    name: str
    project_id: str
    description: str
    rules: tuple[RuleInfo, ...] = ()


class AddressInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A floating IP, and the port that it leads to. `server_id` is "" where that is no server's."""

    id: str
    address: str
    network_id: str
    port_id: str | None
    fixed_address: str | None
    server_id: str


def groups(call: Call) -> list[GroupInfo]:
    """The security groups of the caller's project, by id; the default one is made if it is missing."""
    project_id = call.context.project_id
    call.enforce("get_security_group", project_id=project_id)
    if call.tx.write:
        security_groups.ensure_own_default(call)
    c, r = security_group.c, security_group_rule.c
    rows = call.tx.all(sa.select(security_group).where(c.project_id == project_id).order_by(c.id))
    mine = sa.select(c.id).where(c.project_id == project_id)
    rules: dict[str, list[RuleInfo]] = {}
    for row in call.tx.all(
        sa.select(security_group_rule).where(r.security_group_id.in_(mine)).order_by(r.created, r.id)
    ):
        rules.setdefault(row.security_group_id, []).append(RuleInfo(
            id=row.id, direction=row.direction, ethertype=row.ethertype, protocol=row.protocol,
            low=row.port_range_min, high=row.port_range_max, remote_group_id=row.remote_group_id,
            remote_prefix=row.remote_ip_prefix, description=row.description,
        ))
    return [
        GroupInfo(id=row.id, name=row.name, project_id=row.project_id, description=row.description,
                  rules=tuple(rules.get(row.id, ())))
        for row in rows
    ]


def addresses(call: Call) -> list[AddressInfo]:
    """The floating IPs of the caller's project, by id."""
    project_id = call.context.project_id
    call.enforce("get_floatingip", project_id=project_id)
    f = floating_ip.c
    rows = call.tx.all(
        sa.select(floating_ip, port.c.device_id, port.c.device_owner)
        .outerjoin(port, port.c.id == f.port_id).where(f.project_id == project_id).order_by(f.id)
    )
    return [
        AddressInfo(
            id=row.id, address=row.floating_ip_address, network_id=row.floating_network_id, port_id=row.port_id,
            fixed_address=row.fixed_ip_address,
            server_id=row.device_id if (row.device_owner or "").startswith("compute:") else "",
        )
        for row in rows
    ]


def external_networks(call: Call) -> list[str]:
    """The ids of the external networks that the caller sees: those first to which his project's routers lead, whose
    addresses can lead to his servers; then the default one, then the oldest."""
    call.enforce("get_network", project_id=call.context.project_id)
    seen = sharing.external_ids(call.tx, call.context.project_id)
    c = network.c
    led_to = sa.select(router.c.gateway_network_id).where(
        router.c.project_id == call.context.project_id, router.c.gateway_network_id.is_not(None)
    )
    return call.tx.scalars(
        sa.select(c.id).where(sa.or_(c.external.is_(True), c.id.in_(seen)))
        .order_by(sa.case((c.id.in_(led_to), 0), else_=1), c.is_default.desc(), c.created, c.id)
    )


def free_addresses(tx: Tx, subnet_ids: Sequence[str]) -> dict[str, int]:
    """How many addresses subnets have left, by the subnet's id."""
    c = allocation.c
    counted = sa.select(c.subnet_id, sa.func.count().label("used")).where(c.subnet_id.in_(subnet_ids))
    used = {row.subnet_id: row.used for row in tx.all(counted.group_by(c.subnet_id))}
    rows = tx.all(sa.select(subnet.c.id, subnet.c.pools).where(subnet.c.id.in_(subnet_ids)))
    return {row.id: max(0, availability.size(row.pools) - used.get(row.id, 0)) for row in rows}


def existing(tx: Tx, ids: Iterable[str]) -> set[str]:
    """Which of these are still ids of a network, subnet, security group or floating IP."""
    wanted = list(ids)
    found: set[str] = set()
    for table in (network, subnet, security_group, floating_ip):
        found |= set(tx.scalars(sa.select(table.c.id).where(table.c.id.in_(wanted))))
    return found
