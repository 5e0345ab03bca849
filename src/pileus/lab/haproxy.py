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
API_PORT = 8080
_FILE = "/etc/haproxy/haproxy.cfg"
_GLOBAL = ["global", "    maxconn 2000", "    nbthread 1", "defaults", "    timeout connect 2s", "    timeout check 2s"]


class Haproxy(Part):
    """The front, before controllers and, where there is Galera, the database."""

    name = "haproxy"

    def __init__(self, machine: Machine, address: str, galera: Mapping[str, str]) -> None:
        super().__init__(machine, address)
        self._galera = galera
        self.controllers: list[Controller] = []

    def prepare(self) -> None:
        """Its configuration."""
        if not Path("/usr/sbin/haproxy").exists():
            raise LabError("HAProxy is missing: install it with `scripts/install-system test`")
        self.machine.path("/etc/haproxy").mkdir(exist_ok=True)
        self.machine.path(_FILE).write_text("\n".join([*_GLOBAL, *self._apis(), *self._database(), ""]))

    def _apis(self) -> list[str]:
        lines = [
            "listen apis", f"    bind {self.address}:{API_PORT}", "    mode http", "    balance leastconn",
            "    option httpchk GET /healthz", "    option redispatch", "    retries 2",
            "    retry-on conn-failure", "    timeout client 5m", "    timeout server 5m", "    timeout tunnel 1h",
            "    default-server inter 1s fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions",
        ]
        return lines + [
            f"    server {each.machine.name} {each.settings['listen']} check" for each in self.controllers
        ]

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
        return ["haproxy", "-f", _FILE, "-db"]

    def answers(self) -> bool:
        """Whether it takes connections."""
        return self.listens(API_PORT)
