"""The smallest valid qcow2 disk, for guests that do not exist."""

from __future__ import annotations

import struct

CLUSTER = 1 << 16


def empty_qcow2(size: int = 1 << 20) -> bytes:
    """Return an empty qcow2 image (version 2) of `size` bytes virtual size, at most 512 MiB.

    Clusters: header, refcount table, refcount block, L1 table; QEMU's docs/interop/qcow2 names the fields.
    Raises ValueError for a size that needs more than one L1 entry.
    """
    if not 0 < size <= CLUSTER // 8 * CLUSTER or size % 512:
        raise ValueError(f"size {size} is not a multiple of 512 between 512 and {CLUSTER // 8 * CLUSTER}")
    table, block, l1 = CLUSTER, 2 * CLUSTER, 3 * CLUSTER
    #                     magic, version, backing offset and length, cluster bits, size, encryption,
    header = struct.pack(">4sIQIIQI", b"QFI\xfb", 2, 0, 0, 16, size, 0)
    #                     L1 entries and offset, refcount table offset and clusters, snapshots and offset
    header += struct.pack(">IQQIIQ", 1, l1, table, 1, 0, 0)
    pieces = (header, struct.pack(">Q", block), struct.pack(">4H", 1, 1, 1, 1), b"")
    return b"".join(piece.ljust(CLUSTER, b"\0") for piece in pieces)
