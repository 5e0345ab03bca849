"""A node of the lab: its machine, its place in the networks, and the parts that run on it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any, Protocol

from pileus.lab.faults import LabError
from pileus.lab.layouts import Spec
from pileus.lab.machine import Machine
from pileus.lab.part import Part


class Surroundings(Protocol):
    """What a node asks its lab for."""

    def power_on(self, node: str) -> None: ...

    def power_off(self, node: str) -> None: ...


class Node:
    """One node, by name in `Lab.nodes`. Every method raises LabError when it cannot."""

    def __init__(self, spec: Spec, machine: Machine, parts: list[Part], lab: Surroundings) -> None:
        self.spec, self.machine, self._lab = spec, machine, lab
        self.name, self.address = spec.name, spec.address
        self.parts = {part.name: part for part in parts}
        """By name, in the order in which they start."""

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the node to its end; see Machine.run for the options."""
        return self.machine.run(*words, **options)

    def pileus(self, *words: str, **options: Any) -> str:
        """What `pileus …` prints on the node: with the settings of its controller, or else of its agent."""
        for part in self.parts.values():
            if command := part.pileus(*words):
                return self.machine.run(*command, **options).stdout
        raise LabError(f"{self.name} has neither controller nor agent")

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Put the calling thread, and what it starts, into the node's network for the block."""
        return self.machine.inside()

    def part(self, name: str) -> Part:
        """One of its parts. Raises LabError when it has none of this name."""
        try:
            return self.parts[name]
        except KeyError:
            raise LabError(f"{self.name} has no part '{name}'; it has {', '.join(self.parts) or 'none'}") from None

    def start(self, part: str) -> None:
        """Start a part that does not run, and wait until it answers."""
        self.part(part).start()

    def stop(self, part: str) -> None:
        """End a part in order."""
        self.part(part).stop()

    def kill(self, part: str) -> None:
        """kill -9 of a part's process, and wait until it is gone. What it has started lives on."""
        self.part(part).kill()

    def restart(self, part: str) -> None:
        """End a part in order and start it again."""
        self.stop(part)
        self.start(part)

    def power_off(self) -> None:
        """Pull the node's plug: guests and all go at once. Its files stay."""
        self._lab.power_off(self.name)

    def power_on(self) -> None:
        """Switch it on again: the machine and its network; its parts are started by `start`, or all by `boot`."""
        self._lab.power_on(self.name)

    def boot(self) -> None:
        """Switch it on and start its parts."""
        self.power_on()
        for part in self.parts.values():
            part.start()

    @contextlib.contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """A part is ended in order for the block, and started after it."""
        self.stop(part)
        try:
            yield
        finally:
            self.start(part)
