"""What the judge sees of a host, and what it finds."""

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


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The network that a host carries, by whole ids (by device names where a device does not tell its id)."""

    networks: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()
    taps: frozenset[str] = frozenset()
    addresses: dict[str, frozenset[str]] = {}  # of each router
    dhcp: dict[str, int] = {}  # processes by the namespace that they serve; 0: one that serves a lost namespace


class Kept(msgspec.Struct, frozen=True):
    """A volume as its node shows it."""

    node: str
    given_out: bool = False
    daemons: int = 0  # that give it out; of a fake one as many as there would be


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """All that this host shows of its nodes. `carried` is None where the network is not real."""

    nodes: tuple[str, ...]
    guests: dict[str, Guest]
    others: tuple[tuple[str, Guest], ...] = ()  # the same server's on other nodes of this host
    carried: Carried | None
    volumes: dict[str, Kept] = {}  # by id; also what has a daemon and no file
    backups: dict[str, frozenset[str]] = {}  # ids by node
    prefix: str = ""  # of the namespaces
    controller: str = ""  # whose image store it is
    images: dict[str, int]  # bytes by name
    staged: frozenset[str] = frozenset()
    cache: dict[str, int] | None = None  # bytes by sha512; None where guests have no disks
