"""Keeps every image on enough controllers: each looks for itself what it has to fetch, and what it may remove.

Which controller takes a copy is the same to all that look: the first of those without one, in an order that the image's
id and the controllers' names make. One that does not answer counts for a while yet: a restart moves no images.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.db.faults import OutcomeUnknown, Unreachable
from pileus.image import copies, repair, store
from pileus.image.tables import image, image_copy
from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.image")
_EVERY = 10.0
_ABSENT = 120.0
"""Seconds of a controller's absence after which its copies do not count any more."""
_SWEEP = 3600.0
_AT_ONCE = 100
_IN_USE = 600.0
_c = image_copy.c


async def run(cloud: Cloud) -> None:
    """Copy, remove and sweep, for ever."""
    place = cloud.bus.subscribe(copies.TOPIC)
    swept = cloud.world.monotonic()
    while True:
        await place.wait(_EVERY)
        try:
            await once(cloud)
            if cloud.world.monotonic() - swept > _SWEEP:
                swept = cloud.world.monotonic()
                await cloud.db.run(lambda tx: repair.orphans(tx, cloud))
        except (Unreachable, OutcomeUnknown) as error:
            _LOG.warning("images are not copied now: %s", error)
        except Exception:
            _LOG.exception("images could not be copied; the next look is due in %s s", _EVERY)


async def once(cloud: Cloud, absent: float = _ABSENT) -> None:
    """One look. Nothing is copied where all controllers share a folder, or where there is one alone."""
    if cloud.settings.image_shared:
        return
    await cloud.db.run(lambda tx: remove_gone(tx, cloud))
    present = await cloud.db.run(lambda tx: candidates(tx, cloud, absent), write=False)
    if present == [cloud.controller]:
        return
    for image_id in await cloud.db.run(lambda tx: mine_to_copy(tx, cloud, present), write=False):
        try:
            await copies.here(cloud, image_id)
        except (Problem, OSError) as problem:
            _LOG.warning("image %s is not copied to here yet: %s", image_id, problem)
    await cloud.db.run(lambda tx: trim(tx, cloud, present))


def candidates(tx: Tx, cloud: Cloud, absent: float = _ABSENT) -> list[str]:
    """The controllers that keep images: those that serve them and live, or have been silent for less than `absent`."""
    from pileus.cluster import controllers

    live = {*controllers.live(tx, cloud.world.now()), cloud.controller}
    missed: dict[str, float] = cloud.memory.setdefault("image.missed", {})
    now = cloud.world.monotonic()
    rows = [row for row in controllers.listing(tx) if not row.services or "image" in row.services]
    for name in live:
        missed.pop(name, None)
    there = [row.name for row in rows if row.name in live or now - missed.setdefault(row.name, now) < absent]
    return sorted(there) or [cloud.controller]


def remove_gone(tx: Tx, cloud: Cloud) -> None:
    """Remove the files here of images that are no more, and of imports that have ended."""
    needed = sa.or_(
        sa.and_(_c.kind == "image", image.c.status.in_((*copies.WITH_CONTENT, "saving", "importing"))),
        sa.and_(_c.kind == "staged", image.c.status.in_(("uploading", "importing"))),
    )
    gone = tx.all(
        sa.select(_c.image_id, _c.kind).select_from(image_copy.outerjoin(image, image.c.id == _c.image_id))
        .where(_c.controller == cloud.controller, sa.or_(image.c.id.is_(None), ~needed))
        .order_by(_c.image_id).limit(_AT_ONCE)
    )
    for row in gone:
        copies.forget(tx, cloud, row.image_id, (row.kind,))


def _lacking(present: list[str], wanted: int) -> sa.Select[Any]:
    held = (
        sa.select(sa.func.count()).select_from(image_copy)
        .where(_c.image_id == image.c.id, _c.kind == "image", _c.controller.in_(present)).scalar_subquery()
    )
    return (
        sa.select(image.c.id)
        .where(image.c.status.in_(copies.WITH_CONTENT), image.c.os_hash_value.is_not(None), held < wanted)
        .order_by(image.c.created_at).limit(_AT_ONCE)
    )


def mine_to_copy(tx: Tx, cloud: Cloud, present: list[str]) -> list[str]:
    """The images that have too few copies and of which it is for this controller to take one."""
    wanted = min(cloud.settings.image_copies, len(present))
    ids = tx.scalars(_lacking(present, wanted))
    has: dict[str, set[str]] = {image_id: set() for image_id in ids}
    if ids:
        for row in tx.all(sa.select(_c.image_id, _c.controller).where(_c.image_id.in_(ids), _c.kind == "image")):
            has[row.image_id].add(row.controller)
    return [
        image_id for image_id in ids
        if cloud.controller in elect(image_id, present, has[image_id], wanted) and has[image_id] - {cloud.controller}
    ]


def elect(image_id: str, present: list[str], having: set[str], wanted: int) -> list[str]:
    """Who takes the copies that are lacking; the same for all who ask with the same facts."""
    lacking = wanted - len(having & set(present))
    free = [name for name in present if name not in having]
    free.sort(key=lambda name: hashlib.sha256(f"{image_id} {name}".encode()).digest())
    return free[: max(lacking, 0)]


def trim(tx: Tx, cloud: Cloud, present: list[str]) -> None:
    """Remove the copies here that enough others have, the longest unused first, past `image_extra_size` bytes."""
    wanted = min(cloud.settings.image_copies, len(present))
    other = image_copy.alias()
    others = (
        sa.select(sa.func.count()).select_from(other)
        .where(other.c.image_id == _c.image_id, other.c.kind == "image", other.c.controller.in_(present),
               other.c.controller != cloud.controller).scalar_subquery()
    )
    mine = sa.select(_c.image_id).where(_c.controller == cloud.controller, _c.kind == "image", others >= wanted)
    extra = []
    for image_id in tx.scalars(mine):
        try:
            seen = store.final_path(cloud, image_id).stat()
        except FileNotFoundError:
            continue
        extra.append((seen.st_mtime, seen.st_blocks * 512, image_id))
    room = cloud.settings.image_extra_size - sum(size for _, size, _ in extra)
    for used, size, image_id in sorted(extra):
        if room >= 0 or used > time.time() - _IN_USE:
            break
        # Two who remove theirs at the same moment would each count the other's.
        tx.serialize(f"image-copies:{image_id}")
        if tx.first(mine.where(_c.image_id == image_id)) is not None:
            copies.forget(tx, cloud, image_id, ("image",))
            room += size
