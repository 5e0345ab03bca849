"""The files of a guest, and what of them is written when: any of it may be cut off at any instruction."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import msgspec

from pileus.node.contract import MoveTarget, NodeFault, ServerSpec
from pileus.node.hypervisor.qemu.process import ProcessId
from pileus.node.hypervisor.qemu.settings import Account


class Export(msgspec.Struct, frozen=True):
    """A process that gives out the disks of a guest that is off."""

    process: ProcessId
    port: int
    disks: tuple[str, ...]


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What must be known of a guest after a restart of the agent, beside its specification."""

    power: str = "shutdown"  # running, shutdown, suspended, crashed; pause is asked of QEMU
    phase: str = ""
    """What is under way: building, suspending, resuming, ending:<power>; sending to another node; taking in from one,
    and incoming once its QEMU waits. moved: it runs on another node now, and what is left here is to be removed."""
    process: ProcessId | None = None
    machine: str = ""  # the versioned machine type: saved memory fits no other
    ports: int = 0  # PCIe root ports
    slots: dict[str, int] = {}  # port number by device id
    scsi: dict[str, int] = {}  # SCSI id by device id
    shown: dict[str, str] = {}  # the device id that QEMU knows, of volumes that have taken another's place
    cpu: str = ""  # the processor it sees, as QEMU calls it
    storage: str = ""  # the folder of its disks in `disks_dir`; empty: with its other files
    lent: bool = False  # its disks belong to another node: never to be removed from here
    export: Export | None = None
    fetched: str = ""  # hash of the secret of the move that brought its disks
    target: MoveTarget | None = None  # sending: where to; incoming: how it comes
    resumes: str = ""  # "running" or "paused": what it is to be once a move has ended, either way


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that after any crash there is the old or the new content, never a part. Blocks."""
    fresh = path.with_name(path.name + ".tmp")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    settle(fresh, path)


def settle(fresh: Path, path: Path) -> None:
    """Give a finished file its name for good. Blocks."""
    os.rename(fresh, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class GuestFiles:
    """`<state>/instances/<id>/`. The directory is ours; disks and `run/` belong to QEMU's account."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spec = directory / "spec.json"
        self.record = directory / "guest.json"
        self.put_disks(directory)
        self.moving = directory / "move"
        self.exporting = directory / "export"
        self.volumes = directory / "volumes"
        self.memory = directory / "memory"
        self.log = directory / "qemu.log"
        self.console = directory / "console.log"
        self.qmp = directory / "qmp.sock"
        self.serial = directory / "console.sock"
        self.agent = directory / "agent.sock"
        self.vnc = directory / "run" / "vnc.sock"

    def put_disks(self, folder: Path) -> None:
        """Say where the disks are."""
        self.disks = folder
        self.root = folder / "disk"
        self.ephemeral = folder / "disk.eph0"
        self.swap = folder / "disk.swap"
        self.config = folder / "disk.config"
        self.rescue = folder / "disk.rescue"

    def make(self, who: Account) -> None:
        """Make the directories if they are missing. Blocks."""
        self.directory.mkdir(mode=0o711, exist_ok=True)
        self.disks.mkdir(mode=0o711, exist_ok=True)
        run = self.directory / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        own(run, who)
        length = len(str(self.vnc))
        if length > 107:
            raise NodeFault(f"the path of a guest's socket has {length} characters, 107 are possible: {self.vnc}")

    def remove(self, *, disks: bool = True) -> None:
        """Remove everything; the specification first, so that what a crash leaves is known as rubbish. Blocks."""
        self.spec.unlink(missing_ok=True)
        if disks and self.disks != self.directory:
            shutil.rmtree(self.disks, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def forget_memory(self) -> None:
        """Remove saved memory: once the disks go on without it, it must never be used again. Blocks."""
        self.memory.unlink(missing_ok=True)
        self.memory.with_name(self.memory.name + ".tmp").unlink(missing_ok=True)

    def read_spec(self) -> ServerSpec | None:
        """The last specification; None if there is none that can be read. Blocks."""
        try:
            return msgspec.json.decode(self.spec.read_bytes(), type=ServerSpec)
        except (OSError, msgspec.DecodeError):
            return None

    def read_record(self) -> Record:
        """The last record; an empty one if there is none that can be read. Blocks."""
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return Record()

    def write(self, spec: ServerSpec | None, record: Record) -> None:
        """Write what is given, durably. Blocks."""
        if spec is not None:
            write_atomic(self.spec, msgspec.json.encode(spec))
        write_atomic(self.record, msgspec.json.encode(record))

    def disk_bytes(self) -> int:
        """What the guest's files take on the disk. Blocks."""
        total = 0
        for folder in {self.directory, self.disks}:
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(folder):
                    if entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        return total


def own(path: Path, who: Account) -> None:
    """Give a file to QEMU's account. Blocks."""
    if who.uid is not None and who.gid is not None:
        os.chown(path, who.uid, who.gid, follow_symlinks=False)
