"""A cloud of real guests for a test: started as a user starts it, asked over HTTP, destroyed at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from tests.ports import free_port

PASSWORD = "only for tests"
_PILEUS = [sys.executable, "-m", "pileus.cli.main"]


class RunningCloud:
    """One state folder, and the process that serves it when it is up."""

    def __init__(self, hypervisor: str = "qemu", **settings: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="pileus-test-", dir="/var/tmp"))
        self.state.chmod(0o755)
        self.hypervisor = hypervisor
        self.port = free_port()
        self.settings = {"listen": f"127.0.0.1:{self.port}", "log_level": "info", **settings}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)
        self.token = ""
        self.project_id = ""

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `pileus …` on this state folder."""
        return subprocess.run(
            self.words(*words), capture_output=True, text=True, check=False, env=environment(), timeout=300
        )

    def words(self, command: str, *words: str) -> list[str]:
        """The command line of `pileus …` on this state folder."""
        return [*_PILEUS, command, "--state-dir", str(self.state), *words]

    @property
    def options(self) -> list[str]:
        """How `pileus up` is told the settings."""
        sets = [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]
        return ["--hypervisor", self.hypervisor, *sets]

    def up(self) -> None:
        """Start in the background, and log in the first time: tokens outlive the process."""
        done = self.command("up", "-d", *self.options)
        assert done.returncode == 0, done.stderr
        if not self.token:
            self.login()

    def login(self) -> None:
        """A token for admin in project admin."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        body = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }
        reply = self.http.post("/identity/v3/auth/tokens", json={"auth": body})
        assert reply.status_code == 201, reply.text
        self.token = reply.headers["x-subject-token"]
        self.project_id = reply.json()["token"]["project"]["id"]

    def ask(self, method: str, path: str, body: Any = None, *, ok: bool = True, **options: Any) -> httpx.Response:
        """One request as admin; with `ok`, anything but success fails the test."""
        headers = {"X-Auth-Token": self.token, **options.pop("headers", {})}
        reply = self.http.request(method, path, json=body, headers=headers, **options)
        if ok:
            assert reply.status_code < 400, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply

    @property
    def pid(self) -> int:
        """The process that serves."""
        return int((self.state / "run" / "pileus.pid").read_text())

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}/stat").exists() and _state(pid) not in ("Z", ""):
            assert time.monotonic() < until, f"process {pid} outlives kill -9"
            time.sleep(0.01)

    def false_start(self, seconds: float) -> None:
        """Begin to start, and kill -9 after so long."""
        null = subprocess.DEVNULL
        process = subprocess.Popen(self.words("up", *self.options), stdout=null, stderr=null, env=environment())
        time.sleep(seconds)
        process.kill()
        process.wait()

    def image(self, data: bytes, disk_format: str, name: str = "test") -> str:
        """Upload; the image's id."""
        new = {"name": name, "disk_format": disk_format, "container_format": "bare"}
        image: str = self.ask("POST", "/image/v2/images", new).json()["id"]
        self.ask("PUT", f"/image/v2/images/{image}/file", content=data,
                 headers={"Content-Type": "application/octet-stream"})
        return image

    def flavor(self, ram: int, disk: int = 0) -> str:
        """A flavor with one CPU; its id."""
        new = {"flavor": {"name": f"test-{ram}-{disk}", "ram": ram, "vcpus": 1, "disk": disk}}
        flavor: str = self.ask("POST", "/compute/v2.1/flavors", new).json()["flavor"]["id"]
        return flavor

    def network(self, cidr: str = "10.0.0.0/24") -> str:
        """A network with a subnet; its id."""
        made = self.ask("POST", "/network/v2.0/networks", {"network": {"name": "test"}})
        network: str = made.json()["network"]["id"]
        self.ask("POST", "/network/v2.0/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr}})
        return network

    def wait(self, server: str, status: str, seconds: float = 60.0) -> dict[str, Any]:
        """The server, once it has the status."""
        until = time.monotonic() + seconds
        while True:
            seen: dict[str, Any] = self.ask("GET", f"/compute/v2.1/servers/{server}").json()["server"]
            if seen["status"] == status and seen["OS-EXT-STS:task_state"] is None:
                return seen
            assert seen["status"] != "ERROR", seen.get("fault")
            assert time.monotonic() < until, f"server {server} is {seen['status']}, not {status}"
            time.sleep(0.1)

    def complaints(self) -> str:
        """The log without what is as it should be; pytest shows it when a test has failed."""
        log = self.state / "pileus.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(line for line in lines if " INFO " not in line or " status=5" in line)[-20_000:]

    def close(self) -> None:
        """Destroy it; fails the test when something is left."""
        self.http.close()
        print(self.complaints())
        done = self.command("destroy")
        left = [path.name for path in self.state.iterdir()] if self.state.exists() else []
        shutil.rmtree(self.state, ignore_errors=True)
        assert done.returncode == 0, done.stderr
        assert not left, f"destroy has left {left}"


def environment() -> dict[str, str]:
    """Of the program as it is when installed: compiled once, not at every start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PILEUS_ADMIN_PASSWORD": PASSWORD}


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat[stat.rindex(")") + 2 :].split()[0]
