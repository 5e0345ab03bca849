"""The content of images: uploaded, staged, taken from a file, read.

An image into which bytes come has a transfer: a token, the controller that has it, and a lease that is renewed while
bytes come. Only the holder of the token can finish it; what a dead controller left is put back by `repair`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.image import copies, images, store
from pileus.image.editing import allowed
from pileus.image.images import ImageInfo
from pileus.image.store import Receipt
from pileus.image.tables import image
from pileus.web.body import Chunks, Source
from pileus.web.call import Call, Reply, SendFile
from pileus.web.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    RangeNotSatisfiable,
    TooLarge,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

LEASE = 90.0
_NOT_DISKS = frozenset({"ova", "docker", "compressed"})


class Transfer(msgspec.Struct, frozen=True):
    """Bytes on their way into an image."""

    image_id: str
    token: str
    before: str  # the image's status before, to which it goes back
    info: ImageInfo


# -- for other modules and rooms


async def read(cloud: Cloud, image_id: str) -> AsyncIterator[bytes]:
    """The bytes of an active image, in blocks of 1 MiB; from another controller where they are not here.

    Raises NotFound, and Unavailable when nobody who has them can be reached."""
    async for block in store.read_file(cloud, await copies.here(cloud, image_id)):
        yield block


async def store_file(cloud: Cloud, image_id: str, path: Path) -> None:
    """Make a complete file the content of a queued image: hash it, inspect it, move it into the store, activate.

    Raises NotFound or Conflict when the image is gone or not queued, UnsupportedMediaType when the file is not what
    the image says or must not be opened; the image is queued again then, and the file is still there."""
    moving = await cloud.db.run(lambda tx: begin(tx, cloud, _exists(tx, image_id), "saving"))
    try:
        receipt = await store.take_in(cloud, Chunks(store.read_file(cloud, path)), None, keeper(cloud, moving))
        await asyncio.get_running_loop().run_in_executor(store.pool(cloud), store.sync, path)
        await finish(cloud, moving, receipt, path)
    except BaseException:
        await cloud.db.run(lambda tx: put_back(tx, cloud, moving))
        raise


async def store_stream(cloud: Cloud, image_id: str, chunks: AsyncIterator[bytes]) -> None:
    """Make bytes that come in the content of a queued image, as `store_file` does with a file. Raises the same."""
    moving = await cloud.db.run(lambda tx: begin(tx, cloud, _exists(tx, image_id), "saving"))
    await _fill(cloud, moving, Chunks(chunks))


def _exists(tx: Tx, image_id: str) -> ImageInfo:
    found = images.info(tx, image_id)
    if found is None:
        raise NotFound(f"Failed to find image {image_id}.")
    return found


# -- transfers


def begin(tx: Tx, cloud: Cloud, found: ImageInfo, status: str, since: tuple[str, ...] = ("queued",)) -> Transfer:
    """Take the image for a transfer; its status becomes `status`. Raises Conflict, BadRequest."""
    missing = [name for name in ("disk_format", "container_format") if getattr(found, name) is None]
    if missing and status != "uploading":
        raise BadRequest(f"Properties {', '.join(missing)} must be set prior to saving data.")
    moving = Transfer(found.id, cloud.world.hex_id(), found.status, found)
    taken = tx.execute(
        image.update().where(image.c.id == found.id, image.c.status.in_(since), image.c.transfer == "").values(
            status=status, transfer=moving.token, transfer_host=cloud.controller,
            transfer_lease=cloud.world.now() + LEASE, updated_at=cloud.world.now(),
        )
    )
    if not taken.rowcount:
        raise Conflict(f"Image status transition from {found.status} to {status} is not allowed.")
    return moving


def keeper(cloud: Cloud, moving: Transfer) -> Callable[[], Awaitable[None]]:
    """What renews a transfer's lease. Raises Gone when the transfer is no longer ours (the image was deleted)."""

    async def keep() -> None:
        lease = image.update().where(_ours(moving)).values(transfer_lease=cloud.world.now() + LEASE)
        if not await cloud.db.run(lambda tx: tx.execute(lease).rowcount):
            raise _gone(moving)

    return keep


def _ours(moving: Transfer) -> sa.ColumnElement[bool]:
    return sa.and_(image.c.id == moving.image_id, image.c.transfer == moving.token)


def _gone(moving: Transfer) -> Gone:
    return Gone(f"Image {moving.image_id} could not be found after upload. The image may have been deleted during it.")


async def finish(cloud: Cloud, moving: Transfer, receipt: Receipt, path: Path) -> None:
    """Judge what came in, move it into the store and activate the image.

    Raises UnsupportedMediaType for content that is not what the image says, Gone when the image went away."""
    check_content(moving.info, receipt, cloud.settings.image_format_match)
    target = store.final_path(cloud, moving.image_id)
    await store.put(cloud, path, target)
    values = {
        **_facts(receipt), "status": "active", "transfer": "", "transfer_lease": 0.0, "updated_at": cloud.world.now(),
    }

    def activate(tx: Tx) -> bool:
        if not tx.execute(image.update().where(_ours(moving)).values(**values)).rowcount:
            return False
        copies.note(tx, cloud, moving.image_id)
        return True

    if not await cloud.db.run(activate):
        store.discard(cloud, target)
        raise _gone(moving)


def _facts(receipt: Receipt) -> dict[str, Any]:
    inspection = receipt.inspection
    return {
        "size": receipt.size, "checksum": receipt.md5, "os_hash_algo": "sha512", "os_hash_value": receipt.sha512,
        "virtual_size": inspection.virtual_size, "found_format": inspection.format,
    }


def check_content(found: ImageInfo, receipt: Receipt, match: bool) -> None:
    """Raises UnsupportedMediaType when the content must not be opened or, with `match`, is not what the image says.

    Without `match` nothing unsafe gets in either: nodes are told the format that was found, never the claimed one."""
    inspection = receipt.inspection
    if found.container_format in _NOT_DISKS or not match:
        problem = inspection.problem
    else:
        problem = inspection.problem_as(found.disk_format or "raw")
    if problem is not None:
        raise UnsupportedMediaType(f"Image {found.id} is refused: {problem}.")


def put_back(tx: Tx, cloud: Cloud, moving: Transfer) -> None:
    """End a transfer that failed: the image is what it was before."""
    tx.execute(
        image.update().where(_ours(moving))
        .values(status=moving.before, transfer="", transfer_lease=0.0, updated_at=cloud.world.now())
    )


async def receive(cloud: Cloud, moving: Transfer, source: Source) -> tuple[Receipt, Path]:
    """Take bytes into a new file beside the store; it is for the caller to move or to delete."""
    path = store.folder(cloud, "incoming") / f"{moving.image_id}.{moving.token}"
    return await store.take_in(cloud, source, path, keeper(cloud, moving)), path


async def _fill(cloud: Cloud, moving: Transfer, source: Source) -> None:
    """Make bytes that come in the image's content; after a failure the image is what it was before."""
    path: Path | None = None
    try:
        receipt, path = await receive(cloud, moving, source)
        await finish(cloud, moving, receipt, path)
    except BaseException:
        if path is not None:
            store.discard(cloud, path)
        await asyncio.shield(cloud.db.run(lambda tx: put_back(tx, cloud, moving)))
        raise


# -- handlers


async def upload(call: Call) -> None:
    """PUT /v2/images/{image_id}/file: 204."""
    assert call.source is not None  # the route is raw
    moving = await _begin(call, "saving")
    await _fill(call.cloud, moving, call.source)


async def stage(call: Call) -> None:
    """PUT /v2/images/{image_id}/stage: 204. The content waits for an import with the method glance-direct."""
    cloud = call.cloud
    moving = await _begin(call, "uploading")
    path: Path | None = None
    try:
        assert call.source is not None  # the route is raw
        _, path = await receive(cloud, moving, call.source)
        await store.put(cloud, path, store.staged_path(cloud, moving.image_id))
        ended = image.update().where(_ours(moving)).values(transfer="", transfer_lease=0.0)

        def end(tx: Tx) -> bool:
            if not tx.execute(ended).rowcount:
                return False
            copies.note_staged(tx, cloud, moving.image_id)
            return True

        if not await cloud.db.run(end):
            store.discard(cloud, store.staged_path(cloud, moving.image_id))
            raise _gone(moving)
    except BaseException:
        if path is not None:
            store.discard(cloud, path)
        await asyncio.shield(cloud.db.run(lambda tx: put_back(tx, cloud, moving)))
        raise


async def _begin(call: Call, status: str) -> Transfer:
    media = call.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/octet-stream":
        raise UnsupportedMediaType(f"Content-Type '{media}' is not taken here; send application/octet-stream.")
    length = call.headers.get("content-length", "")
    most = call.cloud.settings.image_max_size
    if length.isdecimal() and int(length) > most:
        raise TooLarge(f"The image has {length} bytes; at most {most} are taken here.")

    def take() -> Transfer:
        return begin(call.tx, call.cloud, allowed(call, call.params["image_id"], "upload_image"), status)

    return await call.run(take)


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


async def download(call: Call) -> Reply:
    """GET /v2/images/{image_id}/file: 200, 206 for a range, 204 while there is no content."""

    def look() -> ImageInfo:
        return allowed(call, call.params["image_id"], "download_image")

    found = await call.run(look, write=False)
    if found.status == "deactivated" and not call.context.is_admin:
        raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if found.status not in ("active", "deactivated") or found.size is None or not found.os_hash_value:
        return Reply(None, status=204)
    path = await copies.here(call.cloud, found.id)
    headers = {"Content-MD5": found.checksum or "", "Accept-Ranges": "bytes"}
    span = _span(call.headers, found.size)
    if span is None:
        return SendFile(str(path), length=found.size, status=200, headers=headers)
    first, last = span
    headers = {"Content-Range": f"bytes {first}-{last}/{found.size}", "Accept-Ranges": "bytes"}
    return SendFile(str(path), start=first, length=last - first + 1, status=206, headers=headers)


def _span(headers: dict[str, str], size: int) -> tuple[int, int] | None:
    """First and last byte asked for, or None for all (RFC 9110, 14.2). Raises RangeNotSatisfiable, BadRequest.

    Older clients ask by a Content-Range header, as Glance's do."""
    text = headers.get("range")
    if text is None:
        return _content_span(headers.get("content-range"), size)
    found = _RANGE.fullmatch(text.strip())
    if not found or (not found[1] and not found[2]):
        if text.strip().startswith("bytes=") and "," in text:
            raise BadRequest("Requests with multiple ranges are not supported in Glance. Use a single range.")
        raise RangeNotSatisfiable(f"Range header '{text[:100]}' cannot be read.", headers=_whole(size))
    if not found[1]:
        first, last = max(size - int(found[2]), 0), size - 1
    else:
        first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
    if first > last or first >= size:
        raise RangeNotSatisfiable(f"The range '{text}' is outside of the image's {size} bytes.", headers=_whole(size))
    return first, last


def _content_span(text: str | None, size: int) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if not found or not int(found[1]) <= int(found[2]) < size:
        raise RangeNotSatisfiable(f"The range '{text[:100]}' is outside of the image's {size} bytes.",
                                  headers=_whole(size))
    return int(found[1]), int(found[2])


def _whole(size: int) -> dict[str, str]:
    return {"Content-Range": f"bytes */{size}"}
