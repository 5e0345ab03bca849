"""The security groups that a node needs for its ports: rules, and the members of groups that rules name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import views
from pileus.network.addresses import without_host_bits
from pileus.network.tables import allocation, port, port_group, security_group, security_group_rule
from pileus.node.contract import RuleState, SecurityGroupState

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_CHUNK = 5000


def states(
    tx: Tx, port_ids: Sequence[str], known: dict[str, tuple[str, ...]] | None = None
) -> tuple[SecurityGroupState, ...]:
    """The groups of these ports and, with their members alone, the groups that their rules name.

    `known` has members that were read before at the same revision; it is added to."""
    used: set[str] = set()
    for at in range(0, len(port_ids), _CHUNK):
        part = port_ids[at : at + _CHUNK]
        used.update(tx.scalars(sa.select(port_group.c.group_id).distinct().where(port_group.c.port_id.in_(part))))
    if not used:
        return ()
    rules: dict[str, list[RuleState]] = {}
    statement = sa.select(security_group_rule).where(security_group_rule.c.security_group_id.in_(used))
    for row in tx.all(statement.order_by(security_group_rule.c.id)):
        rules.setdefault(row.security_group_id, []).append(_rule(row))
    named = {rule.remote_group for found in rules.values() for rule in found if rule.remote_group}
    members = {} if known is None else known
    missing = named - members.keys()
    if missing:
        read = _members(tx, missing)
        members.update({name: tuple(sorted(read.get(name, ()))) for name in missing})
    groups = tx.all(
        sa.select(security_group.c.id, security_group.c.stateful)
        .where(security_group.c.id.in_(used | named)).order_by(security_group.c.id)
    )
    return tuple(
        SecurityGroupState(
            id=row.id, stateful=row.stateful, rules=tuple(rules.get(row.id, ())),
            members=members.get(row.id, ()) if row.id in named else (),
        )
        for row in groups
    )


def _rule(row: Row[Any]) -> RuleState:
    # In IPv6 rules older clients write ICMP as they do for IPv4.
    icmp6 = row.ethertype == "IPv6" and row.protocol in ("icmp", "icmpv6", "1", "58")
    return RuleState(
        id=row.id, direction=row.direction, ethertype=row.ethertype, protocol="ipv6-icmp" if icmp6 else row.protocol,
        port_min=row.port_range_min, port_max=row.port_range_max, remote_cidr=views.normalized(row.remote_ip_prefix),
        remote_group=row.remote_group_id,
    )


def _members(tx: Tx, groups: Iterable[str]) -> dict[str, set[str]]:
    """Every address of the groups' ports, their allowed pairs included."""
    wanted = list(groups)
    found: dict[str, set[str]] = {}
    held = (
        sa.select(port_group.c.group_id, allocation.c.ip)
        .join(allocation, allocation.c.port_id == port_group.c.port_id)
        .where(port_group.c.group_id.in_(wanted))
    )
    for row in tx.all(held):
        found.setdefault(row.group_id, set()).add(row.ip)
    paired = (
        sa.select(port_group.c.group_id, port.c.allowed_pairs).join(port, port.c.id == port_group.c.port_id)
        .where(port_group.c.group_id.in_(wanted), sa.func.length(port.c.allowed_pairs) > 2)
    )
    for row in tx.all(paired):
        found.setdefault(row.group_id, set()).update(without_host_bits(ip) for ip, _ in row.allowed_pairs)
    return found
