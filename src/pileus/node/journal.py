"""What a fake node knows, as a file to which each change is appended.

Nothing is held open, for there may be a thousand of these in a process; nothing is synced, for what was never there is
not lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

SPARE = 64
"""Superseded lines that are let be before the file is written anew."""


class Thing(Protocol):
    """What a journal keeps: msgspec structs. `gone` is true in the last line of one that was removed."""

    id: str
    gone: bool


T = TypeVar("T", bound=Thing)


class Journal(Generic[T]):
    """The things of one kind of one fake node, by id: `known`."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)
        self._lines = 0
        self.known: dict[str, T] = {}

    def load(self) -> None:
        """Read what an earlier process left, and put the file in order."""
        data = self.read()
        # It may end within a line, to which nothing must be appended.
        if data and (not data.endswith(b"\n") or self._stale()):
            self._rewrite()

    def read(self) -> bytes:
        """Read, and change nothing; a line that was cut off is as if it had not been written."""
        self.known.clear()
        self._lines = 0
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        for line in data.splitlines():
            self._lines += 1
            try:
                thing = self._decoder.decode(line)
            except msgspec.DecodeError:
                continue
            if thing.gone:
                self.known.pop(thing.id, None)
            else:
                self.known[thing.id] = thing
        return data

    def put(self, thing: T) -> None:
        """Keep a thing as it is now."""
        self.known[thing.id] = thing
        self._append(thing)

    def drop(self, thing: T) -> None:
        """Forget a thing."""
        self.known.pop(thing.id, None)
        thing.gone = True
        self._append(thing)

    def _append(self, thing: T) -> None:
        line = msgspec.json.encode(thing) + b"\n"
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
        self._lines += 1
        if self._stale():
            self._rewrite()

    def _stale(self) -> bool:
        return self._lines > 4 * len(self.known) + SPARE

    def _rewrite(self) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.touch(mode=0o600)
        fresh.write_bytes(b"".join(msgspec.json.encode(thing) + b"\n" for thing in self.known.values()))
        os.rename(fresh, self._path)
        self._lines = len(self.known)
