"""What the judge finds."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """A disagreement: which check, what thing, and what is wrong with it."""

    check: str
    thing: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.check}: {self.thing}: {self.wrong}"


class Guest(msgspec.Struct, frozen=True):
    """A guest as its host shows it. `power` is known for fake guests; a real one has a process or has none."""

    node: str
    running: bool
    processes: int = 1
    power: str = ""
