"""qemu-img: always told the format, always unprivileged, always under limits (OSSA 2024-001 tells why)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.files import own, settle
from pileus.node.hypervisor.qemu.process import run_limited
from pileus.node.hypervisor.qemu.settings import Account

GIB = 1 << 30


class ImageTool:
    """Runs qemu-img as the account of QEMU. Every method blocks and raises NodeFault."""

    def __init__(self, program: str, who: Account) -> None:
        self.program = program
        self.who = who

    def _run(self, *arguments: str, cpu: int = 30, memory: int = GIB, fds: tuple[int, ...] = ()) -> bytes:
        return run_limited([self.program, *arguments], self.who, cpu=cpu, memory=memory, fds=fds)

    def virtual_size(self, path: Path, disk_format: str) -> int:
        """How large a guest sees this file, in bytes."""
        output = self._run("info", "-U", "-f", disk_format, "--output=json", str(path))
        return int(json.loads(output)["virtual-size"])

    def create_overlay(self, path: Path, base: Path, base_format: str, size: int) -> None:
        """A qcow2 of `size` bytes that shows `base` until it is written to."""
        with Fresh(path, self.who) as fresh:
            backing = ("-b", str(base), "-F", base_format)
            self._run("create", "-q", "-f", "qcow2", *backing, str(fresh), str(size))

    def create_empty(self, path: Path, size: int) -> None:
        """An empty raw disk of `size` bytes."""
        with Fresh(path, self.who) as fresh:
            os.truncate(fresh, size)

    def stand_on(self, path: Path, base: Path, base_format: str) -> None:
        """Let a qcow2 stand on another file of the same content as the one it stood on."""
        self._run("rebase", "-q", "-u", "-f", "qcow2", "-b", str(base), "-F", base_format, str(path))

    def create_in(self, target: int, size: int) -> None:
        """An empty qcow2 of `size` bytes, through a descriptor that is open for writing."""
        self._run("create", "-q", "-f", "qcow2", f"/dev/fd/{target}", str(size), fds=(target,))

    def grow(self, path: Path, size: int) -> None:
        """Make a qcow2 at least `size` bytes large. Raises NodeFault if it is larger."""
        now = self.virtual_size(path, "qcow2")
        if now > size:
            raise NodeFault(
                f"the disk has {now / GIB:.1f} GiB and cannot shrink to {size / GIB:.1f}: choose a larger flavor"
            )
        if now < size:
            self._run("resize", "-q", "-f", "qcow2", str(path), str(size))

    def flatten(self, chain: dict[str, Any], target: int, size: int) -> None:
        """Copy a disk and all that it stands on into one qcow2, through a descriptor that is open for writing.

        `chain` is the block device with its backing file named, for what its own header says is not to be
        trusted: QEMU, which writes it, is the guest's nearest neighbour."""
        os.ftruncate(target, 0)
        source = "json:" + json.dumps(chain)
        # All of a disk may have to be read, checked for zeroes and written: ten seconds for each GiB.
        cpu = 60 + 10 * (size // GIB)
        # It has up to 64 threads with stacks of 8 MiB, of which little is ever touched.
        self._run("convert", "-q", "-O", "qcow2", source, f"/dev/fd/{target}", cpu=cpu, memory=2 * GIB, fds=(target,))


class Fresh:
    """A file that QEMU's account can fill under a name of passage; it gets its own name when complete."""

    def __init__(self, path: Path, who: Account) -> None:
        self.path = path
        self.fresh = path.with_name(path.name + ".tmp")
        self.who = who

    def __enter__(self) -> Path:
        self.fresh.unlink(missing_ok=True)
        os.close(os.open(self.fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        own(self.fresh, self.who)
        return self.fresh

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.fresh.unlink(missing_ok=True)
            return
        # A disk that was never synced may be found empty under its final name after a power cut.
        handle = os.open(self.fresh, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        settle(self.fresh, self.path)
