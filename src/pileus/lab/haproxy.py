"""HAProxy of a lab: one address before all controllers, and before the one Galera node that takes all writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.lab.part import Part

if TYPE_CHECKING:
    from pileus.lab.controller import Controller

DATABASE_PORT = 3306
_FILE = "/etc/haproxy/haproxy.cfg"


class Haproxy(Part):
    """The front. Its part for the APIs is what `pileus haproxy` writes on a controller."""

    name = "haproxy"

    def __init__(self, machine: Machine, address: str, galera: Mapping[str, str]) -> None:
        super().__init__(machine, address)
        self._galera = galera
        self.controllers: list[Controller] = []

    def prepare(self) -> None:
        """Its configuration."""
        if not Path("/usr/sbin/haproxy").exists():
            raise LabError("HAProxy is missing: install it with `scripts/install-system test`")
        self.configure()

    def configure(self) -> None:
        """Write the configuration anew."""
        self.machine.path("/etc/haproxy").mkdir(exist_ok=True)
        self.machine.path(_FILE).write_text(self._database())

    def _database(self) -> str:
        """One server takes all connections, since locks of one Galera node are unknown to the others."""
        if not self._galera:
            return ""
        lines = [
            "", "listen galera", f"    bind {self.address}:{DATABASE_PORT}", "    mode tcp",
            "    option mysql-check user haproxy", "    timeout client 1h", "    timeout server 1h",
            "    default-server inter 500ms fastinter 200ms fall 3 rise 2 on-marked-down shutdown-sessions",
        ]
        for number, (name, address) in enumerate(self._galera.items()):
            lines.append(f"    server {name} {address}:3306 check{' backup' if number else ''}")
        return "\n".join([*lines, ""])

    def command(self) -> list[str]:
        """How it is started."""
        return ["haproxy", "-f", _FILE, "-db"]

    def answers(self) -> bool:
        """Whether it takes connections."""
        return self.listens(8080)
