"""On which node the DHCP of a network and a router live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.network.tables import agent

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

SILENCE = 150.0
"""Seconds without a word after which a node is taken for dead: twice what one stays silent that has no change."""

_LIVE = (
    sa.select(agent.c.node)
    .where(agent.c.kind == sa.bindparam("k"), agent.c.heartbeat > sa.bindparam("since"), agent.c.admin_state_up)
    .order_by(agent.c.created, agent.c.node)
    .limit(1)
)


def choose(tx: Tx, cloud: Cloud, kind: str) -> str:
    """The node for something new of an agent kind ("dhcp", "l3"): the first that lives; "" while there is none."""
    found: str | None = tx.scalar(_LIVE, {"k": kind, "since": cloud.world.now() - SILENCE})
    return found or ""
