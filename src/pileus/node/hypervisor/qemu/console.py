"""The serial console's log: written by QEMU, kept within bounds, read from its end."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
BLOCK = 4096


def trim(path: Path, limit: int) -> bool:
    """Give back the older part of a log that takes more than `limit` bytes, so that half of them stay.

    QEMU appends all the while, so nothing is moved: the head becomes a hole. Blocks.
    Returns whether anything was done; raises OSError if the file system knows no holes."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(fd)
        if found.st_blocks * 512 <= limit:
            return False
        head = (found.st_size - limit // 2) // BLOCK * BLOCK
        if head <= 0:
            return False
        libc = ctypes.CDLL(None, use_errno=True)
        mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        if libc.fallocate(fd, mode, ctypes.c_int64(0), ctypes.c_int64(head)):
            raise OSError(ctypes.get_errno(), "could not trim the console log", str(path))
        return True
    finally:
        os.close(fd)


def read(path: Path, lines: int | None, limit: int) -> bytes:
    """The last `lines` lines of a log (None: all that is kept), at most `limit` bytes. Blocks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(fd).st_size
        start = max(0, size - limit)
        if size:
            try:
                start = os.lseek(fd, start, os.SEEK_DATA)
            except OSError:
                return b""
        data = os.pread(fd, size - start, start)
    finally:
        os.close(fd)
    if lines is None:
        return data
    # As Nova counts: what follows the last line break is a line.
    return b"\n".join(data.split(b"\n")[-lines:]) if lines > 0 else b""
