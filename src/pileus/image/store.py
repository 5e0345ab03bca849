"""The image store: files under `state_dir`/images, hashed and inspected while they come in.

Bytes are read into buffers of `_BUFFER`; each is hashed by two threads (hashlib lets go of the interpreter) and written
by a third while the event loop fills the next; none waits for the others, but for who is `_BUFFERS` of them behind. So
an upload takes the time of the slowest of them and four buffers of memory. A file is written beside the store, made
durable, and then renamed into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pileus.image.inspect import Inspection, Inspector
from pileus.image.lanes import Lanes
from pileus.web.body import Source
from pileus.web.errors import TooLarge

if TYPE_CHECKING:
    from pileus.cloud import Cloud

BLOCK = 1 << 20  # is read at once from a file or a server
_BUFFER = 2 << 20  # to hand a smaller one to the threads costs a tenth of its hashes
_BUFFERS = 4
_SLOW = 5.0  # seconds for one buffer
_HOLE = 64 << 10
_ZEROS = bytes(_HOLE)
_SYNC_EVERY = 64 << 20
_PAGE = 4096
_THREADS = 6


class Receipt(msgspec.Struct, frozen=True):
    """What came in: size in bytes, digests, and what the bytes are."""

    size: int
    md5: str
    sha512: str
    inspection: Inspection


def folder(cloud: Cloud, name: str = "") -> Path:
    """The store's folder, or one inside it: `incoming` (being written), `staged` (waiting for an import)."""
    path = cloud.settings.state / "images" / name
    path.mkdir(parents=True, exist_ok=True, mode=0o750)
    return path


def final_path(cloud: Cloud, image_id: str) -> Path:
    """Where an image's content is once it is active."""
    return folder(cloud) / image_id


def staged_path(cloud: Cloud, image_id: str) -> Path:
    """Where staged content waits for its import."""
    return folder(cloud, "staged") / image_id


def pool(cloud: Cloud) -> ThreadPoolExecutor:
    """The threads that hash, write and delete."""
    found: ThreadPoolExecutor | None = cloud.memory.get("image.pool")
    if found is None:
        found = cloud.memory["image.pool"] = ThreadPoolExecutor(_THREADS, "image")
    return found


class _Sink:
    """One file being taken in. Each method works in a thread of its own, on one block at a time.

    Whole blocks pass by the page cache (O_DIRECT, where the file system has it): filling it with what is read
    much later cost as much as the hashing."""

    def __init__(self, path: Path | None) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha512 = hashlib.sha512()
        self.inspector = Inspector()
        self.size = 0
        self._unsynced = 0
        self._handle, self._direct = (-1, False) if path is None else _create(path)

    def write(self, block: memoryview) -> None:
        """Write what is not zeros, and let the inspector see all of it."""
        self.inspector.feed(block)
        if self._handle >= 0:
            start = 0
            for at in range(0, len(block), _HOLE):
                if block[at] == 0 and block[at : at + _HOLE].tobytes() == _ZEROS:
                    self._put(block[start:at], self.size + start)
                    start = at + _HOLE
            self._put(block[start:], self.size + start)
        self.size += len(block)

    def _put(self, view: memoryview, at: int) -> None:
        if self._direct and len(view) % _PAGE:
            self._cache()  # the end of the file
        while len(view) > 0:
            try:
                done = os.pwrite(self._handle, view, at)
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self._cache()
                continue
            view, at = view[done:], at + done
            self._unsynced += done
        if not self._direct and self._unsynced >= _SYNC_EVERY:  # so that the end does not wait for all of it
            self._unsynced = 0
            os.fdatasync(self._handle)

    def _cache(self) -> None:
        """From here on through the page cache, which takes pieces of any size."""
        self._direct = False
        fcntl.fcntl(self._handle, fcntl.F_SETFL, fcntl.fcntl(self._handle, fcntl.F_GETFL) & ~os.O_DIRECT)

    def finish(self) -> None:
        """Make the file durable, at its full length even where it ends in a hole."""
        if self._handle >= 0:
            os.ftruncate(self._handle, self.size)
            os.fsync(self._handle)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _create(path: Path) -> tuple[int, bool]:
    """A new file, and whether it is written past the page cache."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o640), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        path.unlink(missing_ok=True)  # some file systems make it and then refuse the flag
        return os.open(path, flags, 0o640), False


async def take_in(
    cloud: Cloud, source: Source, path: Path | None, alive: Callable[[], Awaitable[None]] | None = None
) -> Receipt:
    """Hash and inspect what `source` gives, and write them to the new file `path` (None: only hash and inspect).

    `alive` is awaited about every 20 s. Raises TooLarge past the setting `image_max_size`; the file is gone then,
    as after any other failure."""
    loop, threads = asyncio.get_running_loop(), pool(cloud)
    sink = _Sink(path)
    lanes = Lanes(threads, (sink.sha512.update, sink.md5.update, sink.write), _BUFFERS)
    most = cloud.settings.image_max_size
    told = time.monotonic()
    taken = 0
    try:
        async for block in blocks(source):
            taken += len(block)
            if taken > most:
                raise TooLarge(f"The image is larger than {most} bytes, the most that is taken here.")
            await lanes.put(block)
            if alive is not None and time.monotonic() - told > 20:
                told = time.monotonic()
                await alive()
        await lanes.end()
        await loop.run_in_executor(threads, sink.finish)
    except BaseException:
        try:
            await lanes.settle()
        finally:
            if path is not None:
                discard(cloud, path)
        raise
    finally:
        sink.close()
    return Receipt(sink.size, sink.md5.hexdigest(), sink.sha512.hexdigest(), sink.inspector.finish())


async def blocks(source: Source, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[memoryview]:
    """What a source gives in pieces of up to `_BUFFER`: smaller ones at first and from a slow source, so that what
    waits for each piece (a lease) does not wait long.

    A piece is good until `_BUFFERS` more are asked for: buffers take turns, as fresh memory for each piece
    costs a fifth of the hashing. They begin at a page, for O_DIRECT."""
    size = _HOLE
    for buffer in itertools.cycle([memoryview(mmap.mmap(-1, _BUFFER)) for _ in range(_BUFFERS)]):
        began = clock()
        got = await source.read_into(buffer[:size])
        if got:
            yield buffer[:got]
        if got < size:
            return
        size = min(size * 2, _BUFFER) if clock() - began < _SLOW else max(size // 2, _HOLE)


async def read_file(cloud: Cloud, path: Path) -> AsyncIterator[bytes]:
    """A file's bytes, in blocks."""
    loop, threads = asyncio.get_running_loop(), pool(cloud)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at = 0
        while data := await loop.run_in_executor(threads, os.pread, handle, BLOCK, at):
            at += len(data)
            yield data
    finally:
        os.close(handle)


async def put(cloud: Cloud, source: Path, target: Path) -> None:
    """Move a file that is complete and durable to its place, durably; across file systems by a copy."""
    await asyncio.get_running_loop().run_in_executor(pool(cloud), _put_now, cloud, source, target)


def _put_now(cloud: Cloud, source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = folder(cloud, "incoming") / f"{target.name}.copy-{cloud.world.hex_id()}"
        shutil.copyfile(source, near)
        sync(near)
        os.replace(near, target)
        source.unlink()
    sync(target.parent)


def sync(path: Path) -> None:
    """Make a file, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def discard(cloud: Cloud, path: Path) -> None:
    """Take a file away at once, and free its blocks in a thread: that can take long. No file is fine."""
    doomed = folder(cloud, "incoming") / f"trash-{cloud.world.hex_id()}"
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, doomed)
        pool(cloud).submit(doomed.unlink, True)
