"""The parts that are Pileus itself: controllers, and the agents that join them by token."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from pileus.cli.running import healthy
from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.lab.part import Part

_PILEUS = (sys.executable, "-m", "pileus.cli.main")
_TOKEN = "/run/pileus-token"


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

    def __init__(self, machine: Machine, address: str, settings: Mapping[str, object]) -> None:
        super().__init__(machine, address)
        self.settings = settings

    def prepare(self) -> None:
        """Its settings; they have secrets."""
        path = self.machine.path(self.file)
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(toml(self.settings))

    def pileus(self, *words: str) -> list[str]:
        """The command line of `pileus …` with this part's settings."""
        return [*_PILEUS, *words, "--config", self.file]


class Controller(_Pileus):
    """A controller. Root starts it, and it goes on as user `pileus`."""

    name = "controller"
    file = "/etc/pileus/pileus.toml"

    def command(self) -> list[str]:
        """How it is started."""
        return self.pileus("server")

    @property
    def url(self) -> str:
        """Where its own APIs are."""
        return f"http://{self.settings['listen']}"

    def answers(self) -> bool:
        """Whether it is well."""
        with self.machine.inside():
            return healthy(self.url) == "ok"


class Agent(_Pileus):
    """A node's agent, as root. It joins by a token of its own at its first start."""

    name = "agent"
    file = "/etc/pileus/agent.toml"

    def __init__(self, machine: Machine, address: str, roles: tuple[str, ...], settings: Mapping[str, object]) -> None:
        super().__init__(machine, address, settings)
        self._roles = roles
        self._from = 0  # where in the log this start begins
        self.controllers: list[Controller] = []

    def launch(self) -> None:
        """Start it, with a new token if it has not joined."""
        log = self.machine.path(self.log)
        self._from = log.stat().st_size if log.exists() else 0
        if not self.machine.path(f"{self.settings['state_dir']}/member").exists():
            self._get_token()
        super().launch()

    def _get_token(self) -> None:
        """As an operator does: a token that is good once and for a short time, from a controller."""
        running = [controller for controller in self.controllers if controller.running]
        if not running:
            raise LabError(f"{self.machine.name} cannot join: no controller runs")
        uses = str(self.settings.get("fake_nodes", 1))
        words = ("token", "create", "--roles", ",".join(self._roles), "--ttl", "1h", "--uses", uses)
        done = running[0].machine.run(*running[0].pileus(*words))
        path = self.machine.path(_TOKEN)
        path.touch(mode=0o600)
        path.write_text(done.stdout)

    def command(self) -> list[str]:
        """How it is started."""
        servers = ",".join(str(controller.settings["cluster_listen"]) for controller in self.controllers)
        token = ("--token-file", _TOKEN) if self.machine.path(_TOKEN).exists() else ()
        return [*self.pileus("agent"), "--server", servers, *token]

    def answers(self) -> bool:
        """Whether it has said that it is connected."""
        with self.machine.path(self.log).open("rb") as log:
            log.seek(self._from)
            return b" connected after " in log.read()
