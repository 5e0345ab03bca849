"""The lab's machines and wires, and that nothing stays of a lab, however it ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.lab import Lab, LabError
from pileus.lab.layouts import Spec
from pileus.lab.machine import Machine
from pileus.lab.wire import GATEWAY, Wire
from pileus.node.hypervisor.qemu.process import ProcessId, alive

pytestmark = pytest.mark.system

ONE = Spec(name="one", number=11, parts=(), roles=("network",))
TWO = Spec(name="two", number=12, parts=())


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pileus-lab-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def machines(folder: Path) -> Iterator[dict[str, Machine]]:
    """Two nodes on a wire, and a client."""
    made = {name: Machine(name, folder / name) for name in ("wire", "client", "one", "two")}
    try:
        for machine in made.values():
            machine.power_on(lambda first: None)
        wire = Wire(made["wire"])
        wire.make()
        wire.join(made["one"], ONE)
        wire.join(made["two"], TWO)
        wire.join_client(made["client"])
        yield made
    finally:
        for machine in made.values():
            machine.power_off()


def reaches(machine: Machine, address: str) -> bool:
    """Whether one of two pings comes back."""
    return machine.run("ping", "-c", "2", "-i", "0.2", "-W", "1", address, check=False).returncode == 0


def test_machines_are_hosts_of_their_own(machines: dict[str, Machine]) -> None:
    one, two = machines["one"], machines["two"]
    assert one.run("hostname").stdout.strip() == "one"
    # A name that nobody has used: what an earlier run left on the host would be taken for this machine's.
    files = [f"{place}/{uuid.uuid4()}" for place in ("/run", "/etc", "/var/lib")]
    one.run("ip", "netns", "add", "tenant")
    for inside in files:
        one.run("sh", "-c", f"echo mine >{inside}")
        assert one.path(inside).read_text() == "mine\n"
        assert not two.path(inside).exists()
        assert not Path(inside).exists()
    assert one.run("ip", "netns", "list").stdout.split()[0] == "tenant"
    assert "tenant" not in two.run("ip", "netns", "list").stdout
    assert "tenant" not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert len(two.run("ps", "-e", "-o", "pid=").stdout.split()) <= 3, "it sees others' processes"
    assert "root" not in Path(two.path("/etc/shadow")).read_text(), "the host's passwords were copied"
    with one.inside():
        assert {name for _, name in socket.if_nameindex()} == {"lo", "eth0", "eth1", "br-ex"}


def test_a_cut_machine_is_not_told_and_can_be_mended(machines: dict[str, Machine]) -> None:
    wire = Wire(machines["wire"])
    assert reaches(machines["two"], ONE.address)
    assert reaches(machines["client"], GATEWAY)
    wire.cut(ONE)
    assert not reaches(machines["two"], ONE.address)
    assert "LOWER_UP" in machines["one"].run("ip", "link", "show", "eth0").stdout
    assert reaches(machines["client"], TWO.address)
    wire.mend(ONE, ("outside",))
    assert not reaches(machines["two"], ONE.address)
    wire.mend(ONE)
    assert reaches(machines["two"], ONE.address)


def test_with_its_plug_all_in_a_machine_ends_and_its_files_stay(machines: dict[str, Machine]) -> None:
    one = machines["one"]
    one.path("/var/lib/kept").write_text("kept")
    sleeper = one.spawn("sh", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000", log="/var/log/sleeper.log")
    assert alive(sleeper)
    one.power_off()
    until = time.monotonic() + 5
    while alive(sleeper):
        assert time.monotonic() < until, "it outlives its machine"
        time.sleep(0.01)
    with pytest.raises(LabError, match="machine one is off"):
        one.run("true")
    one.power_on(lambda first: None)
    Wire(machines["wire"]).join(one, ONE)
    assert one.path("/var/lib/kept").read_text() == "kept"
    assert reaches(machines["two"], ONE.address)


def test_a_machine_that_nobody_wrote_down_ends_by_itself(folder: Path) -> None:
    seen: list[ProcessId] = []

    def killed(first: ProcessId) -> None:
        seen.append(first)
        raise KeyboardInterrupt

    lost = Machine("lost", folder / "lost")
    with pytest.raises(KeyboardInterrupt):
        lost.power_on(killed)
    until = time.monotonic() + 5
    while alive(seen[0]):
        assert time.monotonic() < until, "it goes on without anybody who knows of it"
        time.sleep(0.01)
    lost.power_off()


@pytest.mark.parametrize("after", [0.3, 0.8, 2.0, 4.0, 7.0])
def test_killed_while_it_is_built_it_can_be_taken_down(folder: Path, after: float) -> None:
    words = [sys.executable, "-m", "pileus.cli.main", "lab"]
    null = subprocess.DEVNULL
    up = subprocess.Popen(
        [*words, "up", "--folder", str(folder), "--layout", "gridka", "--hypervisor", "fake"], stdout=null, stderr=null
    )
    time.sleep(after)
    up.kill()
    up.wait()
    spaces = _process_spaces(folder)
    if (folder / "lab.json").exists():
        done = subprocess.run([*words, "down", "--folder", str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not folder.exists()
        with pytest.raises(LabError, match="there is no lab"):
            Lab.open(folder)
    until = time.monotonic() + 5
    while left := _processes_in(spaces) | _process_spaces(folder):
        assert time.monotonic() < until, f"left: {left}"
        time.sleep(0.05)


def _process_spaces(folder: Path) -> set[str]:
    """The process namespaces of the machines of a folder that run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[0] == "sh" and any(word.startswith(str(folder)) for word in words):
                    found.add(os.readlink(entry / "ns/pid"))
            except OSError:
                continue
    return found


def _processes_in(spaces: set[str]) -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns/pid") in spaces:
                    found.add(entry.name)
            except OSError:
                continue
    return found
