"""What a crash left behind: transfers that nobody continues, files that nobody needs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.image import copies, store
from pileus.image.tables import image, image_copy

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.image")
_YOUNG = 3600.0


def at_start(tx: Tx, cloud: Cloud) -> None:
    """This controller has just begun, so that no transfer of its own goes on: put their images back at once."""
    _put_back(tx, cloud, image.c.transfer_host == cloud.controller)
    _count_copies(tx, cloud)
    if not tx.scalar(sa.select(sa.func.count()).select_from(image).where(image.c.transfer != "")):
        # No bytes come in anywhere, so that no file waits for its image: what no image has was left by a kill.
        _delete_orphans(tx, cloud, time.time() + 1)


def _count_copies(tx: Tx, cloud: Cloud) -> None:
    """Let the rows say what there is: files from before there were rows, and files that were lost."""
    if cloud.settings.image_shared:
        return
    states = {"image": copies.WITH_CONTENT, "staged": ("uploading", "importing")}
    for kind, status in states.items():
        there = {path.name for path in copies.place(cloud, "x", kind).parent.iterdir() if path.is_file()}
        mine = sa.and_(image_copy.c.controller == cloud.controller, image_copy.c.kind == kind)
        known = set(tx.scalars(sa.select(image_copy.c.image_id).where(mine)))
        for image_id in sorted(known - there):
            _LOG.warning("image %s: its %s file is not here any more", image_id, kind)
            tx.execute(image_copy.delete().where(mine, image_copy.c.image_id == image_id))
        if kind == "staged":  # what is staged is in one place; another file is of a time before
            known |= set(tx.scalars(sa.select(image_copy.c.image_id).where(image_copy.c.kind == kind)))
        if there - known:
            for image_id in set(tx.scalars(sa.select(image.c.id).where(image.c.status.in_(status)))) & (there - known):
                copies.note(tx, cloud, image_id, kind)


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
    """Delete files here that no image has (any more). Young ones are left alone: their image may be about to be."""
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
