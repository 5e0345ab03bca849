"""Real guests under QEMU: one goes through all of its life, others through what ends badly."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.cache import GUEST

from pileus.node.contract import (
    ConfigDriveFile,
    GuestGone,
    GuestState,
    ImageRef,
    NicSpec,
    NodeFault,
    ServerSpec,
    VolumeSpec,
)
from pileus.node.hypervisor.qemu import Qemu, QemuSettings, accel
from pileus.node.hypervisor.qemu.settings import account

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("accounts"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs QEMU"),
]

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000
BOOT = 60.0

SCRIPT = b"""#!/bin/sh
echo "first-boot" >/root/marker; sync
( n=0; while :; do n=$((n+1))
  echo "tick $n nets=$(ls /sys/class/net | wc -l) disks=$(ls /sys/block | grep -c vd)"; sleep 0.4
done ) >/dev/console 2>&1 &
"""


class Images:
    """Images by their id, as files that are there."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    async def path(self, image: ImageRef) -> Path:
        return self.files[image.id]


class Taps:
    """Taps in a network namespace that only this test and its guests know."""

    def __init__(self) -> None:
        self.ready, self.done = threading.Event(), threading.Event()
        self.namespace = -1
        self.open: set[str] = set()
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()
        self.ready.wait()

    def _hold(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(CLONE_NEWNET) == 0
        self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.ready.set()
        self.done.wait()

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        os.close(self.namespace)

    def _open(self, port_id: str, result: list[int]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.setns(self.namespace, CLONE_NEWNET) == 0
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        name = f"t{port_id[:8]}".encode()
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        result.append(fd)

    async def open_tap(self, nic: NicSpec) -> int:
        result: list[int] = []
        worker = threading.Thread(target=self._open, args=(nic.port_id, result))
        worker.start()
        await asyncio.to_thread(worker.join)
        self.open.add(nic.port_id)
        return result[0]

    async def close_tap(self, port_id: str) -> None:
        self.open.discard(port_id)


class World:
    """A node's directory with a driver that can be dropped and made again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.images = Images({})
        self.taps = Taps()
        self.events: list[tuple[str, str]] = []
        self.driver = self.make()

    def make(self) -> Qemu:
        settings = QemuSettings(state_dir=self.directory / "s", accel="tcg", console_interval=0.2)
        return Qemu(settings, self.images, self.taps)

    async def event(self, server_id: str, power: str) -> None:
        self.events.append((server_id, power))

    async def restart_agent(self) -> None:
        await self.driver.stop()
        self.driver = self.make()
        await self.driver.start(self.event)

    def add_image(self, path: Path) -> ImageRef:
        found = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
        name = str(uuid.uuid4())
        self.images.files[name] = path
        return ImageRef(
            id=name,
            disk_format=found["format"],
            size=path.stat().st_size,
            sha512=hashlib.sha512(name.encode()).hexdigest(),
            virtual_size=found["virtual-size"],
        )

    def pids(self) -> list[int]:
        """Every process of this node."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str(self.directory).encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    made = World(directory)
    try:
        yield made
    finally:
        for pid in made.pids():
            os.kill(pid, signal.SIGKILL)
        made.taps.close()


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    await world.driver.start(world.event)
    try:
        yield world
    finally:
        await world.driver.stop()


async def until(check: Callable[[], object], what: str, seconds: float = BOOT) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.05)


class Console:
    """What a guest has said since one looked last."""

    def __init__(self, world: World, server_id: str) -> None:
        self.path = world.directory / "s" / "instances" / server_id / "console.log"
        self.seen = 0

    def text(self) -> str:
        return self.path.read_bytes()[self.seen :].decode(errors="replace")

    def forget(self) -> None:
        self.seen = self.path.stat().st_size

    async def says(self, pattern: str, seconds: float = BOOT) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.text())
            if match:
                found.append(match)
            return match is not None

        try:
            await until(look, pattern, seconds)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in the console: {self.text()[:6000]}") from None
        return found[0]

    def ticks(self) -> list[int]:
        return [int(number) for number in re.findall(r"tick (\d+) nets", self.text())]


def nic() -> NicSpec:
    port = str(uuid.uuid4())
    mac = "fa:16:3e:" + ":".join(port[i : i + 2] for i in (0, 2, 4))
    return NicSpec(port_id=port, network_id=str(uuid.uuid4()), mac=mac, mtu=1400)


def spec_for(image: ImageRef, **changes: object) -> ServerSpec:
    name = str(uuid.uuid4())
    meta = {"uuid": name, "hostname": "probe", "name": "probe", "meta": {}}
    spec = ServerSpec(
        id=name,
        name="probe",
        hostname="probe",
        project_id=str(uuid.uuid4()),
        vcpus=1,
        memory_mib=128,
        root_gib=1,
        image=image,
        config_drive=(
            ConfigDriveFile(path="openstack/latest/meta_data.json", content=json.dumps(meta).encode()),
            ConfigDriveFile(path="openstack/latest/user_data", content=SCRIPT),
        ),
    )
    return msgspec.structs.replace(spec, **changes)


def volume(world: World) -> VolumeSpec:
    path = world.directory / f"v{uuid.uuid4().hex[:6]}"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    shutil.chown(path, "pileus-qemu", "pileus-qemu")
    connection = {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}
    return VolumeSpec(
        attachment_id=str(uuid.uuid4()), volume_id=str(uuid.uuid4()), device="/dev/vdb", connection=connection
    )


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_guest_goes_through_its_life(world: World) -> None:
    asyncio.run(_life(world))


async def _life(world: World) -> None:
    async with running(world):
        spec = spec_for(world.add_image(GUEST), nics=(nic(),))
        console = Console(world, spec.id)
        state = await world.driver.build(spec)
        assert state.power == "running"
        assert state.pid is not None
        await console.says(r"tick 2 nets=2 disks=2")

        await _is_confined(world, spec, state)
        await _is_adopted(world, spec, state.pid)
        await _pauses(world, spec, console)
        await _plugs(world, spec, console)
        await _suspends(world, spec, console)
        await _is_copied_running(world, spec)
        await _stops_and_starts(world, spec, console)
        await _is_killed(world, spec)

        await world.driver.destroy(spec.id)
        await world.driver.destroy(spec.id)
        assert list((world.directory / "s" / "instances").iterdir()) == []
        assert world.pids() == []
        assert world.taps.open == set()
        with pytest.raises(GuestGone):
            await world.driver.guest(spec.id)


async def _is_confined(world: World, spec: ServerSpec, state: GuestState) -> None:
    assert state.pid is not None
    status = status_of(state.pid)
    assert status["Seccomp"] == "2"
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == 0
    files = world.directory / "s" / "instances" / spec.id
    assert (files / "spec.json").stat().st_mode & 0o777 == 0o600
    assert (await world.driver.build(spec)).pid == state.pid  # told twice


async def _is_adopted(world: World, spec: ServerSpec, pid: int) -> None:
    await world.restart_agent()
    state = await world.driver.guest(spec.id)
    assert (state.power, state.pid) == ("running", pid)
    assert world.events == []
    figures = await world.driver.diagnostics(spec.id)
    assert figures["num_disks"] == 2
    assert (await world.driver.vnc_socket(spec.id)).is_socket()


async def _pauses(world: World, spec: ServerSpec, console: Console) -> None:
    assert (await world.driver.pause(spec.id)).power == "paused"
    await world.restart_agent()
    assert (await world.driver.guest(spec.id)).power == "paused"
    console.forget()
    await asyncio.sleep(1.2)
    assert console.text() == ""
    assert (await world.driver.unpause(spec.id)).power == "running"
    await console.says(r"tick \d+")


async def _plugs(world: World, spec: ServerSpec, console: Console) -> None:
    driver, more, disk = world.driver, nic(), volume(world)
    await driver.attach_nic(spec, more)
    driver._find(spec.id).record.slots.clear()  # as if the agent had ended before it could record it
    await driver.attach_nic(spec, more)
    driver._find(spec.id).record.slots = {f"nic-{n.port_id}": m for m, n in enumerate((*spec.nics, more))}
    await driver.attach_volume(spec, disk)
    await driver.attach_volume(spec, disk)
    console.forget()
    await console.says(r"nets=3 disks=3")
    await world.restart_agent()
    driver = world.driver
    await driver.detach_nic(spec.id, more.port_id)
    await driver.detach_volume(spec.id, disk.volume_id)
    await driver.detach_volume(spec.id, disk.volume_id)
    console.forget()
    await console.says(r"nets=2 disks=2")
    assert world.taps.open == {spec.nics[0].port_id}
    # A volume that stays, so that it has to be there when the memory is taken up again.
    await driver.attach_volume(spec, volume(world))


async def _suspends(world: World, spec: ServerSpec, console: Console) -> None:
    driver = world.driver
    last = console.ticks()[-1]
    state = await driver.suspend(spec.id)
    assert (state.power, state.pid) == ("suspended", None)
    assert world.pids() == []
    await world.restart_agent()
    assert (await world.driver.guest(spec.id)).power == "suspended"
    console.forget()
    assert (await world.driver.resume(spec)).power == "running"
    await console.says(r"tick \d+ nets=2 disks=3")
    assert console.ticks()[0] > last  # the same life, not a new one
    assert not (world.directory / "s" / "instances" / spec.id / "memory").exists()


def check_standalone(path: Path, size: int) -> None:
    found = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(path)]))
    assert found["format"] == "qcow2"
    assert found["virtual-size"] == size
    assert "backing-filename" not in found
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)


def size_of(disk: Path) -> int:
    found = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", str(disk)]))
    return int(found["virtual-size"])


async def _is_copied_running(world: World, spec: ServerSpec) -> None:
    target = world.directory / "private" / "copy.qcow2"
    target.parent.mkdir(mode=0o700)  # QEMU's account cannot come here
    await world.driver.snapshot(spec.id, target)
    check_standalone(target, 1 << 30)
    assert target.stat().st_uid == 0
    await world.driver.snapshot(spec.id, target)  # nothing is left in QEMU that would be in the way


async def _stops_and_starts(world: World, spec: ServerSpec, console: Console) -> None:
    driver = world.driver
    begin = time.monotonic()
    assert (await driver.power_off(spec.id, 60)).power == "shutdown"
    assert time.monotonic() - begin < 45, "the guest did not answer ACPI"
    assert world.pids() == []
    assert world.taps.open == set()
    target = world.directory / "private" / "rest.qcow2"
    await driver.snapshot(spec.id, target)
    check_standalone(target, 1 << 30)
    console.forget()
    assert (await driver.power_on(spec)).power == "running"
    await console.says("login:")
    console.forget()
    first = (await driver.guest(spec.id)).pid
    assert (await driver.reboot(spec, False, 60)).pid != first
    await console.says("login:")
    assert world.events == []


async def _is_killed(world: World, spec: ServerSpec) -> None:
    pid = (await world.driver.guest(spec.id)).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: world.events == [(spec.id, "crashed")], "no event of the crash", 10)
    state = await world.driver.guest(spec.id)
    assert (state.power, state.pid) == ("crashed", None)


def test_what_happens_while_the_agent_is_away(world: World) -> None:
    asyncio.run(_away(world))


async def _away(world: World) -> None:
    async with running(world):
        image = world.add_image(GUEST)
        script = (ConfigDriveFile(path="openstack/latest/user_data", content=b"#!/bin/sh\npoweroff\n"),)
        leaves = spec_for(image)
        leaves = msgspec.structs.replace(leaves, config_drive=(*(leaves.config_drive or ())[:1], *script))
        killed, untouched, half = spec_for(image), spec_for(image), spec_for(image)
        for spec in (leaves, killed, untouched):
            await world.driver.build(spec)
        states = {state.id: state.pid for state in await world.driver.guests()}
        pid = states[killed.id]
        assert pid is not None
        await world.driver.stop()

        os.kill(pid, signal.SIGKILL)
        files = world.directory / "s" / "instances"
        (files / half.id).mkdir()  # a build that had hardly begun
        (files / untouched.id / "disk.tmp").touch()
        await asyncio.sleep(0.2)
        await until(lambda: _status(files / leaves.id / "qmp.sock") == "shutdown", "the guest did not shut down")

        await world.driver.start(world.event)
        await until(lambda: len(world.events) == 2, "events", 5)
        assert sorted(world.events) == sorted([(leaves.id, "shutdown"), (killed.id, "crashed")])
        assert {state.id: state.power for state in await world.driver.guests()} == {
            leaves.id: "shutdown",
            killed.id: "crashed",
            untouched.id: "running",
        }
        assert (await world.driver.guest(untouched.id)).pid == states[untouched.id]
        assert not (files / half.id).exists()
        for spec in (leaves, killed, untouched, half):
            await world.driver.destroy(spec.id)
        assert world.pids() == []
        assert list(files.iterdir()) == []


def _status(path: Path) -> str:
    """What a guest's QEMU says of itself, asked as an agent would."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        asking.connect(str(path))
        stream = asking.makefile("rw")
        stream.readline()
        for command in ("qmp_capabilities", "query-status"):
            stream.write(json.dumps({"execute": command, "id": command}) + "\n")
            stream.flush()
            while (answer := json.loads(stream.readline())).get("id") != command:
                pass
        return str(answer["return"]["status"])


def test_disks_are_made_anew_grown_and_rescued(world: World) -> None:
    asyncio.run(_disks(world))


async def _disks(world: World) -> None:
    async with running(world):
        image = world.add_image(GUEST)
        spec = spec_for(image, memory_mib=128)
        console = Console(world, spec.id)
        driver = world.driver
        await driver.build(spec)
        await console.says(r"tick 1 ")
        await driver.inject_nmi(spec.id)
        await console.says(r"NMI received")
        copy = world.directory / "copy.qcow2"
        await driver.snapshot(spec.id, copy)
        copy.chmod(0o644)
        with pytest.raises(NodeFault, match="hw_qemu_guest_agent"):
            await driver.set_password(spec.id, "root", "x")
        with pytest.raises(NodeFault, match="stopped"):
            await driver.resize(msgspec.structs.replace(spec, vcpus=2))

        # Rescued with what was copied from it while it ran: the copy boots, and knows its past.
        rescue = msgspec.structs.replace(spec, rescue_image=world.add_image(copy))
        console.forget()
        await driver.rescue(rescue)
        await console.says("login:")
        assert (await driver.diagnostics(spec.id))["num_disks"] == 3
        await driver.unrescue(spec)
        assert not (console.path.parent / "disk.rescue").exists()

        await driver.power_off(spec.id, 0)
        larger = msgspec.structs.replace(spec, root_gib=2, ephemeral_gib=1, swap_mib=16, vcpus=2)
        assert (await driver.resize(larger)).vcpus == 2
        disk = console.path.parent / "disk"
        assert size_of(disk) == 2 << 30
        await driver.power_off(spec.id, 0)
        with pytest.raises(NodeFault, match="shrink"):
            await driver.resize(spec)

        await driver.rebuild(spec)
        assert size_of(disk) == 1 << 30
        console.seen = 0  # the log is a new one too
        await console.says(r"tick 1 ")  # user-data ran again, so it is a first boot
        await driver.destroy(spec.id)


def test_a_guest_boots_from_a_volume(world: World) -> None:
    asyncio.run(_from_volume(world))


async def _from_volume(world: World) -> None:
    async with running(world):
        boot = volume(world)
        path = Path(boot.connection["file"]["filename"])
        shutil.copyfile(GUEST, path)
        boot = msgspec.structs.replace(boot, boot_index=0, connection={**boot.connection, "driver": "qcow2"})
        spec = msgspec.structs.replace(spec_for(world.add_image(GUEST), volumes=(volume(world), boot)), image=None)
        await world.driver.build(spec)
        await Console(world, spec.id).says(r"tick 1 nets=1 disks=3")
        with pytest.raises(NodeFault, match="no root disk on this node"):
            await world.driver.snapshot(spec.id, world.directory / "copy")
        with pytest.raises(NodeFault, match="another agent"):
            await world.make().start(world.event)
        await world.driver.destroy(spec.id)


def test_a_build_that_fails_leaves_nothing(world: World) -> None:
    asyncio.run(_fails(world))


async def _fails(world: World) -> None:
    async with running(world):
        image = world.add_image(GUEST)
        too_small = msgspec.structs.replace(image, virtual_size=5 << 30)
        absent = {"driver": "raw", "file": {"driver": "file", "filename": "/nowhere"}}
        lost = VolumeSpec(attachment_id="a", volume_id="v", device="vdb", connection=absent)
        for spec, why in (
            (spec_for(too_small), "larger flavor"),
            (spec_for(image, image_properties={"hw_vif_model": "x", "hw_disk_bus": "x"}), "hw_disk_bus"),
            (spec_for(image, volumes=(lost,), nics=(nic(),)), "volume v could not be opened"),
            (spec_for(image, memory_mib=1 << 30), "QEMU did not start"),
        ):
            with pytest.raises(NodeFault, match=why):
                await world.driver.build(spec)
            assert world.pids() == []
            assert list((world.directory / "s" / "instances").iterdir()) == []
            assert world.taps.open == set()
        with pytest.raises(GuestGone):
            await world.driver.pause("unknown")
        await world.driver.destroy("unknown")


def test_the_probe_runs_where_guests_run(world: World) -> None:
    settings = QemuSettings(state_dir=world.directory)
    assert accel.probe(settings, account("pileus-qemu"), "tcg") == ""
    why = accel.probe(settings, account("pileus-qemu"), "kvm")
    assert accel.choose(settings, account("pileus-qemu")) == ("tcg" if why else "kvm")
    if why:
        insists = msgspec.structs.replace(settings, accel="kvm")
        with pytest.raises(NodeFault, match="do not run under KVM"):
            accel.choose(insists, account("pileus-qemu"))


def test_an_agent_killed_at_any_moment_loses_nothing(world: World) -> None:
    image = world.add_image(GUEST)
    files = world.directory / "s" / "instances"
    for moment in range(8):
        specs = [spec_for(image, nics=(nic(),)) for _ in range(2)]
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_builds_and_destroys(world, specs))
            finally:
                os._exit(0)  # whatever happened, this is no second run of the tests
        time.sleep(0.05 + 0.12 * moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        asyncio.run(_agrees(world))
    assert list(files.iterdir()) == []


async def _builds_and_destroys(world: World, specs: list[ServerSpec]) -> None:
    await world.driver.start(world.event)
    await asyncio.gather(*(world.driver.build(spec) for spec in specs))
    await world.driver.suspend(specs[0].id)
    await world.driver.resume(specs[0])
    await world.driver.destroy(specs[1].id)
    await world.driver.destroy(specs[0].id)


async def _agrees(world: World) -> None:
    """Processes and guests are the same, and whatever is there can go on or go."""
    await world.restart_agent()
    guests = await world.driver.guests()
    assert {guest.pid for guest in guests if guest.pid} == set(world.pids())
    assert {guest.power for guest in guests} <= {"running", "shutdown", "suspended"}
    for state in guests:
        spec = world.driver._find(state.id).spec
        go_on = world.driver.resume if state.power == "suspended" else world.driver.power_on
        assert (await go_on(spec)).power == "running"
        await world.driver.destroy(state.id)
    assert world.pids() == []
    await world.driver.stop()
