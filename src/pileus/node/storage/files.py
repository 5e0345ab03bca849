"""The files of a volume, and what of them is written when: any of it may be cut off at any instruction."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from pileus.node.hypervisor.qemu.commandline import json_safe
from pileus.node.hypervisor.qemu.files import write_atomic


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What must be known of a volume beside its disk. Its key is in a file that the daemon reads."""

    size: int = 0  # bytes
    port: int = 0  # on which it is given out; 0: it is not
    read_only: bool = False
    torn: bool = False  # something was cut off: clusters of the file may belong to nothing
    copied: bool = False  # it may have snapshots that are there for copies alone


class VolumeFiles:
    """`<state>/volumes/<id>/`. The folder is ours, the disk and the key the storage account's. A volume is there when
    its disk is; what is made first has another name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = directory / "disk"
        self.record = directory / "volume.json"
        self.key = directory / "key"
        self.fetching = directory / "fetch"
        self.qmp = directory / "qmp.sock"
        self.ready = directory / "run" / "pid"
        self.log = directory / "daemon.log"

    @property
    def marker(self) -> str:
        """An argument of the process that gives out this volume, which no other has."""
        return marker_of(self.key)

    def read(self) -> Record:
        """The record; an empty one if there is none that can be read. Blocks."""
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return Record()

    def write(self, record: Record) -> None:
        """Keep the record, durably. Blocks."""
        write_atomic(self.record, msgspec.json.encode(record))

    def remove(self) -> None:
        """Remove everything; the disk first, so that what a crash leaves is known as rubbish. Blocks."""
        self.disk.unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            shutil.rmtree(self.directory)


def marker_of(key: Path) -> str:
    """How a daemon is told the folder of its key."""
    return f"tls-creds-psk,id=tls,endpoint=server,dir={json_safe(str(key))}"
