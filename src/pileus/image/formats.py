"""The headers of disk image formats, as far as safety needs them.

Each reader gets the bytes kept of an image and answers None when the image is not of its format. A reader never
trusts a length or an offset in a header further than the bytes that were kept.
"""

import re
import struct
import uuid
from collections.abc import Callable

import msgspec

SECTOR = 512
VHDX_REGION_TABLE = 192 * 1024
_VHDX_METADATA_KEPT = 128 * 1024


class Kept(msgspec.Struct, frozen=True):
    """What remains of an image after it went by: its start, its last 512 bytes, its length, a VHDX's metadata."""

    head: bytes
    tail: bytes
    length: int
    metadata: bytes = b""


class Finding(msgspec.Struct, frozen=True):
    """One format that an image bears the marks of; `problem` says why it must not be opened."""

    format: str
    virtual_size: int | None = None
    problem: str | None = None
    encrypted: bool = False
    partition_table: str | None = None


def _cut(head: bytes, name: str) -> Finding:
    return Finding(name, problem=f"the {name} header is cut short")


def qcow2(kept: Kept) -> Finding | None:
    """QEMU's docs/interop/qcow2: versions 2 and 3. Reading a backing or data file would read a file of the host."""
    head = kept.head
    if head[:4] != b"QFI\xfb":
        return None
    if len(head) < 72:
        return _cut(head, "qcow2")
    version, backing, _, bits, size, crypt = struct.unpack_from(">IQIIQI", head, 4)
    problem = None
    if version not in (2, 3):
        problem = f"qcow version {version} is not supported; convert it to qcow2 version 3"
    elif not 9 <= bits <= 21:
        problem = f"clusters of 2^{bits} bytes are not allowed in qcow2"
    elif backing:
        problem = "it has a backing file; merge it with qemu-img convert first"
    else:
        problem = _qcow2_features(head, version) or _qcow2_extensions(head, version, 1 << bits)
    return Finding("qcow2", size, problem, encrypted=crypt != 0)


def _qcow2_features(head: bytes, version: int) -> str | None:
    if version == 2:
        return None
    if len(head) < 104:
        return "the qcow2 header is cut short"
    incompatible = struct.unpack_from(">Q", head, 72)[0]
    if incompatible & 4:
        return "its data is in an external file; merge it with qemu-img convert first"
    if incompatible >> 5:
        return f"it uses qcow2 features that are not known (incompatible features {incompatible:#x})"
    if incompatible & 2:
        return "it is marked as corrupt; repair it with qemu-img check -r all first"
    return None


def _qcow2_extensions(head: bytes, version: int, cluster: int) -> str | None:
    at = 72 if version == 2 else struct.unpack_from(">I", head, 100)[0]
    if at < 72 or at > cluster:
        return f"a qcow2 header of {at} bytes is not possible"
    while at + 8 <= min(cluster, len(head)):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            return None
        if kind == 0x44415441:
            return "it names an external data file; merge it with qemu-img convert first"
        at += 8 + (length + 7) // 8 * 8
    return None


_EXTENT = re.compile(r'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?', re.MULTILINE)
_SPARSE_TYPES = ("monolithicsparse", "streamoptimized")


def vmdk(kept: Kept) -> Finding | None:
    """VMware's Virtual Disk Format 5.0: one sparse file that contains all of its data, and nothing else."""
    head = kept.head
    if head[:4] == b"COWD":
        return Finding("vmdk", problem="VMDK of version 3 (COWD) is not supported; convert it first")
    if head[:4] != b"KDMV":
        if head.lstrip()[:21].lower() == b"# disk descriptorfile":
            return Finding("vmdk", problem="it is a VMDK descriptor alone, which points to other files")
        return None
    if len(head) < 2 * SECTOR:
        return _cut(head, "vmdk")
    capacity, _, offset, sectors = struct.unpack_from("<QQQQ", head, 12)
    if offset != 1 or not 1 <= sectors <= 2048:
        # QEMU reads the parent of any sparse VMDK from sector 1: a descriptor elsewhere would hide that one.
        problem: str | None = f"its descriptor is not where VMDK has it (sector {offset}, {sectors} sectors)"
    elif capacity == 0:
        problem = "its capacity is 0, which makes its descriptor point to other files"
    else:
        problem = _vmdk_descriptor(head[SECTOR : SECTOR * (1 + max(sectors, 20))])
    return Finding("vmdk", capacity * SECTOR, problem)


def _vmdk_descriptor(raw: bytes) -> str | None:
    text = raw.split(b"\0", 1)[0].decode("latin-1").replace("\r", "\n")
    types = re.findall(r'^\s*createType\s*=\s*"?([^"\n]*)', text, re.MULTILINE | re.IGNORECASE)
    if len(types) != 1 or types[0].strip().lower() not in _SPARSE_TYPES:
        named = ", ".join(types)[:80] or "none"
        return f"only monolithicSparse and streamOptimized VMDKs are accepted, and its type is {named}"
    if b"parentfilenamehint" in raw.lower():
        return "it has a parent disk; merge it first"
    parents = re.findall(r"^\s*parentCID\s*=\s*(\w+)", text, re.MULTILINE | re.IGNORECASE)
    if any(parent.lower() != "ffffffff" for parent in parents):
        return "it has a parent disk; merge it first"
    lines = [line for line in text.splitlines() if re.match(r"\s*(RW|RDONLY|NOACCESS)\b", line, re.IGNORECASE)]
    extents = _EXTENT.findall(text)
    if len(lines) != 1 or len(extents) != 1:
        return f"one extent is expected in its descriptor, and {len(lines)} are there"
    kind, name = extents[0]
    if kind != "SPARSE":
        return f"its extent is {kind[:20]}, and only SPARSE extents are inside the file"
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        return "its extent names a path outside of the file"
    return None


def vhd(kept: Kept) -> Finding | None:
    """Microsoft's VHD 1.0: the footer, whose copy begins a dynamic disk and which ends a fixed one."""
    dynamic = kept.head[:8] == b"conectix"
    footer = kept.head[:SECTOR] if dynamic else kept.tail
    if footer[:8] != b"conectix" or (not dynamic and kept.length < 2 * SECTOR):
        return None
    if len(footer) < SECTOR:
        return _cut(footer, "vhd")
    size, kind = struct.unpack_from(">Q", footer, 48)[0], struct.unpack_from(">I", footer, 60)[0]
    if dynamic and kind == 4:
        return Finding("vhd", size, "it is a differencing disk with a parent; merge it first")
    if kind != (3 if dynamic else 2):
        return Finding("vhd", size, f"VHD disk type {kind} is not possible here")
    return Finding("vhd", size)


_VHDX_METADATA_REGION = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
_VHDX_FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
_VHDX_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
_VHDX_PARENT = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le


def vhdx_metadata_range(head: bytes | bytearray) -> tuple[int, int] | None:
    """Where a VHDX keeps its metadata (offset, bytes), told by the region table, once that is in `head`."""
    if head[:8] != b"vhdxfile" or len(head) < VHDX_REGION_TABLE + 65536:
        return None
    count = min(struct.unpack_from("<I", head, VHDX_REGION_TABLE + 8)[0], 2047)
    for index in range(count):
        at = VHDX_REGION_TABLE + 16 + 32 * index
        if head[at : at + 16] == _VHDX_METADATA_REGION:
            return struct.unpack_from("<Q", head, at + 16)[0], _VHDX_METADATA_KEPT
    return None


def vhdx(kept: Kept) -> Finding | None:
    """Microsoft's MS-VHDX: the size and whether there is a parent are in the metadata region."""
    if kept.head[:8] != b"vhdxfile":
        return None
    data, entries = kept.metadata, {}
    if data[:8] != b"metadata":
        return Finding("vhdx", problem="its metadata region was not found")
    for index in range(min(struct.unpack_from("<H", data, 10)[0], 2047)):
        entry = data[32 + 32 * index : 64 + 32 * index]
        if len(entry) < 32 or entry[:16] in entries:
            return Finding("vhdx", problem="its metadata table is broken")
        offset, length = struct.unpack_from("<II", entry, 16)
        entries[entry[:16]] = data[offset : offset + length]
    parameters, size = entries.get(_VHDX_FILE_PARAMETERS, b""), entries.get(_VHDX_SIZE, b"")
    if len(parameters) < 8 or len(size) < 8:
        return Finding("vhdx", problem="its metadata lacks the file parameters or the size")
    has_parent = struct.unpack_from("<I", parameters, 4)[0] & 2 or _VHDX_PARENT in entries
    problem = "it is a differencing disk with a parent; merge it first" if has_parent else None
    return Finding("vhdx", struct.unpack_from("<Q", size)[0], problem)


def vdi(kept: Kept) -> Finding | None:
    """VirtualBox's VDI 1.1: dynamic and static images that stand alone."""
    head = kept.head
    if head[64:68] != b"\x7f\x10\xda\xbe":
        return None
    if len(head) < SECTOR:
        return _cut(head, "vdi")
    kind, size = struct.unpack_from("<I", head, 76)[0], struct.unpack_from("<Q", head, 368)[0]
    if kind not in (1, 2):
        return Finding("vdi", size, f"VDI image type {kind} depends on another image; merge it first")
    if any(head[424:456]):
        return Finding("vdi", size, "it is linked to a parent image; merge it first")
    return Finding("vdi", size)


def iso(kept: Kept) -> Finding | None:
    """ISO 9660: the volume descriptors begin at sector 16 of 2,048 bytes."""
    return Finding("iso", kept.length) if kept.head[32769:32774] == b"CD001" else None


def luks(kept: Kept) -> Finding | None:
    """LUKS 1 and 2: the payload is encrypted, and its size only known with the header's end."""
    if kept.head[:6] != b"LUKS\xba\xbe":
        return None
    version = int.from_bytes(kept.head[6:8], "big")
    problem = None if version in (1, 2) else f"LUKS version {version} is not known"
    return Finding("luks", None, problem, encrypted=True)


_REFUSED = {
    b"QED\0": "qed",
    b"WithoutFreeSpace": "parallels",
    b"WithouFreSpacExt": "parallels",
    b"Bochs Virtual HD Image": "bochs",
    b"OOOM\0\2\0\0": "cow",
    b"#!/bin/sh\n#V2.0 Format\n": "cloop",
}


def refused(kept: Kept) -> Finding | None:
    """Formats that QEMU could open and that no cloud needs."""
    for magic, name in _REFUSED.items():
        if kept.head.startswith(magic):
            return Finding(name, problem=f"images of the format {name} are not accepted; convert it to qcow2 or raw")
    return None


READERS: tuple[Callable[[Kept], Finding | None], ...] = (qcow2, vmdk, vhd, vhdx, vdi, luks, refused, iso)


def raw(kept: Kept) -> Finding:
    """What is no other format: plain sectors, perhaps with a partition table."""
    return Finding("raw", kept.length, partition_table=_partition_table(kept.head))


def _partition_table(head: bytes) -> str | None:
    if len(head) < SECTOR or head[510:512] != b"\x55\xaa":
        return None
    entries = [head[at : at + 16] for at in range(446, 510, 16)]
    if any(entry[0] not in (0, 0x80) for entry in entries) or not any(entry[4] for entry in entries):
        return None
    protective = any(entry[4] == 0xEE for entry in entries)
    return "gpt" if protective and head[512:520] == b"EFI PART" else "mbr"
