"""RabbitMQ of a lab: one server, or a cluster of three, with an Erlang machine tuned small."""

from __future__ import annotations

import json
import time
from pathlib import Path

from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.lab.part import Part

PORT = 5672
_BIN = Path("/usr/lib/rabbitmq/bin")
_HOME = "/var/lib/rabbitmq"


class Rabbitmq(Part):
    """One server. `seed` is the machine whose server the others join when they start for the first time."""

    name = "rabbitmq"
    user = "rabbitmq"
    patience = 120.0

    def __init__(self, machine: Machine, address: str, password: str, cookie: str, seed: str) -> None:
        super().__init__(machine, address)
        self._password, self._cookie, self._seed = password, cookie, seed

    def prepare(self) -> None:
        """Its configuration, its cookie and its folders."""
        if not _BIN.is_dir():
            raise LabError("RabbitMQ is missing: install it with `scripts/install-system test`")
        machine = self.machine
        machine.run("install", "-d", "-o", "rabbitmq", "-g", "rabbitmq", "-m", "700", _HOME, f"{_HOME}/mnesia")
        for path, text in ((f"{_HOME}/.erlang.cookie", self._cookie), (f"{_HOME}/rabbitmq.conf", self._settings()),
                           (f"{_HOME}/plugins", "[].\n")):
            machine.path(path).write_text(text)
            machine.path(path).chmod(0o600)
            machine.run("chown", "rabbitmq:rabbitmq", path)

    def _settings(self) -> str:
        lines = [
            f"listeners.tcp.1 = {self.address}:{PORT}", "default_user = pileus", f"default_pass = {self._password}",
            "log.file = false", "log.console = true", "log.console.level = warning",
            "disk_free_limit.absolute = 50MB", "vm_memory_high_watermark.absolute = 512MB",
            "cluster_formation.peer_discovery_backend = classic_config",
            "cluster_formation.randomized_startup_delay_range.min = 0",
            "cluster_formation.randomized_startup_delay_range.max = 1",
            "cluster_partition_handling = pause_minority", "net_ticktime = 8",
        ]
        # The first looks for nobody: it would wait half a minute for those that are not there yet.
        lines += [f"cluster_formation.classic_config.nodes.{n} = rabbit@{name}"
                  for n, name in enumerate(dict.fromkeys((self._seed, self.machine.name)), 1)]
        return "\n".join([*lines, ""])

    def command(self) -> list[str]:
        """How it is started."""
        return [str(_BIN / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        """Where its files are; and that no shell shall stay between it and us, as under systemd."""
        return {
            "HOME": _HOME, "RABBITMQ_NODENAME": f"rabbit@{self.machine.name}",
            "RABBITMQ_MNESIA_BASE": f"{_HOME}/mnesia", "RABBITMQ_CONFIG_FILE": f"{_HOME}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{_HOME}/plugins", "RABBITMQ_PID_FILE": f"{_HOME}/pid",
            "RABBITMQ_LOG_BASE": _HOME, "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def answers(self) -> bool:
        """Whether it takes connections."""
        return self.listens(PORT)

    def ctl(self, *words: str) -> str:
        """What rabbitmqctl says. Raises LabError."""
        done = self.machine.run(
            str(_BIN / "rabbitmqctl"), "-q", *words, user=self.user, environment=self.environment(), timeout=90
        )
        return done.stdout

    def wait_for_members(self, count: int, seconds: float = 60.0) -> None:
        """Until the cluster has so many running members. Raises LabError."""
        until = time.monotonic() + seconds
        while len(members := json.loads(self.ctl("cluster_status", "--formatter", "json"))["running_nodes"]) < count:
            if time.monotonic() > until:
                raise LabError(f"RabbitMQ's cluster has only {', '.join(members)} after {seconds:.0f} s")
            time.sleep(0.2)
