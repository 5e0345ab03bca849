"""The disk of the guest image: an MBR, a FAT partition that boots, and the ext4 root, made without mounting."""

import os
import struct
import subprocess
from pathlib import Path

from pileus.node.guestimage import contents
from pileus.node.guestimage.faults import BuildError
from pileus.node.guestimage.tree import Parts

_MIB = 1024 * 1024
# One fixed date and one fixed id everywhere: the same packages give the same image.
_EPOCH = 1_700_000_000
_UUID = "70696c65-7573-4000-8000-677565737431"
# Room in the group descriptors for the largest disk that an MBR can describe, in blocks of 4 KiB.
_LARGEST_ROOT_BLOCKS = 2**41 // 4096 - 1


class Toolbox:
    """Runs file system tools out of the unpacked packages, so that the host needs none of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        folders = (parts.find("bin/mtools").parent, parts.find("sbin/mkfs.fat").parent)
        self._environment = {
            "PATH": ":".join([*map(str, folders), os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")]),
            "SOURCE_DATE_EPOCH": str(_EPOCH),
            "E2FSPROGS_FAKE_TIME": str(_EPOCH),
            "MTOOLS_SKIP_CHECK": "1",
            "TZ": "UTC",
            "LC_ALL": "C",
        }

    def run(self, path: str, *arguments: str | Path) -> str:
        """Runs the program `path` ("sbin/mke2fs") of a package; raises BuildError with its own words."""
        program = self._parts.find(path)
        libraries = {str(self._parts.library(name).parent) for name in ("libc.so.6", "libext2fs.so.2")}
        loader = [str(self._parts.library("ld-linux-x86-64.so.2")), "--library-path", ":".join(sorted(libraries))]
        return self.host(*loader, str(program), *map(str, arguments))

    def host(self, *command: str) -> str:
        """Runs a command with the tools of the packages on its PATH."""
        try:
            done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise BuildError(f"{command[0]} is not installed: apt-get install qemu-utils") from None
        if done.returncode:
            raise BuildError(f"{' '.join(command)[-300:]} failed: {(done.stderr or done.stdout).strip()[-800:]}")
        return done.stdout + done.stderr


def make_fat(tools: Toolbox, image: Path, kernel: Path, initramfs: bytes) -> None:
    """Makes the boot partition in the new file `image`: kernel, initramfs and the boot loader."""
    folder = image.with_suffix(".files")
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(kernel.read_bytes())
    (folder / "initrd.gz").write_bytes(initramfs)
    (folder / "syslinux.cfg").write_text(contents.SYSLINUX_CONFIG)
    size = sum(path.stat().st_size for path in folder.iterdir())
    with image.open("wb") as file:
        file.truncate((size // _MIB + 2) * _MIB)
    tools.run("sbin/mkfs.fat", "--invariant", "-F", "16", "-n", "BOOT", "-h", "2048", image)
    for path in sorted(folder.iterdir()):
        os.utime(path, (_EPOCH, _EPOCH))
        tools.run("bin/mtools", "-c", "mcopy", "-m", "-i", image, path, f"::{path.name}")
    tools.run("bin/syslinux", "--install", image)


def make_ext4(tools: Toolbox, image: Path, root: Path, size: int) -> None:
    """Makes the root file system of `size` bytes in the new file `image` from the folder `root`.

    Owners, modes and dates are written into the image, so that whoever builds gets the same.
    """
    for path in sorted(root.rglob("*")):
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)
    os.utime(root, (_EPOCH, _EPOCH))
    with image.open("wb") as file:
        file.truncate(size)
    tools.run(
        "sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "4096", "-m", "0", "-L", "root",
        "-O", "^64bit", "-J", "size=4", "-U", _UUID,
        "-E", f"hash_seed={_UUID},resize={_LARGEST_ROOT_BLOCKS},lazy_itable_init=1", "-d", root, image,
    )  # fmt: skip
    commands = image.with_suffix(".commands")
    commands.write_text("".join(_inode_commands(root)))
    said = tools.run("sbin/debugfs", "-w", "-f", commands, image)
    if "File not found" in said or "Usage" in said:
        raise BuildError(f"debugfs could not set owners: {said[-400:]}")


def _inode_commands(root: Path) -> list[str]:
    lines = []
    for path in [root, *sorted(root.rglob("*"))]:
        name = "/" + str(path.relative_to(root)) if path != root else "/"
        relative = name.lstrip("/")
        owner = next((uid for top, uid in contents.OWNERS.items() if (relative + "/").startswith(top + "/")), 0)
        fields = {"uid": owner, "gid": owner, "ctime": f"@{_EPOCH}", "atime": f"@{_EPOCH}"}
        fields["crtime"] = f"@{_EPOCH}"
        if relative in contents.MODES:
            kind = 0o040000 if path.is_dir() else 0o100000
            fields["mode"] = f"0{kind | contents.MODES[relative]:o}"
        lines += [f"sif {name} {field} {value}\n" for field, value in fields.items()]
    return lines


def join(disk: Path, boot_code: bytes, fat: Path, ext4: Path) -> None:
    """Writes MBR, FAT and ext4 one after the other into the new file `disk`, holes kept."""
    first, fat_sectors = 2048, fat.stat().st_size // 512
    second, root_sectors = first + fat_sectors, ext4.stat().st_size // 512
    entries = _entry(0x80, 0x0E, first, fat_sectors) + _entry(0, 0x83, second, root_sectors)
    mbr = boot_code[:440].ljust(440, b"\0") + struct.pack("<IH", 0x70696C65, 0) + entries + bytes(32) + b"\x55\xaa"
    with disk.open("wb") as target:
        target.truncate((second + root_sectors) * 512)
        target.write(mbr)
        for source, sector in ((fat, first), (ext4, second)):
            _copy_without_holes(source, target.fileno(), sector * 512)


def _entry(active: int, kind: int, start: int, count: int) -> bytes:
    return struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, count)


def _copy_without_holes(source: Path, target: int, offset: int) -> None:
    with source.open("rb") as file:
        position = 0
        while chunk := file.read(_MIB // 4):
            if chunk.count(0) != len(chunk):
                os.pwrite(target, chunk, offset + position)
            position += len(chunk)
