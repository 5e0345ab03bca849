"""A build that one node failed at is given to another, as long as there is one: at most three nodes are tried."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pileus.compute import block_devices, create, orders, scheduler, servers, wishes
from pileus.network import ports
from pileus.placement import allocations

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.compute")
MOST_NODES = 3
TRIED = "pileus:tried"
"""Where a server's hints keep the nodes that failed."""


def elsewhere(tx: Tx, cloud: Cloud, row: Any, request_id: str, error: str, now: float) -> bool:
    """Claim on another node, move the ports there and have the server built; False when no other will do.

    What the failed node may have made of the guest is destroyed there."""
    tried = [*row.hints.get(TRIED, []), row.host]
    if row.launched is not None or row.hints.get(create.FORCED) or len(tried) >= MOST_NODES:
        return False
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    try:
        with tx.savepoint():
            allocations.release(tx, row.id)
            wish = wishes.of_server(tx, row, "build elsewhere", avoid=frozenset(tried))
            chosen = scheduler.place(tx, cloud, wish, owner)
    except scheduler.NoValidHost as failed:
        scheduler.keep(tx, cloud, row.id, failed)
        return False
    _LOG.warning("server %s: node %s failed to build it (%s); node %s is next", row.id, row.host, error, chosen.name)
    orders.send(tx, cloud, row, "destroy", request_id=request_id, deadline=orders.UNTIL_BACK)
    ports.move(tx, cloud, row.id, chosen.name)
    hints = {**row.hints, TRIED: tried}
    servers.change(tx, row.id, now, host=chosen.name, zone=chosen.zone, hints=hints)
    moved = servers.held(tx, row.id)
    assert moved is not None
    if block_devices.prepare(tx, cloud, moved, request_id, anew=True):
        servers.change(tx, row.id, now, task_state=block_devices.MAPPING)
        return True
    described = orders.described(tx, cloud, moved)
    orders.send(tx, cloud, moved, "build", request_id=request_id, spec=described)
    return True
