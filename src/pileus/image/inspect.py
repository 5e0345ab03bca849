"""Says what a disk image is, and whether it may be opened, from the bytes of its upload as they go by.

QEMU follows what an image says: a backing file, an external data file, the extents of a VMDK. An image made for it
reads any file of the host (OSSA-2023-002, OSSA-2024-001, OSSA-2024-002). So no QEMU program opens an image before
this module has called it safe, and then only with the format that was found here.
"""

import msgspec

from pileus.image.formats import READERS, Finding, Kept, raw, vhdx_metadata_range

# The longest that any format needs from its start: a VMDK's descriptor ends by 1 MiB + 512 bytes.
_HEAD = 1_100_000
_TAIL = 512
# What is nothing but sectors to QEMU, under the names that the Image API has for it.
_PLAIN_NAMES = frozenset({"raw", "ami", "ari", "aki"})
_PLAIN_FORMATS = frozenset({"raw", "iso", "luks"})


class Inspection(msgspec.Struct, frozen=True):
    """What an image is. `virtual_size` is in bytes and None when it is not known; `problem` is None if `safe`."""

    format: str
    virtual_size: int | None
    safe: bool
    problem: str | None
    length: int
    encrypted: bool = False
    partition_table: str | None = None

    def problem_as(self, disk_format: str) -> str | None:
        """Why the image must not be used with the `disk_format` that its owner claims, or None.

        A raw image may be an ISO or LUKS, and may have a partition table; it may not be a container format, because
        what opens it later could find that out by itself (OSSA-2024-002).
        """
        if self.problem is not None:
            return self.problem
        if disk_format == self.format or (disk_format in _PLAIN_NAMES and self.format in _PLAIN_FORMATS):
            return None
        return f"it is said to be {disk_format}, but it is {self.format}"


class Inspector:
    """Takes an image in pieces of any size with `feed`, and judges it in `finish`.

    Keeps 1.1 MB at the start, 512 bytes at the end and, of a VHDX, 128 KiB of metadata; the rest only counts.
    """

    def __init__(self) -> None:
        self._length = 0
        self._head = bytearray()
        self._tail = b""
        self._range = bytearray()
        self._range_at: tuple[int, int] | None = None
        self._collecting = True

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Looks at the next piece, which is not kept nor changed."""
        size = len(chunk)
        if size >= _TAIL:
            self._tail = bytes(chunk[-_TAIL:])
        else:
            self._tail = (self._tail + bytes(chunk))[-_TAIL:]
        if self._collecting:
            self._collect(chunk, self._length)
        self._length += size

    def _collect(self, chunk: bytes | bytearray | memoryview, position: int) -> None:
        room = _HEAD - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            if self._range_at is None and (found := vhdx_metadata_range(self._head)):
                self._range_at = found
                self._range += self._head[found[0] : sum(found)]
        if self._range_at is not None:
            start, length = self._range_at
            begin, end = start + len(self._range) - position, start + length - position
            self._range += chunk[begin:end]
        range_is_full = self._range_at is None or len(self._range) >= self._range_at[1]
        self._collecting = len(self._head) < _HEAD or not range_is_full

    def _kept(self) -> Kept:
        return Kept(bytes(self._head), self._tail, self._length, bytes(self._range))

    def finish(self) -> Inspection:
        """The judgement of all that was fed."""
        kept = self._kept()
        found = [finding for reader in READERS if (finding := reader(kept)) is not None]
        best = found[0] if found else raw(kept)
        problem = best.problem
        if len(found) > 1:
            names = " and ".join(sorted({finding.format for finding in found}))
            problem = f"it bears the marks of several formats: {names}"
        return _inspection(best, problem, self._length)


def _inspection(finding: Finding, problem: str | None, length: int) -> Inspection:
    return Inspection(
        format=finding.format,
        virtual_size=finding.virtual_size,
        safe=problem is None,
        problem=problem,
        length=length,
        encrypted=finding.encrypted,
        partition_table=finding.partition_table,
    )
