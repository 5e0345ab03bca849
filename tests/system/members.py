"""Controllers and agents as processes on loopback, with fake guests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.system.running import RunningCloud, environment

from pileus.node.hypervisor.fake.journal import Journal


class RunningController(RunningCloud):
    """`pileus server` on a state folder of its own."""

    def __init__(self, name: str = "c1", **settings: str) -> None:
        super().__init__("fake")
        self.cluster_port = free_port()
        self.settings = {
            **self.settings, "cluster_listen": f"127.0.0.1:{self.cluster_port}", "node_name": name,
            "hypervisor": "fake", "server_user": "root", "public_network": "", "bcrypt_rounds": "4", **settings,
        }

    @property
    def options(self) -> list[str]:
        return [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]

    def words(self, command: str, *words: str) -> list[str]:
        if command in ("token", "node"):  # the action comes first
            return [*super().words(command)[:-2], *words, "--state-dir", str(self.state)]
        return super().words(command, *words)

    @property
    def server(self) -> str:
        """Where its nodes connect."""
        return f"127.0.0.1:{self.cluster_port}"

    def up(self) -> None:
        done = self.command("server", "-d", *self.options)
        assert done.returncode == 0, done.stderr
        if not self.token:
            self.login()

    def join_token(self) -> str:
        """A token for any number of nodes."""
        done = self.command("token", "create")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def nodes(self) -> dict[str, str]:
        """State and controller of each node, as `pileus node list` prints them."""
        lines = self.command("node", "list").stdout.splitlines()[1:]
        return {line.split()[0]: " ".join(line.split()[2:]) for line in lines if " controller " not in line}

    def statuses(self) -> dict[str, str]:
        """Of all servers."""
        listed = self.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
        return {s["id"]: s["status"] + (": " + s["fault"]["message"] if "fault" in s else "") for s in listed}


class RunningAgent:
    """`pileus agent`: one fake node."""

    def __init__(self, name: str, *servers: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="pileus-test-", dir="/var/tmp"))
        self.name, self.servers = name, servers

    def start(self, token: str = "") -> None:
        """In the background; returns when it is connected."""
        cloud = RunningCloud.__new__(RunningCloud)
        cloud.state = self.state
        words = cloud.words(
            "agent", "-d", "--server", ",".join(self.servers), "--hypervisor", "fake", "--set", f"node_name={self.name}"
        )
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=120,
            env={**environment(), **({"PILEUS_TOKEN": token} if token else {})},
        )
        assert done.returncode == 0, done.stderr

    @property
    def pid(self) -> int:
        """Of the agent."""
        return int((self.state / "run" / "pileus.pid").read_text())

    def signal(self, number: int) -> None:
        """Send a signal; after SIGKILL it is waited for."""
        pid = self.pid
        os.kill(pid, number)
        if number == signal.SIGKILL:
            gone(pid)

    def guests(self) -> dict[str, tuple[str, int]]:
        """Power of each guest, and how often it was started."""
        journal = Journal(self.state / "nodes" / self.name / "guests")
        journal.read()
        return {guest.id: (guest.power, guest.starts) for guest in journal.guests.values()}

    def close(self) -> None:
        """End it, and remove its folder."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            self.signal(signal.SIGKILL)
        log = self.state / "pileus.log"
        print(f"--- {self.name}\n" + (log.read_text(errors="replace")[-5000:] if log.exists() else ""))
        shutil.rmtree(self.state, ignore_errors=True)


def gone(pid: int) -> None:
    """Wait until a process that was killed is gone."""
    until = time.monotonic() + 10
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        assert time.monotonic() < until, f"process {pid} outlives kill -9"
        time.sleep(0.01)


def until(test: Any, seconds: float = 30.0, what: str = "") -> Any:
    """What `test` returns once that is true."""
    end = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found
