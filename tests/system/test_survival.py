"""kill -9 of the program at random moments of a load: nothing is lost, nothing is stuck, no guest is touched.

`pileus doctor` is the judge. PILEUS_KILLS sets how often, PILEUS_SEED repeats what an earlier run did."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.loads import ActionLoad, Load
from tests.system.running import RunningCloud

from pileus.cli import running
from pileus.doctor.judge import settled
from pileus.settings import Settings

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("PILEUS_KILLS", "20"))
SEED = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))
_PATIENCE = 60.0
_ENDS = {"ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "RESCUE", "SHELVED_OFFLOADED"}


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    cloud = RunningCloud(namespace_prefix="tkill", public_network="", bcrypt_rounds="4", shutdown_timeout="0.5")
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


class Ordeal:
    """A cloud with one server that nobody touches, and how long its recoveries took."""

    def __init__(self, cloud: RunningCloud, seed: int) -> None:
        self.cloud = cloud
        self.chance = random.Random(seed)
        self.settings = running.as_started(Settings(state_dir=str(cloud.state)))
        image, flavor, network = cloud.image(bytes(1 << 20), "raw"), cloud.flavor(64), cloud.network()
        self.body = {"imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
        made = cloud.ask("POST", "/compute/v2.1/servers", {"server": {**self.body, "name": "witness"}}).json()
        self.witness = made["server"]["id"]
        cloud.wait(self.witness, "ACTIVE")
        self.process = _process(self.witness, cloud)
        self.accepted: dict[str, int] = {}
        self.ready: list[float] = []
        self.settled: list[float] = []

    def kill_under(self, kind: type[Load]) -> None:
        """Load, kill at some moment of it, start again (sometimes killed too), and have it judged."""
        with kind(self.cloud, self.body, self.chance.randrange(1 << 30)) as load:
            time.sleep(self.chance.uniform(0.05, 2.0))
            self.cloud.kill()
        for what, count in load.accepted.items():
            self.accepted[what] = self.accepted.get(what, 0) + count
        if self.chance.random() < 0.2:
            self.cloud.false_start(self.chance.uniform(0.5, 2.0))
        began = time.monotonic()
        self.cloud.up()
        self.ready.append(time.monotonic() - began)
        found = settled(self.settings, _PATIENCE)
        self.settled.append(time.monotonic() - began)
        assert not found, f"kill {len(self.ready)}: " + "\n".join(map(str, found))
        assert _process(self.witness, self.cloud) == self.process, "a running guest was touched"

    def statuses(self) -> dict[str, str]:
        """The status of each server, by id; those in error with why."""
        listed = self.cloud.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
        return {s["id"]: s["status"] + (": " + s["fault"]["message"] if "fault" in s else "") for s in listed}

    def report(self) -> None:
        """Print what SPECIFICATION.md promises."""
        print(f"\n{len(self.ready)} kills under {self.accepted}")
        for name, times in (("all APIs answer", self.ready), ("all is settled", self.settled)):
            print(f"recovery, kill to {name}: median {statistics.median(times):.2f} s, most {max(times):.2f} s")

    def clear(self) -> None:
        """Delete all servers, and have the empty cloud judged."""
        for server in self.statuses():
            self.cloud.ask("DELETE", f"/compute/v2.1/servers/{server}")
        judged = self.cloud.command("doctor", "--wait", "60")
        assert judged.returncode == 0, judged.stdout
        assert self.statuses() == {}


def test_killed_while_servers_come_and_go(cloud: RunningCloud) -> None:
    print(f"PILEUS_SEED={SEED}")
    ordeal = Ordeal(cloud, SEED)
    for _ in range(KILLS):
        ordeal.kill_under(Load)
        assert set(ordeal.statuses().values()) == {"ACTIVE"}
    ordeal.report()
    assert ordeal.accepted["create"] > KILLS / 2
    assert ordeal.accepted["delete"] > 0
    ordeal.clear()


def test_killed_while_things_are_done_to_servers(cloud: RunningCloud) -> None:
    print(f"PILEUS_SEED={SEED}")
    ordeal = Ordeal(cloud, SEED)
    for _ in range((KILLS + 1) // 2):
        ordeal.kill_under(ActionLoad)
        assert set(ordeal.statuses().values()) <= _ENDS, ordeal.statuses()
    ordeal.report()
    ordeal.clear()


@pytest.mark.parametrize("number", range(max(2, KILLS // 5)))
def test_killed_during_the_first_start(number: int) -> None:
    cloud = RunningCloud("fake", public_network="", bcrypt_rounds="4")
    chance = random.Random(SEED + number)
    try:
        for _ in range(2):
            cloud.false_start(chance.uniform(0.3, 1.5))
        cloud.up()
        judged = cloud.command("doctor")
        assert judged.returncode == 0, judged.stdout
        assert len(cloud.ask("GET", "/identity/v3/services").json()["services"]) >= 5
    finally:
        cloud.close()
