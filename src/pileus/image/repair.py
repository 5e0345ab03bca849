"""What a crash left behind: transfers that nobody continues, files that nobody needs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.image import store
from pileus.image.data import host
from pileus.image.tables import image

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.image")
_YOUNG = 3600.0


def at_start(tx: Tx, cloud: Cloud) -> None:
    """This controller has just begun, so that no transfer of its own goes on: put their images back at once."""
    _put_back(tx, cloud, image.c.transfer_host == host())
    if not tx.scalar(sa.select(sa.func.count()).select_from(image).where(image.c.transfer != "")):
        # No bytes come in anywhere, so that no file waits for its image: what no image has was left by a kill.
        _delete_orphans(tx, cloud, time.time() + 1)


def expired(tx: Tx, cloud: Cloud) -> None:
    """Put back the images of transfers whose controller gave no sign for long. Runs periodically."""
    _put_back(tx, cloud, image.c.transfer_lease < cloud.world.now())


def _put_back(tx: Tx, cloud: Cloud, which: sa.ColumnElement[bool]) -> None:
    """A transfer of an import goes back to its task, any other to where it began: to nothing."""
    lost = tx.all(sa.select(image.c.id, image.c.status).where(image.c.transfer != "", which))
    for row in lost:
        back = "importing" if row.status == "importing" else "queued"
        _LOG.warning("image %s: its transfer broke off; it is %s again", row.id, back)
        tx.execute(
            image.update().where(image.c.id == row.id)
            .values(status=back, transfer="", transfer_lease=0.0, updated_at=cloud.world.now())
        )


def orphans(tx: Tx, cloud: Cloud) -> None:
    """Delete files that no image has (any more). Young ones are left alone: their image may be about to be."""
    _delete_orphans(tx, cloud, time.time() - _YOUNG)


def _delete_orphans(tx: Tx, cloud: Cloud, old: float) -> None:
    there = {
        name: [p for p in store.folder(cloud, name).iterdir() if p.is_file() and p.stat().st_mtime < old]
        for name in ("", "staged", "incoming")
    }
    needed = {
        "": set(tx.scalars(sa.select(image.c.id).where(image.c.status.in_(("active", "deactivated"))))),
        "staged": set(tx.scalars(sa.select(image.c.id).where(image.c.status.in_(("uploading", "importing"))))),
    }
    moving = {f"{r.id}.{r.transfer}" for r in tx.all(
        sa.select(image.c.id, image.c.transfer).where(image.c.transfer != "")
    )}
    for name, paths in there.items():
        for path in paths:
            if path.name not in (moving if name == "incoming" else needed[name]):
                _LOG.warning("image store: %s belongs to no image and is deleted", path)
                tx.after_commit(lambda path=path: store.discard(cloud, path))  # type: ignore[misc]
