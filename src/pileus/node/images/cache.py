"""Images on this node: each fetched once, checked by its hash, and complete under its name or not there.

A file is named by the sha512 of its bytes, so that the same bytes are kept once however many images have them.
Beside it an empty file `.used` tells by its time when a guest last asked for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pileus.node.contract import ImageRef, NodeFault

BATCH = 1 << 20
"""Bytes that are hashed and written at a time: a thread's hop is nothing against them."""
NAME = re.compile(r"[0-9a-f]{128}")


class ImageCache:
    """Implements `pileus.node.contract.ImageStore` in one directory.

    `fetch` gives the bytes of an image by its id. `local` may know a complete, checked file of the same bytes on
    this host, as the image service of an all-in-one node has it: it is linked, not copied, so that it stays for
    the guests on it when the image is deleted; on another file system it is fetched as if it were far away.
    `reader_gid` is the group that may read the files (QEMU's account); None lets everyone.
    """

    def __init__(
        self,
        directory: Path,
        fetch: Callable[[str], AsyncIterator[bytes]],
        local: Callable[[ImageRef], Path | None] | None = None,
        reader_gid: int | None = None,
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._local = local
        self._reader_gid = reader_gid
        self._under_way: dict[str, asyncio.Task[Path]] = {}

    async def path(self, image: ImageRef) -> Path:
        """The image's file. Raises NodeFault if it cannot be had, or if size or hash differ."""
        if not NAME.fullmatch(image.sha512):
            raise NodeFault(f"image {image.id} has no sha512 by which its bytes could be checked")
        task = self._under_way.get(image.sha512)
        if task is None:
            if await asyncio.to_thread(self._use, image):
                return self._directory / image.sha512
            # Another may have begun while the thread looked.
            task = self._under_way.get(image.sha512)
        if task is None:
            task = asyncio.create_task(self._bring(image))
            self._under_way[image.sha512] = task
            task.add_done_callback(lambda done: self._done(image.sha512, done))
        # One who gives up does not take it away from the others.
        return await asyncio.shield(task)

    def _done(self, name: str, task: asyncio.Task[Path]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled():
            task.exception()  # those who waited have it

    def _use(self, image: ImageRef) -> bool:
        """Whether the file is there; it counts as used now."""
        file = self._directory / image.sha512
        if not file.exists():
            return False
        file.with_suffix(".used").touch(mode=0o600)
        return True

    async def _bring(self, image: ImageRef) -> Path:
        await asyncio.to_thread(self._prepare)
        source = self._local(image) if self._local is not None else None
        if source is None or not await asyncio.to_thread(self._link, source, image):
            await self._download(image)
        if not await asyncio.to_thread(self._use, image):
            raise NodeFault(f"image {image.id} was removed from {self._directory} while it was brought there")
        return self._directory / image.sha512

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)

    def _link(self, source: Path, image: ImageRef) -> bool:
        """Whether a file of this host could be linked in place of a copy."""
        fresh = self._directory / f"{image.sha512}.link"
        try:
            fresh.unlink(missing_ok=True)
            os.link(source, fresh)
        except OSError:
            return False
        if fresh.stat().st_size != image.size:
            fresh.unlink()
            return False
        self._settle(fresh, image)
        return True

    async def _download(self, image: ImageRef) -> None:
        part = _Part(self._directory / f"{image.sha512}.part", image)
        try:
            await asyncio.to_thread(part.open)
            waiting: list[bytes] = []
            length = 0
            async for chunk in self._fetch(image.id):
                waiting.append(chunk)
                length += len(chunk)
                if length >= BATCH:
                    await asyncio.to_thread(part.write, waiting)
                    waiting, length = [], 0
            await asyncio.to_thread(part.write, waiting)
            await asyncio.to_thread(part.check)
            await asyncio.to_thread(self._settle, part.path, image)
        except NodeFault:
            raise
        except Exception as error:
            raise NodeFault(f"image {image.id} could not be fetched: {error}") from error
        finally:
            await asyncio.shield(asyncio.to_thread(part.close))

    def _settle(self, fresh: Path, image: ImageRef) -> None:
        if self._reader_gid is None:
            fresh.chmod(0o444)
        else:
            os.chown(fresh, -1, self._reader_gid)
            fresh.chmod(0o440)
        os.rename(fresh, self._directory / image.sha512)

    async def clean(self, max_age: float, in_use: set[str]) -> int:
        """Remove what no guest asked for in `max_age` seconds, and parts of downloads that were cut off.

        `in_use` names by sha512 what guests stand on: it stays. Returns the number of bytes removed."""
        keep = in_use | set(self._under_way)
        return await asyncio.to_thread(self._clean, time.time() - max_age, keep)

    def _clean(self, before: float, keep: set[str]) -> int:
        removed = 0
        if not self._directory.exists():
            return 0
        for entry in list(os.scandir(self._directory)):
            name, _, suffix = entry.name.partition(".")
            if name in keep or not NAME.fullmatch(name) or suffix == "used":
                continue
            used = self._directory / f"{name}.used"
            last = used if used.exists() and not suffix else Path(entry.path)
            if last.stat().st_mtime <= before:
                removed += entry.stat().st_size
                os.unlink(entry.path)
                used.unlink(missing_ok=True)
        return removed


class _Part:
    """A download under way. Every method blocks."""

    def __init__(self, path: Path, image: ImageRef) -> None:
        self.path = path
        self.image = image
        self.digest = hashlib.sha512()
        self.length = 0
        self.fd = -1

    def open(self) -> None:
        self.path.unlink(missing_ok=True)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, chunks: list[bytes]) -> None:
        data = b"".join(chunks)
        self.length += len(data)
        if self.length > self.image.size:
            raise NodeFault(f"image {self.image.id} is longer than the {self.image.size} bytes it should have")
        self.digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def check(self) -> None:
        """Make it durable. Raises NodeFault if these are not the image's bytes."""
        if self.length != self.image.size:
            raise NodeFault(f"image {self.image.id}: {self.length} of {self.image.size} bytes came; try again")
        if self.digest.hexdigest() != self.image.sha512:
            raise NodeFault(f"image {self.image.id}: the bytes that came do not have its hash; upload it anew")
        os.fsync(self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.path.unlink(missing_ok=True)
