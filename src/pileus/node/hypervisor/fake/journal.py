"""What a fake node knows of its guests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pileus.node import journal
from pileus.node.journal import SPARE

__all__ = ["SPARE", "FakeGuest", "Journal"]


class FakeGuest(msgspec.Struct, kw_only=True, omit_defaults=True, array_like=True, gc=False):
    """A guest that is not there. Times in seconds since the epoch."""

    id: str
    name: str
    power: str
    vcpus: int
    memory_mib: int
    root_bytes: int
    image_id: str = ""
    started: float = 0.0
    starts: int = 0
    rescued: bool = False
    gone: bool = False  # the last line of a guest that was destroyed
    faults: dict[str, str] = {}
    phase: str = ""  # "exported"; "incoming": taken in, not here yet; "moved": it runs elsewhere
    arrives: str = ""  # the power of one that is incoming, once it is here
    volumes: tuple[str, ...] = ()  # ids


class Journal(journal.Journal[FakeGuest]):
    """The guests of one fake node."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FakeGuest)
        self.guests = self.known
