"""The controllers of the cloud: each says every few seconds that it lives, and where its cluster port is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster.tables import controller

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

DEAD_AFTER = 15.0
"""Seconds of silence after which a controller counts as gone."""

_c = controller.c


def beat(tx: Tx, cloud: Cloud, address: str, services: list[str], version: str, started: float) -> None:
    """This controller lives; `address` is HOST:PORT of its cluster port."""
    now = cloud.world.now()
    api = cloud.settings.api_address
    values = {"address": address, "api": api, "services": services, "seen": now, "version": version, "started": started}
    if not tx.execute(controller.update().where(_c.name == cloud.controller).values(**values)).rowcount:
        tx.execute(controller.insert().values(name=cloud.controller, **values))


def gone(tx: Tx, name: str) -> None:
    """A controller has stopped in order."""
    tx.execute(controller.update().where(_c.name == name).values(seen=0.0))


def live(tx: Tx, now: float) -> list[str]:
    """The names of the controllers that live, in order."""
    return tx.scalars(sa.select(_c.name).where(_c.seen > now - DEAD_AFTER).order_by(_c.name))


def listing(tx: Tx) -> list[Any]:
    """All rows, by name."""
    return list(tx.all(sa.select(controller).order_by(_c.name)))


def endpoints(tx: Tx, now: float) -> dict[str, str]:
    """Where the cluster port of each controller that lives is."""
    rows = tx.all(sa.select(_c.name, _c.address).where(_c.seen > now - DEAD_AFTER, _c.address != ""))
    return {row.name: row.address for row in rows}
