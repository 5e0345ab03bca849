"""kill -9 of the agent of a move's source or destination, each a process of its own: the move is done or undone.

Guests are fake ones; the link, the tasks and the questions are the real ones. PILEUS_SEED repeats an earlier run."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.system.running import RunningCloud, environment

from pileus.cli import running
from pileus.doctor.judge import settled
from pileus.settings import Settings

pytestmark = pytest.mark.system

SEED = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))
ROUNDS = int(os.environ.get("PILEUS_KILLS", "8"))
_MICRO = {"OpenStack-API-Version": "compute 2.80"}
_LIVE = {"os-migrateLive": {"host": None, "block_migration": "auto"}}


class Agents(RunningCloud):
    """A controller and three nodes, each a process."""

    def __init__(self, **more: str) -> None:
        self.cluster = f"127.0.0.1:{free_port()}"
        super().__init__(
            "fake", public_network="", bcrypt_rounds="4", server_user="root", cluster_listen=self.cluster,
            build_timeout="30", **more,
        )
        self.settings["hypervisor"] = "fake"
        self.nodes = Path(tempfile.mkdtemp(prefix="pileus-test-", dir="/var/tmp"))

    @property
    def options(self) -> list[str]:
        return [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]

    def up(self) -> None:
        done = self.command("server", "-d", *self.options)
        assert done.returncode == 0, done.stderr
        if not self.token:
            self.login()

    def join(self, name: str) -> None:
        """Start a node; it joins the first time."""
        python, *module = self.words("token")[:3]
        token = subprocess.run(
            [python, *module, "token", "create", "--state-dir", str(self.state)], capture_output=True, text=True,
            check=True, env=environment(), timeout=60,
        )
        done = subprocess.run(
            [*self.words("agent")[:-1], f"{self.nodes}/{name}", "-d", "--server", self.cluster, "--token-file", "-",
             "--hypervisor", "fake", "--set", f"node_name={name}", "--roles", "compute,network"],
            input=token.stdout, capture_output=True, text=True, check=False,
            env=environment(), timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def kill_node(self, name: str) -> None:
        """kill -9 of a node's agent."""
        pid = int((self.nodes / name / "run" / "pileus.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)

    def destroy(self) -> None:
        """Remove all of it."""
        self.http.close()
        print(self.complaints())
        self.command("destroy")
        for folder in (self.state, self.nodes):
            shutil.rmtree(folder, ignore_errors=True)

    def leave(self, name: str) -> None:
        """Stop a node's agent in order; one that does not run is fine."""
        subprocess.run([*self.words("down")[:-1], f"{self.nodes}/{name}"], capture_output=True, check=False)


NODES = ("one", "two", "three")


@contextlib.contextmanager
def _running(**settings: str) -> Iterator[Agents]:
    cloud = Agents(**settings)
    try:
        cloud.up()
        for name in NODES:
            cloud.join(name)
        yield cloud
    finally:
        for name in NODES:
            cloud.leave(name)
        cloud.destroy()


def _server(cloud: Agents, server: str) -> dict[str, Any]:
    found: dict[str, Any] = cloud.ask("GET", f"/compute/v2.1/servers/{server}", headers=_MICRO).json()["server"]
    return found


def _settled(cloud: Agents, server: str, seconds: float = 60.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while (seen := _server(cloud, server))["OS-EXT-STS:task_state"] is not None:
        assert time.monotonic() < until, f"server {server} is still {seen['OS-EXT-STS:task_state']}"
        time.sleep(0.1)
    return seen


def _boot(cloud: Agents, count: int, metadata: dict[str, str]) -> list[str]:
    image, flavor, network = cloud.image(bytes(1 << 20), "raw"), cloud.flavor(64), cloud.network()
    servers = []
    for number in range(count):
        made = cloud.ask("POST", "/compute/v2.1/servers", {"server": {
            "name": f"s{number}", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}],
            "metadata": metadata,
        }}).json()["server"]["id"]
        cloud.wait(made, "ACTIVE")
        servers.append(made)
    return servers


def test_agents_are_killed_while_servers_move() -> None:
    print(f"PILEUS_SEED={SEED}")
    chance = random.Random(SEED)
    slow = {f"fake:{step}_delay": "0.4" for step in ("layout", "take_in", "send", "export_disks", "build", "taken")}
    with _running() as cloud:
        servers, times = _boot(cloud, 4, slow), []
        settings = running.as_started(Settings(state_dir=str(cloud.state)))
        for _ in range(ROUNDS):
            for server in servers:
                waits = _server(cloud, server)["status"] == "VERIFY_RESIZE"
                action = {"confirmResize": None} if waits else chance.choice((_LIVE, _LIVE, {"migrate": None}))
                cloud.ask("POST", f"/compute/v2.1/servers/{server}/action", action, headers=_MICRO)
            time.sleep(chance.uniform(0.1, 1.6))
            victim = chance.choice(NODES)
            cloud.kill_node(victim)
            began = time.monotonic()
            cloud.join(victim)
            ends = [_settled(cloud, server) for server in servers]
            times.append(time.monotonic() - began)
            assert {end["status"] for end in ends} <= {"ACTIVE", "VERIFY_RESIZE"}, [e.get("fault") for e in ends]
            found = settled(settings, 60.0)
            assert not found, "\n".join(map(str, found))
        print(f"{ROUNDS} agents killed; all settled after {sorted(times)[len(times) // 2]:.2f} s (median), "
              f"{max(times):.2f} s (most)")
        for server in servers:
            cloud.ask("DELETE", f"/compute/v2.1/servers/{server}")
        assert not settled(settings, 60.0)


def test_a_node_is_lost_and_its_servers_come_back_elsewhere(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with _running(ha_evacuate="true", ha_grace="0", fence_command=f"echo $PILEUS_NODE >> {told}") as cloud:
        servers = _boot(cloud, 6, {})
        settings = running.as_started(Settings(state_dir=str(cloud.state)))
        where = {server: _server(cloud, server)["OS-EXT-SRV-ATTR:host"] for server in servers}
        victim = where[servers[0]]
        hit = [server for server, host in where.items() if host == victim]
        cloud.kill_node(victim)
        began = time.monotonic()
        while any(_server(cloud, server)["OS-EXT-SRV-ATTR:host"] == victim for server in hit):
            assert time.monotonic() - began < 60, "nothing was evacuated"
            time.sleep(0.2)
        for server in hit:
            assert _settled(cloud, server)["status"] == "ACTIVE"
        print(f"{len(hit)} servers run elsewhere {time.monotonic() - began:.1f} s after their node was lost")
        assert told.read_text() == f"{victim}\n"
        cloud.join(victim)
        body = {"host": victim, "binary": "nova-compute", "forced_down": False}
        cloud.ask("PUT", "/compute/v2.1/os-services/force-down", body, headers={
            "OpenStack-API-Version": "compute 2.11"
        })
        found = settled(settings, 60.0)
        assert not found, "\n".join(map(str, found))
        assert all(_server(cloud, server)["status"] == "ACTIVE" for server in servers)
