"""Which node serves a network's or router's metadata address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.network.tables import network, router

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def on_node(tx: Tx, node: str, network_or_router_id: str) -> bool:
    """Whether the DHCP of this network, or this router, is placed on the node."""
    wanted = network_or_router_id
    if tx.first(sa.select(network.c.id).where(network.c.id == wanted, network.c.node == node)) is not None:
        return True
    return tx.first(sa.select(router.c.id).where(router.c.id == wanted, router.c.node == node)) is not None
