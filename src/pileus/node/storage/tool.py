"""qemu-img on volumes: always told the format, always unprivileged, always under limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.hypervisor.qemu.process import run_limited
from pileus.node.hypervisor.qemu.settings import Account
from pileus.node.hypervisor.qemu.watched import run_watched
from pileus.threads import to_its_end

GIB = 1 << 30


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What is copied: a block device as QEMU takes it, one of its snapshots if one is named."""

    device: dict[str, Any]
    size: int  # bytes
    snapshot: str = ""
    objects: tuple[str, ...] = ()  # QEMU's objects that it needs
    name: str  # as a user knows it


def file_device(path: Path, disk_format: str) -> dict[str, Any]:
    """The block device of a file that stands on nothing, whatever its header says."""
    alone = {"backing": None} if disk_format == "qcow2" else {}
    return {"driver": disk_format, **alone, "file": {"driver": "file", "filename": str(path)}}


class DiskTool:
    """Runs qemu-img as the storage account. What is short goes on to its end when it is cancelled. Raises NodeFault."""

    def __init__(self, program: str, who: Account) -> None:
        self.program = program
        self.who = who

    async def _run(self, *arguments: str, cpu: int = 600) -> bytes:
        return await to_its_end(lambda: run_limited([self.program, *arguments], self.who, cpu=cpu))

    async def create(self, path: Path, size: int) -> None:
        """An empty qcow2 of `size` bytes in a file that is there."""
        await self._run("create", "-q", "-f", "qcow2", str(path), str(size))

    async def info(self, path: Path, disk_format: str = "qcow2") -> dict[str, Any]:
        """What qemu-img says of a file, also of one that is in use."""
        found = await self._run("info", "-U", "-f", disk_format, "--output=json", str(path), cpu=30)
        return dict(json.loads(found))

    async def size(self, path: Path, disk_format: str = "qcow2") -> int:
        """How large a guest sees it, in bytes."""
        return int((await self.info(path, disk_format))["virtual-size"])

    async def snapshots(self, path: Path) -> set[str]:
        """The names of its internal snapshots."""
        return {str(one["name"]) for one in (await self.info(path)).get("snapshots", ())}

    async def resize(self, path: Path, size: int, *, shrink: bool = False) -> None:
        """Let it have another size."""
        await self._run("resize", "-q", *(["--shrink"] if shrink else []), "-f", "qcow2", str(path), str(size))

    async def snapshot(self, path: Path, action: str, name: str) -> None:
        """Create (-c), delete (-d) or apply (-a) an internal snapshot of a volume that nobody has open."""
        await self._run("snapshot", "-q", action, name, str(path))

    async def repair(self, path: Path) -> None:
        """Give back clusters that belong to nothing."""
        await self._run("check", "-q", "-f", "qcow2", "-r", "leaks", str(path))

    async def copy(self, source: Source, target: Path, *, blank: bool) -> None:
        """Write a source into a qcow2 of at least its size; `blank`: nothing was ever written there."""
        await self._convert(source, ("-n", *(["--target-is-zero"] if blank else []), "-O", "qcow2"), str(target))

    async def write(
        self, source: Source, form: str, target: str, *, packed: bool = False, fd: int | None = None
    ) -> None:
        """Write a source into a file that is made anew, complete by itself."""
        await self._convert(source, (*(["-c"] if packed else []), "-O", form), target, () if fd is None else (fd,))

    async def _convert(self, source: Source, how: tuple[str, ...], target: str, fds: tuple[int, ...] = ()) -> None:
        argv = [self.program, "convert", "-q", "-U"]
        for each in source.objects:
            argv += ["--object", each]
        if source.snapshot:
            argv += ["-l", f"snapshot.name={source.snapshot}"]
        # All of a disk may have to be read, checked for zeroes, packed and written: a minute for each GiB.
        cpu = 60 + 60 * (source.size // GIB)
        argv += [*how, "json:" + json.dumps(source.device), target]
        await run_watched(argv, self.who, f"file {source.name}", cpu=cpu, fds=fds)
