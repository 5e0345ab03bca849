"""Deleted servers are remembered for a while, for usage and for their logs; then their rows go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.compute.tables import action, block_device, console_token, decision, event, migration, server, server_tag

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_BATCH = 500
"""Servers at once, so that no transaction is long; the next run takes the next ones."""


def purge(tx: Tx, cloud: Cloud) -> int:
    """Forget servers that were deleted over `purge_deleted_days` ago, with all that is written of them; how many."""
    days = cloud.settings.purge_deleted_days
    if days == 0:
        return 0
    before = cloud.world.now() - days * 86400
    ids = tx.scalars(
        sa.select(server.c.id).where(server.c.deleted.is_(True), server.c.deleted_at < before)
        .order_by(server.c.seq).limit(_BATCH)
    )
    if not ids:
        return 0
    actions = sa.select(action.c.id).where(action.c.server_id.in_(ids))
    tx.execute(event.delete().where(event.c.action_id.in_(actions)))
    for of_server in (action, block_device, console_token, decision, migration, server_tag):
        tx.execute(of_server.delete().where(of_server.c.server_id.in_(ids)))
    tx.execute(server.delete().where(server.c.id.in_(ids)))
    return len(ids)
