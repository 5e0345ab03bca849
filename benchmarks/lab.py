"""Clouds to measure: started as a user starts them, destroyed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.ports import free_port

from benchmarks.client import Http

PASSWORD = "measured"
_PILEUS = [sys.executable, "-m", "pileus.cli.main"]


class Lab:
    """A running cloud of its own."""

    command = "up"

    def __init__(self, state: Path, port: int, hypervisor: str, options: dict[str, str]) -> None:
        self.state, self.port, self.hypervisor, self.options = state, port, hypervisor, options
        self.base = f"http://127.0.0.1:{port}"
        self.http = Http(self.base)
        self.token = ""
        self.project_id = ""

    def up(self) -> float:
        """Start; seconds from the start of the process until it says that all APIs answer."""
        words = [*_PILEUS, self.command, "-d", "--state-dir", str(self.state)]
        settings = {"listen": f"127.0.0.1:{self.port}", "hypervisor": self.hypervisor, **self.options}
        environment = {**os.environ, "PILEUS_ADMIN_PASSWORD": PASSWORD}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
        for name, value in settings.items():
            words += ["--set", f"{name}={value}"]
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return time.perf_counter() - began

    @property
    def pid(self) -> int:
        """The cloud's process."""
        return int((self.state / "run" / "pileus.pid").read_text())

    def down(self) -> None:
        """Stop, keeping the state."""
        subprocess.run([*_PILEUS, "down", "--state-dir", str(self.state)], capture_output=True, check=True)

    def destroy(self) -> None:
        """Remove all of it."""
        subprocess.run([*_PILEUS, "destroy", "--state-dir", str(self.state)], capture_output=True, check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    async def login(self) -> None:
        """Become admin."""
        answer = await self.http.ok("POST", "/identity/v3/auth/tokens", body=self.credentials())
        self.token = answer.headers["x-subject-token"]
        self.project_id = answer.json()["token"]["project"]["id"]

    @staticmethod
    def credentials() -> object:
        """The body that logs admin in."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        return {"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }}


@contextlib.contextmanager
def lab(hypervisor: str = "fake", **options: str) -> Iterator[Lab]:
    """A cloud that is not started yet; destroyed at the end."""
    state = Path(tempfile.mkdtemp(prefix="pileus-bench-", dir="/var/tmp"))
    state.chmod(0o755)
    one = Lab(state, free_port(), hypervisor, options)
    try:
        yield one
    finally:
        one.destroy()


@contextlib.asynccontextmanager
async def running(hypervisor: str = "fake", **options: str) -> AsyncIterator[Lab]:
    """A started cloud with admin logged in."""
    with lab(hypervisor, **options) as one:
        one.up()
        await one.login()
        yield one


class Cluster(Lab):
    """A controller, and agent processes that play fake nodes, all on loopback."""

    command = "server"
    _most = 250  # nodes of a process

    def __init__(self, state: Path, port: int, nodes: int) -> None:
        self.cluster = f"127.0.0.1:{free_port()}"
        options = {"cluster_listen": self.cluster, "server_user": "root", "node_name": "controller"}
        super().__init__(state, port, "fake", options)
        self.nodes = nodes
        self.agents: list[Path] = []
        self.joined = 0.0  # seconds that it took

    def join(self) -> float:
        """Start the agents; seconds until every node is connected and registered."""
        made = subprocess.run(
            [*_PILEUS, "token", "create", "--state-dir", str(self.state)], capture_output=True, text=True, check=True
        )
        began = time.perf_counter()
        for first in range(0, self.nodes, self._most):
            folder = self.state.with_name(f"{self.state.name}-agent{first}")
            self.agents.append(folder)
            count = min(self._most, self.nodes - first)
            words = [
                *_PILEUS, "agent", "-d", "--state-dir", str(folder), "--server", self.cluster, "--hypervisor", "fake",
                "--set", f"fake_nodes={count}", "--set", f"node_name=rack{first // self._most}",
            ]
            environment = {**os.environ, "PILEUS_TOKEN": made.stdout.strip()}
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                raise RuntimeError(done.stderr)
        return time.perf_counter() - began

    def destroy(self) -> None:
        """Remove all of it."""
        for folder in self.agents:
            subprocess.run([*_PILEUS, "destroy", "--state-dir", str(folder)], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)
        super().destroy()


@contextlib.asynccontextmanager
async def cluster(nodes: int) -> AsyncIterator[Cluster]:
    """A started cloud of so many nodes with admin logged in."""
    state = Path(tempfile.mkdtemp(prefix="pileus-bench-", dir="/var/tmp"))
    one = Cluster(state, free_port(), nodes)
    try:
        one.up()
        one.joined = one.join()
        await one.login()
        yield one
    finally:
        one.destroy()


@contextlib.contextmanager
def bare() -> Iterator[Http]:
    """An ASGI "hello" on the same server software, in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", str(port)])
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.05)
        yield Http(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


def pss(pid: int) -> float:
    """Proportional memory of a process and all below it, in MB (10^6 bytes)."""
    return _memory(pid, "Pss:")


def rss(pid: int) -> float:
    """The same, with what is shared counted whole for each process: what PSS is at most."""
    return _memory(pid, "Rss:")


def _memory(pid: int, field: str) -> float:
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1])
    return total * 1024 / 1e6


def cpu(pid: int) -> float:
    """CPU seconds, user and system, that a process and all below it have taken."""
    ticks = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found
