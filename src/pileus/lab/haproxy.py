"""HAProxy of a lab: one address before all controllers, and before the one Galera node that takes all writes."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.lab.part import Part

if TYPE_CHECKING:
    from pileus.lab.controller import Controller

DATABASE_PORT = 3306
API_PORT = 8080
_FILE = "/etc/haproxy/haproxy.cfg"
_GLOBAL = ("global", "    maxconn 2000", "defaults", "    timeout connect 2s", "    timeout check 2s")


class Haproxy(Part):
    """The front, before controllers and, where there is Galera, the database."""

    name = "haproxy"

    def __init__(self, machine: Machine, address: str, galera: Mapping[str, str]) -> None:
        super().__init__(machine, address)
        self._galera = galera
        self.controllers: list[Controller] = []

    def prepare(self) -> None:
        """Its configuration before there are controllers: what they need themselves."""
        if not Path("/usr/sbin/haproxy").exists():
            raise LabError("HAProxy is missing: install it with `scripts/install-system test`")
        self.machine.path("/etc/haproxy").mkdir(exist_ok=True)
        self._write("\n".join(_GLOBAL))

    def configure(self) -> None:
        """Put it before the controllers that live, by what `pileus haproxy` says; it goes on with what it has open."""
        running = [controller for controller in self.controllers if controller.running]
        if not running:
            raise LabError(f"{self.machine.name}: there is no controller to put HAProxy before")
        head = running[0]
        self._write(head.machine.run(*head.pileus("haproxy", "--bind", self.address)).stdout)
        if self.running:
            self.signal(signal.SIGUSR2)
        else:
            self.launch()
        self.wait()

    def _write(self, text: str) -> None:
        self.machine.path(_FILE).write_text("\n".join([text, *self._database(), ""]))

    def _database(self) -> list[str]:
        """One server takes all connections: locks of one Galera node are unknown to the others."""
        if not self._galera:
            return []
        lines = [
            "listen galera", f"    bind {self.address}:{DATABASE_PORT}", "    mode tcp",
            "    option mysql-check user haproxy", "    timeout client 1h", "    timeout server 1h",
            "    default-server inter 500ms fastinter 200ms fall 3 rise 2 on-marked-down shutdown-sessions",
        ]
        return lines + [
            f"    server {name} {address}:3306 check{' backup' if number else ''}"
            for number, (name, address) in enumerate(self._galera.items())
        ]

    def command(self) -> list[str]:
        """How it is started."""
        return ["haproxy", "-f", _FILE, "-W", "-db"]

    def answers(self) -> bool:
        """Whether it takes connections to the APIs, or, before there are any, to the database."""
        configured = f":{API_PORT}" in self.machine.path(_FILE).read_text()
        return self.listens(API_PORT if configured else DATABASE_PORT)
