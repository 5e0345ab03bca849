"""The parts that are Pileus itself: controllers, and the agents that join them by token."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from pileus.lab.machine import Machine
from pileus.lab.part import Part

_PILEUS = (sys.executable, "-m", "pileus.cli.main")
_USER = "pileus"


def toml(values: Mapping[str, object]) -> str:
    """Settings as a TOML file; strings may stand for numbers."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


class _Pileus(Part):
    """What controllers and agents have in common: a settings file and a state folder."""

    file = ""
    state = ""

    def __init__(self, machine: Machine, address: str, settings: Mapping[str, object]) -> None:
        super().__init__(machine, address)
        self._settings = settings

    def pileus(self, *words: str) -> list[str]:
        """The command line of `pileus …` with this part's settings."""
        command, *rest = words
        return [*_PILEUS, command, "--config", self.file, *rest]

    def write_settings(self) -> None:
        """Write its settings; they have secrets."""
        path = self.machine.path(self.file)
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(toml(self._settings))


class Controller(_Pileus):
    """A controller, as user `pileus`."""

    name = "controller"


class Agent(_Pileus):
    """A node's agent, as root."""

    name = "agent"

    def __init__(self, machine: Machine, address: str, roles: tuple[str, ...], settings: Mapping[str, object]) -> None:
        super().__init__(machine, address, settings)
        self._roles = roles
        self.controllers: list[Controller] = []
