"""Periodic work: each job runs on one controller at a time, by a lease in the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.faults import OutcomeUnknown, Unreachable
from pileus.work.tables import lease

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.work")


@dataclass(frozen=True)
class Periodic:
    """A job in one transaction, every `every` seconds."""

    name: str
    every: float
    work: Callable[[Tx, Cloud], object]


def take_lease(tx: Tx, name: str, owner: str, now: float, hold: float) -> bool:
    """Have or keep the lease `name` until `now + hold`; False when another has it."""
    row = tx.first(sa.select(lease).where(lease.c.name == name).with_for_update())
    if row is None:
        try:
            with tx.savepoint():
                tx.execute(lease.insert().values(name=name, owner=owner, until=now + hold))
        except sa.exc.IntegrityError:
            return False
        return True
    if row.owner != owner and row.until > now:
        return False
    tx.execute(lease.update().where(lease.c.name == name).values(owner=owner, until=now + hold))
    return True


async def run(cloud: Cloud, jobs: tuple[Periodic, ...], owner: str) -> None:
    """Run the jobs for ever."""
    due = {job.name: cloud.world.monotonic() + min(job.every, 5.0) for job in jobs}
    while True:
        now = cloud.world.monotonic()
        await asyncio.sleep(max(0.05, min(due.values(), default=now + 60) - now))
        for job in jobs:
            if due[job.name] > cloud.world.monotonic():
                continue
            due[job.name] = cloud.world.monotonic() + job.every
            try:
                await cloud.db.run(lambda tx, job=job: _guarded(tx, cloud, job, owner))  # type: ignore[misc]
            except (Unreachable, OutcomeUnknown) as error:
                _LOG.warning("periodic job %s waits: %s", job.name, error)
            except Exception:
                _LOG.exception("periodic job %s failed; it will be tried again in %s s", job.name, job.every)


def _guarded(tx: Tx, cloud: Cloud, job: Periodic, owner: str) -> None:
    if take_lease(tx, "periodic:" + job.name, owner, cloud.world.now(), job.every * 3):
        job.work(tx, cloud)
