"""What was noted of resources that have gone, also those that other APIs have deleted, goes after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.compute import servers
from pileus.ec2 import tags
from pileus.ec2.tables import client_token, tag
from pileus.image import images
from pileus.network import belongings

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

TOKENS = 2 * 86400.0
"""Seconds for which a ClientToken is remembered."""

_BATCH = 500
_AT = "ec2.sweep"


def sweep(tx: Tx, cloud: Cloud) -> int:
    """Forget old client tokens, and tags of what is gone, a batch of resources at a time; how many resources."""
    now = cloud.world.now()
    tx.execute(client_token.delete().where(client_token.c.created < now - TOKENS))
    after: str = cloud.memory.get(_AT, "")
    c = tag.c.resource_id
    known = tx.scalars(sa.select(c).distinct().where(c > after).order_by(c).limit(_BATCH))
    last = known[-1] if len(known) == _BATCH else ""
    tx.after_commit(lambda: cloud.memory.update({_AT: last}))
    if not known:
        return 0
    live = servers.existing(tx, known, now - tags.REMEMBERED) | images.existing(tx, known)
    gone = sorted(set(known) - live - belongings.existing(tx, known))
    if gone:
        tx.execute(tag.delete().where(c.in_(gone)))
    return len(gone)
