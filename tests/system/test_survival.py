"""kill -9 of the program at random moments of a load of creates and deletes: nothing is lost, nothing is stuck."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.system.running import RunningCloud

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("PILEUS_KILLS", "20"))
ALIVE = 3


class Load:
    """Creates servers and deletes them, in a thread, as quickly as the cloud answers."""

    def __init__(self, cloud: RunningCloud, body: dict[str, object], seed: int) -> None:
        self._cloud, self._body = cloud, body
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            # The program is killed under its hands: what fails then is meant to.
            with contextlib.suppress(httpx.TransportError):
                self._step()
            time.sleep(0.02)

    def _step(self) -> None:
        listed = self._cloud.ask("GET", "/compute/v2.1/servers?name=^load$", ok=False)
        if listed.status_code != 200:
            return
        servers = [server["id"] for server in listed.json()["servers"]]
        if len(servers) < ALIVE:
            reply = self._cloud.ask("POST", "/compute/v2.1/servers", {"server": self._body}, ok=False)
            self.accepted += reply.status_code == 202
        else:
            self._cloud.ask("DELETE", f"/compute/v2.1/servers/{self._random.choice(servers)}", ok=False)


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    cloud = RunningCloud(namespace_prefix="tkill", public_network="")
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.close()


def _process(server: str, cloud: RunningCloud) -> tuple[str, str]:
    """Pid and start time of a guest's process."""
    marker = f"{cloud.state}/instances/{server}"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if "qemu-system" in words.split("\0")[0] and marker in words:
                    stat = (entry / "stat").read_text()
                    return entry.name, stat[stat.rindex(")") + 2 :].split()[19]
    raise AssertionError(f"server {server} has no process")


def test_killed_at_random_moments(cloud: RunningCloud) -> None:
    seed = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))
    print(f"PILEUS_SEED={seed}")
    chance = random.Random(seed)
    image = cloud.image(bytes(1 << 20), "raw")
    flavor, network = cloud.flavor(64), cloud.network()
    body: dict[str, object] = {"imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
    made = cloud.ask("POST", "/compute/v2.1/servers", {"server": {**body, "name": "witness"}}).json()
    witness = made["server"]["id"]
    cloud.wait(witness, "ACTIVE")
    before = _process(witness, cloud)
    accepted = 0
    for number in range(KILLS):
        with Load(cloud, {**body, "name": "load"}, chance.randrange(1 << 30)) as load:
            time.sleep(chance.uniform(0.05, 2.0))
            cloud.kill()
        accepted += load.accepted
        cloud.up()
        judged = cloud.command("doctor", "--wait", "60")
        assert judged.returncode == 0, f"kill {number + 1}: {judged.stdout}{judged.stderr}"
        listed = cloud.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
        assert {server["status"] for server in listed} == {"ACTIVE"}, f"kill {number + 1}: {listed}"
        assert _process(witness, cloud) == before, "a running guest was touched"
    assert accepted > KILLS / 2
    for server in cloud.ask("GET", "/compute/v2.1/servers").json()["servers"]:
        cloud.ask("DELETE", f"/compute/v2.1/servers/{server['id']}")
    judged = cloud.command("doctor", "--wait", "60")
    assert judged.returncode == 0, judged.stdout
