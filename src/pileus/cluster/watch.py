"""Looks at the database once a second for what the bus may have lost, so that a lost wake costs a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.work.tables import task
from pileus.work.tasks import OPEN

if TYPE_CHECKING:
    from pileus.cloud import Cloud

_LOG = logging.getLogger("pileus.work")
_EVERY = 1.0
_NETWORK_EVERY = 10.0
_DUE = (
    sa.select(task.c.node, sa.func.max(task.c.seq), sa.func.count(), sa.func.sum(task.c.attempt))
    .where(task.c.state.in_(OPEN), task.c.node != "", task.c.not_before <= sa.bindparam("now"))
    .group_by(task.c.node)
)


async def run(cloud: Cloud, here: Callable[[], Iterable[str]]) -> None:
    """Wake the nodes connected to this process (`here`) whose tasks have changed, for ever."""
    last: dict[str, Any] = {}
    counted, looked = 0, 0.0
    while True:
        await asyncio.sleep(_EVERY)
        try:
            now = cloud.world.now()
            rows = await cloud.db.run(lambda tx, now=now: tx.all(_DUE, {"now": now}), write=False)  # type: ignore[misc]
            seen = {row[0]: tuple(row[1:]) for row in rows}
            mine = set(here())
            for node in mine & seen.keys():
                if last.get(node) != seen[node]:
                    cloud.bus.wake_here(node)
            last = seen
            if cloud.world.monotonic() - looked > _NETWORK_EVERY:
                looked = cloud.world.monotonic()
                counted = await _network(cloud, mine, counted)
        except Exception as error:
            _LOG.warning("the database cannot be looked at now: %s", error)


async def _network(cloud: Cloud, mine: set[str], counted: int) -> int:
    """Something about networks has changed somewhere since the last look: the nodes here look for themselves."""
    from pileus.db.locks import read_revision
    from pileus.network.touch import COUNTER

    count = await cloud.db.run(lambda tx: read_revision(tx, COUNTER), write=False)
    if count != counted:
        for node in mine:
            cloud.bus.wake_here(f"net:{node}")
    return count
