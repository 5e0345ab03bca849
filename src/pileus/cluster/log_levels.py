"""How loud the logs of the controllers are. Whoever wants another controller's to be otherwise writes so into its row,
which it looks at every few seconds; there it also says how they are. What was set ends with the process."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster.tables import controller_log
from pileus.web import log

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.cluster")
EVERY = 2.0
"""Seconds between a controller's looks at its row."""

_c = controller_log.c
_ROW = sa.select(controller_log).where(_c.name == sa.bindparam("n"))
_HELD = _ROW.with_for_update()


def wish(tx: Tx, controller: str, prefix: str, level: str) -> bool:
    """Have a controller give its loggers with this prefix a level; False when that does not look for it."""
    row = tx.first(_HELD, {"n": controller})
    if row is None:
        return False
    before = [one for one in row.wishes if not one[0].startswith(prefix)]  # the others this one overrides
    tx.execute(controller_log.update().where(_c.name == controller).values(wishes=[*before, [prefix, level]]))
    return True


def told(tx: Tx, controller: str) -> dict[str, str] | None:
    """The levels of a controller's loggers as it said last; None when it says none."""
    row = tx.first(_ROW, {"n": controller})
    return None if row is None else dict(row.levels)


def begin(tx: Tx, controller: str) -> None:
    """This controller has just started: what an earlier process of it was asked is void."""
    values: dict[str, Any] = {"wishes": [], "levels": log.levels()}
    if tx.first(_HELD, {"n": controller}) is None:
        tx.execute(controller_log.insert().values(name=controller, **values))
    else:
        tx.execute(controller_log.update().where(_c.name == controller).values(**values))


def differs(tx: Tx, controller: str) -> bool:
    """Whether there is something to `follow`."""
    row = tx.first(_ROW, {"n": controller})
    return row is None or bool(row.wishes) or row.levels != log.levels()


def follow(tx: Tx, controller: str) -> None:
    """Do in this process what is asked of it, and say how its loggers are. Done twice it is as done once."""
    row = tx.first(_HELD, {"n": controller})
    if row is None:
        return begin(tx, controller)
    for prefix, level in row.wishes:
        log.set_levels(prefix, level)
    tx.execute(controller_log.update().where(_c.name == controller).values(wishes=[], levels=log.levels()))
    return None


async def run(cloud: Cloud) -> None:
    """Follow, until cancelled."""
    name = cloud.controller
    while True:
        await asyncio.sleep(EVERY)
        try:
            if await cloud.db.run(lambda tx: differs(tx, name), write=False):
                await cloud.db.run(lambda tx: follow(tx, name))
        except Exception as error:
            _LOG.warning("how loud this controller's log is to be cannot be found out now: %s", error)
