"""Which controllers have an image's bytes, and how another one gets them.

The store is files in each controller's state folder. A row of `image_copy` says that a controller has a file: it is
written when the file is complete, and goes when the file has gone. Whoever needs bytes that are not here fetches them
from a controller that has them, checks them, and keeps them. With the setting `image_shared` all controllers have one
folder, and there are no rows.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from pileus.image import store
from pileus.image.tables import image, image_copy
from pileus.web.body import Chunks
from pileus.web.errors import NotFound, Problem, Unavailable

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.image")

TOPIC = "images"
"""What is woken on every controller when there is something to copy or to remove."""
WITH_CONTENT = ("active", "deactivated")
_c = image_copy.c


class Wanted(msgspec.Struct, frozen=True):
    """What the bytes of an image must be, and who has them; those that live come first."""

    size: int
    sha512: str
    holders: tuple[str, ...]


# -- rows


def note(tx: Tx, cloud: Cloud, image_id: str, kind: str = "image") -> None:
    """This controller has the bytes. `kind`: image, or staged for what waits for its import."""
    if cloud.settings.image_shared:
        return
    mine = {"image_id": image_id, "controller": cloud.controller, "kind": kind}
    known = sa.select(_c.since).where(*(_c[name] == value for name, value in mine.items()))
    if tx.first(known) is None:
        tx.execute(image_copy.insert().values(**mine, since=cloud.world.now()))
    tx.after_commit(lambda: cloud.bus.wake(TOPIC))


def note_staged(tx: Tx, cloud: Cloud, image_id: str) -> None:
    """What waits for its import is here, and whatever was staged elsewhere before it counts no more."""
    tx.execute(image_copy.delete().where(_c.image_id == image_id, _c.kind == "staged"))
    note(tx, cloud, image_id, "staged")


def staged_at(tx: Tx, cloud: Cloud, image_id: str) -> tuple[str | None, bool]:
    """The controller that has what is staged (this one in a shared folder), and whether it lives."""
    from pileus.cluster import controllers

    if cloud.settings.image_shared:
        return cloud.controller, True
    name = tx.scalar(sa.select(_c.controller).where(_c.image_id == image_id, _c.kind == "staged"))
    return name, name == cloud.controller or name in controllers.live(tx, cloud.world.now())


def forget(tx: Tx, cloud: Cloud, image_id: str, kinds: tuple[str, ...] = ("image", "staged")) -> None:
    """Remove this controller's files of an image once it is certain; the others see it by their own rows."""
    tx.execute(image_copy.delete().where(
        _c.image_id == image_id, _c.controller == cloud.controller, _c.kind.in_(kinds)
    ))

    def gone() -> None:
        for kind in kinds:
            store.discard(cloud, place(cloud, image_id, kind))
        cloud.bus.wake(TOPIC)

    tx.after_commit(gone)


def place(cloud: Cloud, image_id: str, kind: str) -> Path:
    """Where the file of a kind is on this controller."""
    return (store.staged_path if kind == "staged" else store.final_path)(cloud, image_id)


def holders(tx: Tx, cloud: Cloud, image_id: str) -> list[str]:
    """The other controllers that have an image's bytes, those that live first."""
    from pileus.cluster import controllers

    rows = tx.scalars(
        sa.select(_c.controller).where(_c.image_id == image_id, _c.kind == "image", _c.controller != cloud.controller)
        .order_by(_c.controller)
    )
    live = set(controllers.live(tx, cloud.world.now()))
    return sorted(rows, key=lambda name: name not in live)


# -- files


def local_path(cloud: Cloud, image_id: str) -> Path | None:
    """The file of an image on this controller; None when it is not here."""
    path = store.final_path(cloud, image_id)
    try:
        os.utime(path)  # what was needed lately is kept longest
    except FileNotFoundError:
        return None
    except PermissionError:
        pass  # a folder that is shared
    return path


async def here(cloud: Cloud, image_id: str) -> Path:
    """The file of an active image on this controller, fetched from another one when it is not here yet.

    Raises NotFound when the image has no content, Unavailable when nobody who has it can be reached."""
    found = local_path(cloud, image_id)
    if found is not None:
        return found
    going: dict[str, asyncio.Task[Path]] = cloud.memory.setdefault("image.fetches", {})
    task = going.get(image_id)
    if task is None:
        task = going[image_id] = asyncio.create_task(_fetch(cloud, image_id))
        task.add_done_callback(lambda done: (going.pop(image_id, None), done.cancelled() or done.exception()))
    return await asyncio.shield(task)  # one who goes away does not take it from the others


async def _fetch(cloud: Cloud, image_id: str) -> Path:
    wanted = await cloud.db.run(lambda tx: _wanted(tx, cloud, image_id), write=False)
    for name in wanted.holders:
        path = store.folder(cloud, "incoming") / f"{image_id}.fetch-{cloud.world.hex_id()}"
        try:
            receipt = await store.take_in(cloud, Chunks(from_peer(cloud, name, image_id, "image")), path)
        except Problem as problem:
            _LOG.warning("image %s is not had from controller %s: %s", image_id, name, problem)
            continue
        if (receipt.size, receipt.sha512) != (wanted.size, wanted.sha512):
            _LOG.error("image %s: controller %s has other bytes than were uploaded; they are not used", image_id, name)
            store.discard(cloud, path)
            continue
        target = store.final_path(cloud, image_id)
        await store.put(cloud, path, target)
        if not await cloud.db.run(lambda tx: _keep(tx, cloud, image_id)):
            store.discard(cloud, target)
            raise NotFound(f"Image {image_id} was deleted.")
        return target
    if not wanted.holders:
        raise NotFound(f"Image {image_id} has no content in this store.")
    raise Unavailable(
        f"The content of image {image_id} is on {', '.join(wanted.holders)}, and cannot be had from there now.",
        headers={"Retry-After": "15"},
    )


async def from_peer(cloud: Cloud, controller: str, image_id: str, kind: str) -> AsyncIterator[bytes]:
    """The bytes that another controller has. Raises Unavailable, NotFound."""
    from pileus.cluster import peers

    async for chunk in peers.image_bytes(cloud, controller, image_id, kind):
        yield chunk


def _wanted(tx: Tx, cloud: Cloud, image_id: str) -> Wanted:
    row = tx.first(
        sa.select(image.c.size, image.c.os_hash_value).where(image.c.id == image_id, image.c.status.in_(WITH_CONTENT))
    )
    if row is None or row.size is None or row.os_hash_value is None or cloud.settings.image_shared:
        raise NotFound(f"Image {image_id} has no content in this store.")
    return Wanted(row.size, row.os_hash_value, tuple(holders(tx, cloud, image_id)))


def _keep(tx: Tx, cloud: Cloud, image_id: str) -> bool:
    """Note the copy unless the image has gone meanwhile; a deletion that comes now waits, and then sees it."""
    still = sa.select(image.c.id).where(image.c.id == image_id, image.c.status.in_(WITH_CONTENT))
    if tx.first(still.with_for_update()) is None:
        return False
    note(tx, cloud, image_id)
    return True
