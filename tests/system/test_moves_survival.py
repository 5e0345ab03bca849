"""kill -9 of the program while servers move between nodes: each move is done or undone, and `pileus doctor` agrees.

The nodes are fake ones, played by the process that is killed, so that sources, destinations and the controller all die
at the same moment, at any step. PILEUS_KILLS sets how often, PILEUS_SEED repeats what an earlier run did."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.system.running import RunningCloud

from pileus.cli import running
from pileus.doctor.judge import settled
from pileus.settings import Settings

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("PILEUS_KILLS", "12"))
SEED = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))
SERVERS = 8
_MICRO = {"OpenStack-API-Version": "compute 2.80"}


@pytest.fixture
def cloud() -> Iterator[RunningCloud]:
    cloud = RunningCloud("fake", fake_nodes="3", public_network="", bcrypt_rounds="4", build_timeout="20")
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.close()


def _servers(cloud: RunningCloud) -> list[dict[str, object]]:
    found: list[dict[str, object]] = cloud.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
    return found


def _boot(cloud: RunningCloud, chance: random.Random) -> None:
    image, flavor, network = cloud.image(bytes(1 << 20), "raw"), cloud.flavor(64), cloud.network()
    for number in range(SERVERS):
        steps = ("layout", "take_in", "send", "taken", "export_disks", "fetch_disks", "build", "destroy", "power_off")
        slow = {f"fake:{step}_delay": f"{chance.uniform(0.0, 0.3):.2f}" for step in steps}
        made = cloud.ask("POST", "/compute/v2.1/servers", {"server": {
            "name": f"s{number}", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}],
            "metadata": slow,
        }}).json()["server"]["id"]
        cloud.wait(made, "ACTIVE")


_LIVE = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
_ACTIONS: dict[object, tuple[dict[str, Any], ...]] = {
    "ACTIVE": (_LIVE, _LIVE, {"migrate": None}, {"os-stop": None}),
    "SHUTOFF": ({"migrate": None}, {"os-start": None}),
    "VERIFY_RESIZE": ({"confirmResize": None}, {"revertResize": None}),
}


def _set_moving(cloud: RunningCloud, chance: random.Random) -> int:
    """Ask for a move, or the end of one, of every server; how many said yes."""
    servers = _servers(cloud)
    for server in servers:
        action = chance.choice(_ACTIONS[server["status"]])
        cloud.ask("POST", f"/compute/v2.1/servers/{server['id']}/action", action, headers=_MICRO)
    return len(servers)


def test_killed_while_servers_move(cloud: RunningCloud) -> None:
    print(f"PILEUS_SEED={SEED}")
    chance = random.Random(SEED)
    _boot(cloud, chance)
    settings = running.as_started(Settings(state_dir=str(cloud.state)))
    moves, times = 0, []
    for number in range(KILLS):
        moves += _set_moving(cloud, chance)
        time.sleep(chance.uniform(0.0, 1.2))
        cloud.kill()
        began = time.monotonic()
        cloud.up()
        found = settled(settings, 60.0)
        times.append(time.monotonic() - began)
        assert not found, f"kill {number}: " + "\n".join(map(str, found))
        seen = {str(server["id"]): server["status"] for server in _servers(cloud)}
        assert len(seen) == SERVERS
        assert set(seen.values()) <= {"ACTIVE", "SHUTOFF", "VERIFY_RESIZE"}, seen
    print(f"\n{KILLS} kills under {moves} moves; all settled after {sorted(times)[len(times) // 2]:.2f} s (median), "
          f"{max(times):.2f} s (most)")
    for server in _servers(cloud):
        cloud.ask("DELETE", f"/compute/v2.1/servers/{server['id']}")
    assert not settled(settings, 60.0)
    used = cloud.ask("GET", "/compute/v2.1/os-hypervisors/statistics").json()["hypervisor_statistics"]
    assert (used["vcpus_used"], used["running_vms"]) == (0, 0)
