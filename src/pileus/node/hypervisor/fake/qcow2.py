"""The smallest qcow2 file of a given size: a disk on which nothing was ever written."""

from __future__ import annotations

import os
import struct
from pathlib import Path

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
TABLE_REACH = CLUSTER * (CLUSTER // 8)  # bytes of disk below one entry of the first table
BLOCK_REACH = CLUSTER // 2  # clusters of file that one block of reference counts covers


def write_empty(path: Path, size: int) -> None:
    """Write an empty disk of `size` bytes (QEMU's docs/interop/qcow2, version 3). Blocks."""
    size = -(-size // 512) * 512  # disks are made of sectors
    entries = max(1, -(-size // TABLE_REACH))
    table = -(-entries * 8 // CLUSTER)  # clusters of the first table, which is all zero: nothing is allocated
    used = 3 + table  # header, table of reference counts, one block of them, first table
    if used > BLOCK_REACH:
        raise ValueError(f"a disk of {size} bytes is too large for this writer")
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0),  # magic, version, no backing file
        *(CLUSTER_BITS, size, 0),  # no encryption
        *(entries, 3 * CLUSTER, CLUSTER, 1),  # first table; table of reference counts, one cluster of it
        *(0, 0, 0, 0, 0),  # no snapshots; no incompatible, compatible or auto-clear features
        *(4, 104),  # reference counts of 16 bits; the header's length
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(header)
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">H", 1) * used)
        file.truncate(used * CLUSTER)
