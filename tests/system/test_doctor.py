"""The doctor at a real cloud: what is broken on purpose on the host and in the database is found; restarts heal."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.running import RunningCloud

pytestmark = pytest.mark.system

PREFIX = "tdoc"


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    cloud = RunningCloud(namespace_prefix=PREFIX, public_network="", bcrypt_rounds="4")
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def server(cloud: RunningCloud) -> str:
    image, flavor, network = cloud.image(bytes(1 << 20), "raw"), cloud.flavor(64), cloud.network()
    body = {"name": "one", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}
    made: str = cloud.ask("POST", "/compute/v2.1/servers", {"server": body}).json()["server"]["id"]
    cloud.wait(made, "ACTIVE")
    return made


def findings(cloud: RunningCloud) -> str:
    """What the doctor says at once; empty when all is well."""
    judged = cloud.command("doctor")
    assert judged.returncode in (0, 1), judged.stderr
    return judged.stdout if judged.returncode else ""


def write(cloud: RunningCloud, statement: str, *values: Any) -> None:
    """Change the database behind the cloud's back."""
    with sqlite3.connect(cloud.state / "pileus.db") as database:
        database.execute(statement, values)
    database.close()


def pids(words: str) -> list[int]:
    """The processes whose command line has these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line:
                found.append(int(entry.name))
    return found


def test_a_healthy_cloud_agrees_up_and_down(cloud: RunningCloud, server: str) -> None:
    assert findings(cloud) == ""
    cloud.kill()
    began = os.times()
    assert findings(cloud) == ""
    ended = os.times()
    used = ended.children_user + ended.children_system - began.children_user - began.children_system
    assert used < 1.5, f"judging a small cloud took {used:.1f} s of processor time"
    cloud.up()
    cloud.command("down")
    before = {path: path.stat().st_mtime for path in cloud.state.rglob("*")}
    assert findings(cloud) == ""
    assert {path: path.stat().st_mtime for path in cloud.state.rglob("*")} == before
    cloud.up()


def test_rows_that_are_changed_are_found(cloud: RunningCloud, server: str) -> None:
    write(cloud, "UPDATE placement_inventory SET used = used + 1 WHERE resource_class = 'VCPU'")
    assert "its allocations sum to" in findings(cloud)
    write(cloud, "UPDATE placement_inventory SET used = used - 1 WHERE resource_class = 'VCPU'")
    write(cloud, "UPDATE network_port SET device_id = 'nobody' WHERE device_id = ?", server)
    assert "belongs to server nobody, which is not there" in findings(cloud)
    write(cloud, "UPDATE network_port SET device_id = ? WHERE device_id = 'nobody'", server)
    assert findings(cloud) == ""


def test_a_file_of_no_image_is_found_and_goes_at_the_next_start(cloud: RunningCloud) -> None:
    (cloud.state / "images" / "stray").write_bytes(b"x")
    assert "images: file stray: belongs to no image" in findings(cloud)
    cloud.kill()
    cloud.up()
    assert findings(cloud) == ""


def test_a_dhcp_server_that_is_killed_is_found_and_comes_back(cloud: RunningCloud, server: str) -> None:
    [pid] = pids(f"--conf-file=/run/pileus-net/{PREFIX}/")
    cloud.kill()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert "has 0 DHCP servers, not 1" in findings(cloud)
    cloud.up()
    assert cloud.command("doctor", "--wait", "20").returncode == 0


def test_a_guest_that_dies_while_no_agent_runs(cloud: RunningCloud, server: str) -> None:
    cloud.kill()
    [pid] = pids(f"{cloud.state}/instances/{server}/run/vnc.sock")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    said = findings(cloud)
    assert "is active, and its guest does not run" in said
    assert "there is no tap" not in said  # its tap went with it
    cloud.up()
    assert cloud.command("doctor", "--wait", "20").returncode == 0
    assert cloud.wait(server, "SHUTOFF")["OS-EXT-STS:power_state"] == 6
    path = f"/compute/v2.1/servers/{server}/os-instance-actions"
    version = {"OpenStack-API-Version": "compute 2.84"}
    newest = cloud.ask("GET", path, headers=version).json()["instanceActions"][0]
    assert (newest["action"], newest["message"]) == ("stop", "Error")
    [event] = cloud.ask("GET", f"{path}/{newest['request_id']}", headers=version).json()["instanceAction"]["events"]
    assert "the guest crashed" in event["details"]
    cloud.ask("POST", f"/compute/v2.1/servers/{server}/action", {"os-start": None})
    cloud.wait(server, "ACTIVE")


def test_a_namespace_that_is_deleted(cloud: RunningCloud, server: str) -> None:
    cloud.kill()
    network = cloud_network(server, cloud)
    subprocess.run(["ip", "netns", "del", f"{PREFIX}-n-{network[:11]}"], check=True)
    said = findings(cloud)
    assert f"network {network}: should be on the host, and is not" in said
    assert "runs, and there is no tap" in said
    assert "has 0 DHCP servers" in said
    cloud.up()
    # The namespace is back; the guest's tap is in the lost one until the guest is started anew, and that is said.
    assert "there is no tap" in findings(cloud)
    cloud.ask("POST", f"/compute/v2.1/servers/{server}/action", {"reboot": {"type": "HARD"}})
    assert cloud.command("doctor", "--wait", "30").returncode == 0


def cloud_network(server: str, cloud: RunningCloud) -> str:
    """The network of the server's port, from the database."""
    database = sqlite3.connect(cloud.state / "pileus.db")
    found: str = database.execute("SELECT network_id FROM network_port WHERE device_id = ?", (server,)).fetchone()[0]
    database.close()
    return found
