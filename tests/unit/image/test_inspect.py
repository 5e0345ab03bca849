"""Images made by hand and by qemu-img, safe ones and each class of the advisories."""

import random
import shutil
import struct
import subprocess
import tracemalloc
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest

from pileus.image.inspect import Inspection, Inspector

MIB = 2**20
_MEBIBYTE = bytes(MIB)


def inspect(data: bytes, sizes: Iterable[int] = (65536,)) -> Inspection:
    inspector = Inspector()
    steps = list(sizes)
    at = count = 0
    while at < len(data):
        step = steps[count % len(steps)]
        inspector.feed(data[at : at + step])
        at, count = at + step, count + 1
    return inspector.finish()


def qcow2(
    version: int = 3, backing: int = 0, incompatible: int = 0, crypt: int = 0, extensions: bytes = b"", bits: int = 16
) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 8 if backing else 0, bits, 5 * MIB, crypt)
    head = head.ljust(72, b"\0")
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    return (head + extensions).ljust(70_000, b"\0")


def vmdk(descriptor: str, capacity: int = 2048, offset: int = 1, sectors: int = 20) -> bytes:
    head = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, capacity, 128, offset, sectors).ljust(512, b"\0")
    return (head + descriptor.encode()).ljust(70_000, b"\0")


def descriptor(kind: str = "monolithicSparse", extents: str = 'RW 2048 SPARSE "a.vmdk"', more: str = "") -> str:
    return f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="{kind}"\n{extents}\n{more}\n'


def vhd(kind: int, size: int = 4 * MIB) -> bytes:
    footer = struct.pack(">8sIIQI4sI4sQQII", b"conectix", 2, 0x10000, 512, 0, b"qemu", 0, b"Wi2k", size, size, 0, kind)
    return footer.ljust(512, b"\0")


def vhdx(flags: int = 0, metadata_at: int = 2 * MIB, parent: bool = False) -> bytes:
    data = bytearray(4 * MIB)
    data[:8] = b"vhdxfile"
    region = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
    struct.pack_into("<4sIII", data, 192 * 1024, b"regi", 0, 1, 0)
    struct.pack_into("<16sQII", data, 192 * 1024 + 16, region, metadata_at, MIB, 1)
    items = [
        ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", struct.pack("<II", MIB, flags)),
        ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", struct.pack("<Q", 7 * MIB)),
    ]
    if parent:
        items.append(("a8d35f2d-b30b-454d-abf7-d3d84834ab0c", b"parent"))
    struct.pack_into("<8sHH", data, metadata_at, b"metadata", 0, len(items))
    for index, (name, value) in enumerate(items):
        at = 65536 + 16 * index
        entry = struct.pack("<16sIII", uuid.UUID(name).bytes_le, at, len(value), 4)
        data[metadata_at + 32 + 32 * index : metadata_at + 32 + 32 * index + len(entry)] = entry
        data[metadata_at + at : metadata_at + at + len(value)] = value
    return bytes(data)


def vdi(kind: int = 1, parent: bytes = b"") -> bytes:
    data = bytearray(70_000)
    data[:40] = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    struct.pack_into("<IIII", data, 64, 0xBEDA107F, 0x10001, 400, kind)
    struct.pack_into("<Q", data, 368, 3 * MIB)
    data[440 : 440 + len(parent)] = parent
    return bytes(data)


def iso(start: bytes = b"") -> bytes:
    return start.ljust(32769, b"\0") + b"CD001" + bytes(40_000)


def mbr(kind: int, after: bytes = b"", status: int = 0x80) -> bytes:
    entry = bytes([status, 0, 0, 0, kind]).ljust(16, b"\0")
    return bytes(446) + entry + bytes(48) + b"\x55\xaa" + after.ljust(2048, b"\0")


@pytest.mark.parametrize(
    ("data", "format_", "size"),
    [
        (b"", "raw", 0),
        (b"x", "raw", 1),
        (bytes(3 * MIB), "raw", 3 * MIB),
        (qcow2(), "qcow2", 5 * MIB),
        (qcow2(version=2), "qcow2", 5 * MIB),
        (qcow2(incompatible=0b11001), "qcow2", 5 * MIB),
        (vmdk(descriptor()), "vmdk", MIB),
        (vmdk(descriptor("streamOptimized")), "vmdk", MIB),
        (vhd(3) + bytes(4096), "vhd", 4 * MIB),
        (bytes(4 * MIB) + vhd(2), "vhd", 4 * MIB),
        (vhdx(), "vhdx", 7 * MIB),
        (vhdx(metadata_at=MIB), "vhdx", 7 * MIB),
        (vdi(), "vdi", 3 * MIB),
        (vdi(2), "vdi", 3 * MIB),
        (iso(), "iso", len(iso())),
        (iso(mbr(0x17)), "iso", len(iso())),
        (b"LUKS\xba\xbe\0\x01".ljust(4096, b"\0"), "luks", None),
    ],
)
@pytest.mark.parametrize("sizes", [(65536,), (8 * MIB,), (511, 1, 70_001)])
def test_safe_images(data: bytes, format_: str, size: int | None, sizes: tuple[int, ...]) -> None:
    found = inspect(data, sizes)
    assert (found.format, found.virtual_size, found.problem) == (format_, size, None)
    assert found.safe
    assert found.length == len(data)


@pytest.mark.parametrize(
    ("data", "format_", "words"),
    [
        (qcow2(backing=512), "qcow2", "backing file"),
        (qcow2(version=2, backing=512), "qcow2", "backing file"),
        (qcow2(incompatible=4), "qcow2", "external file"),
        (qcow2(extensions=struct.pack(">II8s", 0x44415441, 8, b"/etc/pwd")), "qcow2", "external data file"),
        (qcow2(extensions=struct.pack(">II8sII", 0x6803F857, 5, b"x", 0x44415441, 0)), "qcow2", "external data file"),
        (qcow2(version=2, extensions=struct.pack(">II", 0x44415441, 0)), "qcow2", "external data file"),
        (qcow2(incompatible=1 << 5), "qcow2", "not known"),
        (qcow2(incompatible=1 << 63), "qcow2", "not known"),
        (qcow2(incompatible=2), "qcow2", "corrupt"),
        (qcow2(version=1), "qcow2", "version 1"),
        (qcow2(version=4), "qcow2", "version 4"),
        (qcow2(bits=40), "qcow2", "clusters"),
        (qcow2()[:100], "qcow2", "cut short"),
        (b"QFI\xfb", "qcow2", "cut short"),
        (descriptor("monolithicFlat", 'RW 2048 FLAT "/etc/shadow" 0').encode(), "vmdk", "descriptor alone"),
        (vmdk(descriptor("monolithicFlat", 'RW 2048 FLAT "/etc/shadow" 0')), "vmdk", "monolithicFlat"),
        (vmdk(descriptor(extents='RW 2048 FLAT "a-flat.vmdk" 0')), "vmdk", "FLAT"),
        (vmdk(descriptor(extents='RW 2048 SPARSE "/etc/shadow"')), "vmdk", "path"),
        (vmdk(descriptor(extents='RW 2048 SPARSE "..\\\\x"')), "vmdk", "path"),
        (vmdk(descriptor(extents='RW 1 SPARSE "a"\nrw 1 FLAT "/etc/shadow" 0')), "vmdk", "one extent"),
        (vmdk(descriptor(extents="")), "vmdk", "one extent"),
        (vmdk(descriptor(more='parentFileNameHint="/etc/shadow"')), "vmdk", "parent"),
        (vmdk(descriptor().replace("ffffffff", "12345678")), "vmdk", "parent"),
        (vmdk(descriptor(more='createType="custom"')), "vmdk", "type"),
        (vmdk(descriptor(), capacity=0), "vmdk", "capacity"),
        (vmdk(descriptor(), offset=100), "vmdk", "descriptor"),
        (b"COWD" + bytes(4096), "vmdk", "version 3"),
        (vhd(4) + bytes(4096), "vhd", "parent"),
        (vhdx(flags=2), "vhdx", "parent"),
        (vhdx(parent=True), "vhdx", "parent"),
        (vhdx()[:MIB], "vhdx", "not found"),
        (vdi(4), "vdi", "another image"),
        (vdi(parent=b"p"), "vdi", "parent"),
        (b"QED\0" + bytes(4096), "qed", "not accepted"),
        (iso(qcow2()[:512]), "qcow2", "several formats"),
        (iso(vmdk(descriptor())[:2048]), "vmdk", "several formats"),
    ],
)
def test_images_that_must_not_be_opened(data: bytes, format_: str, words: str) -> None:
    for sizes in ((65536,), (7, 4099)):
        found = inspect(data, sizes)
        assert found.format == format_
        assert not found.safe
        assert words in (found.problem or "")


def test_encryption_and_partition_tables_are_told() -> None:
    assert inspect(qcow2(crypt=2)).encrypted
    assert not inspect(qcow2()).encrypted
    assert inspect(b"LUKS\xba\xbe\0\x02".ljust(4096, b"\0")).encrypted
    assert inspect(mbr(0xEE, b"EFI PART")).partition_table == "gpt"
    assert inspect(mbr(0x83)).partition_table == "mbr"
    assert inspect(mbr(0x83, status=0x33)).partition_table is None, "boot code of a file system without partitions"


def test_claimed_format_must_be_the_found_one() -> None:
    hidden = inspect(qcow2())
    assert hidden.problem_as("qcow2") is None
    assert "said to be raw, but it is qcow2" in (hidden.problem_as("raw") or "")
    assert hidden.problem_as("ami") is not None
    assert inspect(bytes(4096)).problem_as("qcow2") is not None
    assert inspect(mbr(0xEE, b"EFI PART")).problem_as("raw") is None
    assert inspect(iso()).problem_as("raw") is None
    assert "backing" in (inspect(qcow2(backing=512)).problem_as("qcow2") or "")


def test_random_damage_never_raises() -> None:
    chance = random.Random(4711)
    for original in (qcow2(), vmdk(descriptor()), vhd(3), vdi(), vhdx()[: 3 * MIB], iso()):
        for _ in range(15):
            data = bytearray(original[: chance.choice([len(original), 600, 80, 9])])
            for _ in range(20):
                data[chance.randrange(min(len(data), 300_000))] = chance.randrange(256)
            assert inspect(bytes(data)).format


def test_of_what_is_fed_little_is_kept_however_much_it_is() -> None:
    inspector = Inspector()
    for _ in range(8):
        inspector.feed(bytes(MIB))
    tracemalloc.start()
    try:
        for _ in range(4096):
            inspector.feed(memoryview(_MEBIBYTE))
        assert tracemalloc.get_traced_memory()[1] < MIB // 16
    finally:
        tracemalloc.stop()
    assert inspector.finish().length == 4104 * MIB


needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def make(path: Path, format_: str, *options: str) -> Inspection:
    subprocess.run(["qemu-img", "create", "-q", "-f", format_, *options, str(path), "6M"], check=True)
    return inspect(path.read_bytes())


@needs_qemu_img
@pytest.mark.parametrize(
    ("format_", "options", "name"),
    [
        ("raw", (), "raw"),
        ("qcow2", (), "qcow2"),
        ("qcow2", ("-o", "compat=0.10"), "qcow2"),
        ("qcow2", ("-o", "compression_type=zstd,extended_l2=on,cluster_size=128k"), "qcow2"),
        ("vmdk", ("-o", "subformat=monolithicSparse"), "vmdk"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
        ("vpc", ("-o", "subformat=dynamic,force_size=on"), "vhd"),
        ("vpc", ("-o", "subformat=fixed,force_size=on"), "vhd"),
        ("vhdx", (), "vhdx"),
        ("vdi", (), "vdi"),
        ("vdi", ("-o", "static=on"), "vdi"),
    ],
)
def test_images_of_qemu_img_are_safe(tmp_path: Path, format_: str, options: tuple[str, ...], name: str) -> None:
    found = make(tmp_path / "image", format_, *options)
    assert (found.format, found.virtual_size, found.problem) == (name, 6 * MIB, None)


@needs_qemu_img
def test_images_of_qemu_img_that_point_elsewhere(tmp_path: Path) -> None:
    base = tmp_path / "base"
    make(base, "qcow2")
    assert "backing" in (make(tmp_path / "overlay", "qcow2", "-b", str(base), "-F", "qcow2").problem or "")
    outside = make(tmp_path / "outside", "qcow2", "-o", f"data_file={tmp_path}/data")
    assert "external" in (outside.problem or "")
    assert not make(tmp_path / "flat.vmdk", "vmdk", "-o", "subformat=monolithicFlat").safe
    make(tmp_path / "parent.vmdk", "vmdk")
    child = make(tmp_path / "child.vmdk", "vmdk", "-b", str(tmp_path / "parent.vmdk"), "-F", "vmdk")
    assert "parent" in (child.problem or "")
    assert make(tmp_path / "old", "qed").format == "qed"
