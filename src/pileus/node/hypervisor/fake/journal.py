"""What a fake node knows of its guests, as a file to which each change is appended.

Nothing is held open, for there may be a thousand of these in a process; nothing is synced, for a guest that
was never there is not lost.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

SPARE = 64
"""Superseded lines that are let be before the file is written anew."""


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


class Journal:
    """The guests of one fake node."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0
        self.guests: dict[str, FakeGuest] = {}

    def load(self) -> None:
        """Read what an earlier process left, and put the file in order."""
        data = self.read()
        # It may end within a line, to which nothing must be appended.
        if data and (not data.endswith(b"\n") or self._stale()):
            self._rewrite()

    def read(self) -> bytes:
        """Read, and change nothing; a line that was cut off is as if it had not been written."""
        self.guests.clear()
        self._lines = 0
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        decoder = msgspec.json.Decoder(FakeGuest)
        for line in data.splitlines():
            self._lines += 1
            try:
                guest = decoder.decode(line)
            except msgspec.DecodeError:
                continue
            if guest.gone:
                self.guests.pop(guest.id, None)
            else:
                self.guests[guest.id] = guest
        return data

    def put(self, guest: FakeGuest) -> None:
        """Keep a guest as it is now."""
        self.guests[guest.id] = guest
        self._append(guest)

    def drop(self, guest: FakeGuest) -> None:
        """Forget a guest."""
        self.guests.pop(guest.id, None)
        guest.gone = True
        self._append(guest)

    def _append(self, guest: FakeGuest) -> None:
        line = msgspec.json.encode(guest) + b"\n"
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
        self._lines += 1
        if self._stale():
            self._rewrite()

    def _stale(self) -> bool:
        return self._lines > 4 * len(self.guests) + SPARE

    def _rewrite(self) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.touch(mode=0o600)
        fresh.write_bytes(b"".join(msgspec.json.encode(guest) + b"\n" for guest in self.guests.values()))
        os.rename(fresh, self._path)
        self._lines = len(self.guests)
