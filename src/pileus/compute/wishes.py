"""What a server that exists asks of the scheduler: its flavor, image, group, hints and networks, as it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import demand, scheduler_hints, spec
from pileus.compute.scheduler import Group, Wish
from pileus.compute.tables import server_group
from pileus.network import networks, ports

if TYPE_CHECKING:
    from pileus.compute.schemas import FlavorFacts
    from pileus.db.engine import Tx

_GROUP = sa.select(server_group).where(server_group.c.id == sa.bindparam("g"))


def of_server(tx: Tx, row: Any, action: str, flavor: FlavorFacts | None = None, **more: Any) -> Wish:
    """Where a server may go on, with this flavor or its own; `more` are other fields of the wish."""
    own = ports.of_servers(tx, [row.id]).get(row.id, [])
    fields = {
        "zone": row.pinned_zone, "group": group(tx.first(_GROUP, {"g": row.group_id}) if row.group_id else None),
        "physical": networks.physical(tx, {port.network_id for port in own}), **scheduler_hints.of(row.hints), **more,
    }
    return Wish(demand=demand.of(flavor or spec.flavor_of(row), spec.facts_of(row)), action=action, **fields)


def group(row: Any) -> Group | None:
    """A server group's row as the scheduler takes it."""
    if row is None:
        return None
    return Group(id=row.id, policy=row.policy, most_per_host=int((row.rules or {}).get("max_server_per_host", 1)))
