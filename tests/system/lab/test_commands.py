"""`pileus lab` as an operator types it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.lab.api import Api

from pileus.lab import Lab, record

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pileus-lab-", dir="/var/tmp"))
    yield made
    if (made / "lab.json").exists():
        Lab.open(made).stop()
    shutil.rmtree(made, ignore_errors=True)


def lab(action: str, folder: Path, *words: str, status: int = 0) -> str:
    """What the command prints; fails when its exit status is another."""
    done = subprocess.run(
        [sys.executable, "-m", "pileus.cli.main", "lab", action, "--folder", str(folder), *words],
        capture_output=True, text=True, check=False, timeout=300,
    )
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_a_lab_from_up_to_down(folder: Path) -> None:
    asked = ("--layout", "devstack", "--nodes", "1", "--hypervisor", "fake", "--set", "bcrypt_rounds=4")
    said = lab("up", folder, *asked)
    assert "http://10.7.0.11:8080/identity/v3" in said
    assert f"exec --folder {folder} client openstack" in said
    up = lab("up", folder, *asked)
    assert "is up after" in up, "a lab that is up is left as it is"
    assert "is another lab" in lab("up", folder, "--layout", "ha", status=1)

    listed = lab("exec", folder, "controller", "pileus", "node", "list", "--config", "/etc/pileus/pileus.toml")
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "controller", "compute-1", "controller"]
    assert lab("exec", folder, "compute-1", "--", "sh", "-c", "exit 7", status=7) == ""
    assert "this lab has no node 'moon'" in lab("exec", folder, "moon", status=1)
    ping = ("compute-1", "ping", "-c", "1", "-W", "1", "10.7.0.11")
    lab("cut", folder, "controller")
    lab("exec", folder, *ping, status=1)
    assert "10.7.0.11   cut" in lab("status", folder, status=1)
    lab("mend", folder, "controller")
    lab("exec", folder, *ping)
    lab("status", folder)

    with Api(Lab.open(folder)) as api:
        made = api.ask("POST", "network", "/v2.0/networks", {"network": {"name": "kept"}})["network"]["id"]
    for first in record.load(folder).machines.values():
        os.kill(first.pid, signal.SIGKILL)  # as when the whole machine loses its power
    assert "does not run" in lab("status", folder, status=1)
    lab("up", folder, *asked)
    with Api(Lab.open(folder)) as api:
        assert made in {network["id"] for network in api.ask("GET", "network", "/v2.0/networks")["networks"]}
    assert lab("down", folder).strip().endswith("Gone.")
    assert not folder.exists()
    assert "there is no lab" in lab("down", folder, status=1)
