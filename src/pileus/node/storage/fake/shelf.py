"""What a fake node knows of its volumes and backups."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pileus.node.journal import Journal


class FakeVolume(msgspec.Struct, kw_only=True, omit_defaults=True, array_like=True, gc=False):
    """A volume that is not there."""

    id: str
    size_gib: int
    snapshots: dict[str, int] = {}  # size in GiB by id
    secret: str = ""  # that it is given out with; "": it is not
    read_only: bool = False
    port: int = 0  # of its export; kept for the next one
    gone: bool = False


class FakeBackup(msgspec.Struct, kw_only=True, omit_defaults=True, array_like=True, gc=False):
    """A backup that is not there."""

    id: str
    volume_id: str
    size_gib: int
    gone: bool = False


class Shelf:
    """All that a fake storage keeps, in the files `volumes` and `volume-backups` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._volumes = Journal(folder / "volumes", FakeVolume)
        self._backups = Journal(folder / "volume-backups", FakeBackup)
        self.volumes, self.backups = self._volumes.known, self._backups.known

    def load(self) -> None:
        """Take up what an earlier process left."""
        self._volumes.load()
        self._backups.load()

    def read(self) -> None:
        """Look at what there is, and change nothing."""
        self._volumes.read()
        self._backups.read()

    def put(self, thing: FakeVolume | FakeBackup) -> None:
        """Keep it as it is now."""
        if isinstance(thing, FakeVolume):
            self._volumes.put(thing)
        else:
            self._backups.put(thing)

    def drop(self, thing: FakeVolume | FakeBackup) -> None:
        """Forget it."""
        if isinstance(thing, FakeVolume):
            self._volumes.drop(thing)
        else:
            self._backups.drop(thing)
