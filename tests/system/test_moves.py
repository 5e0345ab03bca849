"""Real guests that move between two nodes, each an agent's process and QEMUs in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cache import GUEST

from pileus.node.contract import (
    ConfigDriveFile,
    GuestGone,
    GuestState,
    ImageRef,
    MoveProgress,
    MoveSource,
    MoveTarget,
    NicSpec,
    NodeFault,
    ServerSpec,
    VolumeSpec,
)
from pileus.node.hypervisor.qemu import process

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("accounts"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs QEMU"),
]

BOOT = 60.0
ADDRESSES = {"a": "fd00:9::1", "b": "10.99.0.2"}  # one of each family

# Runs at every boot, for it forgets that it ran.
SCRIPT = b"""#!/bin/sh
rm -f /var/lib/pileus/instance-id
( n=0; while :; do n=$((n+1)); echo $n >>/root/log; sync; read -r up _ </proc/uptime
  echo "tick $n lines=$(wc -l </root/log) up=$up nets=$(ls /sys/class/net | wc -l) disks=$(ls /sys/block | grep -c vd)"
  sleep 0.3; done ) >/dev/console 2>&1 &
"""


class Node:
    """A node's process. `await node.call("build", spec)` is the driver's method of that name."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.state = world.directory / name
        self.disks = ""
        self.events: list[tuple[str, str]] = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        inside = ["ip", "netns", "exec", self.world.namespace(self.name)]
        what = [sys.executable, "-m", "tests.system.move_node", str(self.state), ADDRESSES[self.name], str(GUEST)]
        self._process = await asyncio.create_subprocess_exec(
            *inside, *what, *([self.disks] if self.disks else []), stdin=-1, stdout=-1, limit=1 << 22,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        ready = self._waiting[-1] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())
        await asyncio.wait_for(ready, 30)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, outcome = pickle.loads(bytes.fromhex(line.decode()))
            if number == 0:
                self.events.append(outcome)
            elif isinstance(outcome, Exception):
                self._waiting.pop(number).set_exception(outcome)
            else:
                self._waiting.pop(number).set_result(outcome)
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    def begin(self, method: str, *arguments: object) -> asyncio.Future[Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._numbers += 1
        future = self._waiting[self._numbers] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(pickle.dumps((self._numbers, method, arguments)).hex().encode() + b"\n")
        return future

    async def call(self, method: str, *arguments: object) -> Any:
        return await asyncio.wait_for(self.begin(method, *arguments), 90)

    async def end(self, how: signal.Signals | None = None) -> None:
        """Stop the agent, or kill it; its guests go on."""
        if self._process is None or self._reading is None:
            return
        if how is not None:
            self._process.send_signal(how)
        elif self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 30)
        await self._reading
        self._process = None

    async def restart(self, how: signal.Signals | None = signal.SIGKILL) -> None:
        await self.end(how)
        await self.start()

    def pids(self) -> list[int]:
        """The processes of its guests."""
        return self.world.pids(str(self.state / "instances"))

    def console(self, server_id: str) -> str:
        log = self.state / "instances" / server_id / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    async def tick(self, server_id: str, after: int = 0) -> Tick:
        """The first line that the guest says here after that number."""
        found: list[Tick] = []

        def look() -> bool:
            ticks = [Tick(*match) for match in TICK.findall(self.console(server_id))]
            found[:] = [tick for tick in ticks if tick.number > after][:1]
            return bool(found)

        await until(look, f"no tick after {after} on node {self.name}: {self.console(server_id)[-800:]}")
        return found[0]

    def last(self, server_id: str) -> Tick:
        return Tick(*TICK.findall(self.console(server_id))[-1])


TICK = re.compile(r"tick (\d+) lines=(\d+) up=([0-9.]+) nets=(\d+) disks=(\d+)")


class Tick:
    """What the guest says of itself three times a second."""

    def __init__(self, number: str, lines: str, up: str, nets: str, disks: str) -> None:
        self.number, self.lines, self.up = int(number), int(lines), float(up)
        self.nets, self.disks = int(nets), int(disks)


class World:
    """Two nodes joined by a wire."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tag = uuid.uuid4().hex[:6]
        for name in "ab":
            (directory / name).mkdir(mode=0o755)
            ip("netns", "add", self.namespace(name))
        one, other = self.namespace("a"), self.namespace("b")
        ip("link", "add", "v0", "netns", one, "type", "veth", "peer", "v0", "netns", other)
        for name, number in (("a", 1), ("b", 2)):
            inside = ("-n", self.namespace(name))
            for address in (f"10.99.0.{number}/24", f"fd00:9::{number}/64"):
                ip(*inside, "address", "add", address, "dev", "v0", *(["nodad"] if ":" in address else []))
            ip(*inside, "link", "set", "v0", "up")
        self.a, self.b = Node(self, "a"), Node(self, "b")

    def namespace(self, name: str) -> str:
        return f"pmv-{self.tag}-{name}"

    def wire(self, rate: str) -> None:
        """How much may go from the first node to the second."""
        queue = ("root", "tbf", "rate", rate, "burst", "64k", "latency", "100ms")
        subprocess.run(["tc", "-n", self.namespace("a"), "qdisc", "replace", "dev", "v0", *queue], check=True)

    def listeners(self, name: str) -> str:
        """The TCP sockets that listen on a node."""
        inside = ["ip", "netns", "exec", self.namespace(name)]
        return subprocess.check_output([*inside, "ss", "-Hltn"]).decode()

    def pids(self, part: str) -> list[int]:
        """Every process with this in its command line, but for the nodes' own."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes()
                    if part.encode() in line and b"move_node" not in line:
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        for pid in self.pids(str(self.directory)):
            os.kill(pid, signal.SIGKILL)
        for name in "ab":
            ip("netns", "delete", self.namespace(name))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    made = World(directory)
    try:
        yield made
    finally:
        made.close()


@contextlib.asynccontextmanager
async def running(world: World, disks: str = "") -> AsyncIterator[tuple[Node, Node]]:
    world.a.disks = world.b.disks = disks
    try:
        await world.a.start()
        await world.b.start()
        yield world.a, world.b
    finally:
        await world.a.end()
        await world.b.end()


async def until(check: Callable[[], object], what: str, seconds: float = BOOT) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


def image() -> ImageRef:
    size = GUEST.stat().st_size
    return ImageRef(id="i", disk_format="qcow2", size=size, sha512="0" * 128, virtual_size=virtual_size(GUEST))


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def virtual_size(disk: Path) -> int:
    found = subprocess.check_output(["qemu-img", "info", "-U", "--output=json", str(disk)])
    return int(msgspec.json.decode(found)["virtual-size"])


def nic() -> NicSpec:
    port = str(uuid.uuid4())
    mac = "fa:16:3e:" + ":".join(port[i : i + 2] for i in (0, 2, 4))
    return NicSpec(port_id=port, network_id=str(uuid.uuid4()), mac=mac, mtu=1400)


def server(**changes: object) -> ServerSpec:
    name = str(uuid.uuid4())
    meta = {"uuid": name, "hostname": "probe", "name": "probe", "meta": {}}
    spec = ServerSpec(
        id=name, name="probe", hostname="probe", project_id=str(uuid.uuid4()), vcpus=1, memory_mib=128, root_gib=1,
        image=image(),
        config_drive=(
            ConfigDriveFile(path="openstack/latest/meta_data.json", content=msgspec.json.encode(meta)),
            ConfigDriveFile(path="openstack/latest/user_data", content=SCRIPT),
        ),
    )  # fmt: skip
    return msgspec.structs.replace(spec, **changes)


async def move(here: Node, there: Node, spec: ServerSpec) -> MoveTarget:
    """A whole live move."""
    target: MoveTarget = await there.call("take_in", spec, await here.call("layout", spec.id))
    await here.call("send", spec.id, target)
    state: GuestState = await there.call("taken", spec)
    assert state.power == "running"
    return target


async def goes_on(there: Node, spec: ServerSpec, before: Tick, *, within: float = 5.0) -> Tick:
    """The guest runs on: the same boot, the same disk, hardly a moment lost."""
    now = await there.tick(spec.id, before.number)
    assert now.lines - before.lines == now.number - before.number
    assert 0 < now.up - before.up < within
    return await there.tick(spec.id, now.number)  # it can write too


def test_a_running_guest_moves_with_its_disks(world: World) -> None:
    asyncio.run(_with_disks(world))


async def _with_disks(world: World) -> None:
    async with running(world) as (a, b):
        first, second, third = nic(), nic(), nic()
        spec = server(nics=(first,), ephemeral_gib=1, swap_mib=64)
        await a.call("build", spec)
        await a.tick(spec.id, 2)
        # What was plugged in and out has left its traces.
        for new in (second, third):
            spec = msgspec.structs.replace(spec, nics=(*spec.nics, new))
            await a.call("attach_nic", spec, new)
        await until(lambda: a.last(spec.id).nets == 4, "the NICs did not come")
        await a.call("detach_nic", spec.id, second.port_id)
        spec = msgspec.structs.replace(spec, nics=(third, first))
        await until(lambda: a.last(spec.id).nets == 3, "the NIC did not go")

        begin = time.monotonic()
        target = await move(a, b, spec)
        took = time.monotonic() - begin
        before = a.last(spec.id)
        after = await goes_on(b, spec, before)
        print(f"with disks: {took:.2f} s, from tick {before.number} at {before.up} to {after.number} at {after.up}")
        assert (after.nets, after.disks) == (3, before.disks)
        assert set(target.disks) == {"root", "ephemeral0", "swap", "config"}
        empty = b.state / "instances" / spec.id / "disk.eph0"
        assert empty.stat().st_blocks * 512 < 64 << 20, "what is empty was written out"
        await _is_clean(a, b, spec)
        await a.call("destroy", spec.id)
        assert list((a.state / "instances").iterdir()) == []
        await _is_confined(b, spec)

        # Back again, and there it can do all that it could.
        await move(b, a, spec)
        await goes_on(a, spec, b.last(spec.id))
        await b.call("destroy", spec.id)
        assert (await a.call("suspend", spec.id)).power == "suspended"
        assert (await a.call("resume", spec)).power == "running"
        await goes_on(a, spec, a.last(spec.id))
        await a.call("attach_nic", msgspec.structs.replace(spec, nics=(*spec.nics, second)), second)
        await until(lambda: a.last(spec.id).nets == 4, "the NIC did not come")
        assert (a.events, b.events) == ([], [])


async def _is_clean(a: Node, b: Node, spec: ServerSpec) -> None:
    """Nothing is left of the move: no QEMU here, no secret, no socket."""
    assert (await a.call("guest", spec.id)).power == "shutdown"
    assert a.pids() == []
    assert list(b.world.directory.rglob("keys.psk")) == []
    assert list(b.world.directory.rglob(".move-*")) == []
    assert b.world.listeners("a") == b.world.listeners("b") == ""


async def _is_confined(node: Node, spec: ServerSpec) -> None:
    pid = (await node.call("guest", spec.id)).pid
    status = status_of(pid)
    assert "0" not in status["Uid"].split()
    assert status["Seccomp"] == "2"


def test_a_running_guest_moves_on_shared_storage(world: World) -> None:
    asyncio.run(_on_shared_storage(world))


async def _on_shared_storage(world: World) -> None:
    shared = world.directory / "shared"
    async with running(world, str(shared)) as (a, b):
        spec = server(nics=(nic(),))
        await a.call("build", spec)
        await a.tick(spec.id, 2)
        [folder] = shared.iterdir()
        # Taken in and given up again: the disks are not the destination's to remove.
        await b.call("take_in", spec, await a.call("layout", spec.id))
        await b.call("destroy", spec.id)
        assert (folder / "disk").exists()

        begin = time.monotonic()
        target = await move(a, b, spec)
        print(f"on shared storage: {time.monotonic() - begin:.2f} s")
        assert (target.disks, target.disks_port) == ((), 0)
        await goes_on(b, spec, a.last(spec.id))
        await _is_clean(a, b, spec)
        await a.restart()
        await a.call("destroy", spec.id)
        assert (folder / "disk").exists(), "they are the other node's now"
        await goes_on(b, spec, b.last(spec.id))
        await b.call("pause", spec.id)
        target = await b.world.a.call("take_in", spec, await b.call("layout", spec.id))
        await b.call("send", spec.id, target)
        assert (await a.call("taken", spec)).power == "paused"
        before = b.last(spec.id)
        await b.call("destroy", spec.id)
        assert (await a.call("unpause", spec.id)).power == "running"
        await goes_on(a, spec, before)
        await a.call("destroy", spec.id)
        assert list(shared.iterdir()) == []


def test_a_guest_that_is_off_moves(world: World) -> None:
    asyncio.run(_when_off(world))


async def _when_off(world: World) -> None:
    async with running(world) as (a, b):
        spec = server(ephemeral_gib=1)
        await a.call("build", spec)
        await a.tick(spec.id, 3)
        with pytest.raises(NodeFault, match="is running"):
            await a.call("export_disks", spec.id)
        await a.call("power_off", spec.id, 60)
        last = a.last(spec.id)

        source: MoveSource = await a.call("export_disks", spec.id)
        [pid] = a.pids()
        assert "0" not in status_of(pid)["Uid"].split()
        assert source.secret not in " ".join(process.arguments(pid))
        wrong = msgspec.structs.replace(source, secret="00" * 32)
        with pytest.raises(NodeFault, match="disk root could not be copied"):
            await b.call("fetch_disks", spec, wrong)
        assert list((b.state / "instances").iterdir()) == []

        # Killed in the middle of it on either side, told again.
        await a.restart()
        assert await a.call("export_disks", spec.id) == source
        b.begin("fetch_disks", spec, source)
        await asyncio.sleep(0.1)
        await b.restart()
        larger = msgspec.structs.replace(spec, root_gib=2, memory_mib=160)
        await b.call("fetch_disks", larger, source)
        disk = b.state / "instances" / spec.id / "disk"
        assert virtual_size(disk) == 2 << 30
        assert disk.stat().st_blocks * 512 < 80 << 20, "the image was copied with it"
        await b.call("fetch_disks", larger, source)
        assert (await b.call("build", larger)).power == "running"
        now = await b.tick(spec.id, 1)
        assert now.lines >= last.lines + now.number, "what it had written is not there"
        assert now.disks == last.disks

        # Reverted: it was never touched where it came from.
        await b.call("destroy", spec.id)
        assert (await a.call("power_on", spec)).power == "running"
        assert len(a.pids()) == 1
        await until(lambda: a.last(spec.id).lines > last.lines, "it did not come back")


def test_a_move_that_does_not_come_off_leaves_the_guest_running(world: World) -> None:
    asyncio.run(_not_coming_off(world))


async def _not_coming_off(world: World) -> None:
    async with running(world) as (a, b):
        spec = server(nics=(nic(),))
        await a.call("build", spec)
        await a.tick(spec.id, 2)
        layout = await a.call("layout", spec.id)

        # Aborted on a wire that is too slow to get through soon.
        world.wire("16mbit")
        target = await b.call("take_in", spec, layout)
        assert await b.call("take_in", spec, layout) == target
        sending = a.begin("send", spec.id, target)
        await _progress(a, spec, lambda p: p.disk_done > 0)
        await a.call("abort_move", spec.id)
        with pytest.raises(NodeFault, match="aborted"):
            await asyncio.wait_for(sending, 20)
        await _runs_as_before(a, spec)

        # The destination is killed while the memory goes.
        await b.call("destroy", spec.id)
        target = await b.call("take_in", spec, layout)
        sending = a.begin("send", spec.id, target)
        await _progress(a, spec, lambda p: p.memory_done > 0)
        [pid] = b.pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NodeFault):
            await asyncio.wait_for(sending, 30)
        await _runs_as_before(a, spec)
        with pytest.raises(NodeFault, match="did not arrive"):
            await b.call("taken", spec)
        assert b.events == []

        # Forced: it stands still on the way, and goes on there.
        target = await b.call("take_in", spec, layout)
        world.wire("200mbit")
        sending = a.begin("send", spec.id, target)
        await _progress(a, spec, lambda p: p.memory_total > 0)
        await a.call("force_move", spec.id)
        await asyncio.wait_for(sending, 60)
        assert (await b.call("taken", spec)).power == "running"
        await goes_on(b, spec, a.last(spec.id), within=30)


async def _progress(a: Node, spec: ServerSpec, enough: Callable[[MoveProgress], bool]) -> None:
    for _ in range(2000):
        if enough(await a.call("move_progress", spec.id)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the move does not go on")


async def _runs_as_before(a: Node, spec: ServerSpec) -> None:
    assert (await a.call("guest", spec.id)).power == "running"
    await goes_on(a, spec, a.last(spec.id), within=15)
    assert await a.call("move_progress", spec.id) == MoveProgress()
    assert (await a.call("suspend", spec.id)).power == "suspended", "something of the move is left in QEMU"
    assert (await a.call("resume", spec)).power == "running"


def test_agents_are_killed_on_the_way(world: World) -> None:
    asyncio.run(_killed(world))


async def _killed(world: World) -> None:
    async with running(world) as (a, b):
        spec = server(nics=(nic(),))
        await a.call("build", spec)
        await a.tick(spec.id, 2)
        here, there = a, b
        for moment in range(8):
            here = await _killed_once(here, there, spec, moment)
            there = b if here is a else a
        assert len(a.pids()) + len(b.pids()) == 1


async def _killed_once(here: Node, there: Node, spec: ServerSpec, moment: int) -> Node:
    """A move in which an agent is killed at a moment of its own; who has the guest then."""
    target = await there.call("take_in", spec, await here.call("layout", spec.id))
    sending = here.begin("send", spec.id, target)
    await asyncio.sleep(0.15 + 0.35 * (moment // 2))
    if moment % 2:
        await there.restart()
        with contextlib.suppress(NodeFault):
            await asyncio.wait_for(sending, 60)
    else:
        await here.restart()
    try:
        await here.call("send", spec.id, target)
        gone = True
    except NodeFault as error:
        gone = False
        print(f"moment {moment}: {error}")
    print(f"moment {moment}: {'gone' if gone else 'stayed'}")
    before = here.last(spec.id)
    if gone:
        assert (await there.call("taken", spec)).power == "running"
        await goes_on(there, spec, before, within=15)
        await here.call("destroy", spec.id)
        return there
    await there.call("destroy", spec.id)
    await goes_on(here, spec, before, within=15)
    return here


def test_what_cannot_be_is_refused(world: World) -> None:
    asyncio.run(_refused(world))


async def _refused(world: World) -> None:
    async with running(world) as (a, b):
        spec = server(config_drive=None)
        with pytest.raises(GuestGone):
            await a.call("layout", spec.id)
        await a.call("build", spec)
        layout = await a.call("layout", spec.id)
        for changed, why in (
            (layout.replace('"accel":"tcg"', '"accel":"kvm"'), "runs under kvm"),
            (layout.replace('"cpu_host":"QEMU', '"cpu_host":"XEMU'), "cpu_model"),
            (layout.replace('"root":', '"rooot":'), "disks that are not known"),
            ("{", "not described"),
        ):
            assert changed != layout
            with pytest.raises(NodeFault, match=why):
                await b.call("take_in", spec, changed)
        with pytest.raises(NodeFault, match="on this node already"):
            await a.call("take_in", spec, layout)
        assert list((b.state / "instances").iterdir()) == []
        target = await b.call("take_in", spec, layout)
        with pytest.raises(NodeFault, match="not made ready for all"):
            await a.call("send", spec.id, msgspec.structs.replace(target, disks=()))
        with pytest.raises(NodeFault, match="has not come to this node"):
            await b.call("power_on", spec)
        assert (await a.call("guest", spec.id)).power == "running"

        # Gone, and the other node is lost before it has let it go: its disks are all here, and it can start again.
        target = msgspec.structs.replace(target, word_port=target.memory_port)
        await a.call("send", spec.id, target)
        assert (await b.call("guest", spec.id)).power == "shutdown"
        await b.call("destroy", spec.id)
        assert (await a.call("power_on", spec)).power == "running"
        assert (await a.call("guest", spec.id)).power == "running"


def test_volumes_come_along(world: World) -> None:
    asyncio.run(_volumes(world))


async def _volumes(world: World) -> None:
    async with running(world) as (a, b):
        spec = server(image_properties={"hw_disk_bus": "scsi"}, config_drive=None)
        disks = [_volume(world) for _ in range(3)]
        spec = msgspec.structs.replace(spec, volumes=tuple(disks[:1]))
        await a.call("build", spec)
        for disk in disks[1:]:
            spec = msgspec.structs.replace(spec, volumes=(*spec.volumes, disk))
            await a.call("attach_volume", spec, disk)
        await until(lambda: "login:" in a.console(spec.id), "no login")
        await a.call("detach_volume", spec.id, disks[1].volume_id)
        spec = msgspec.structs.replace(spec, volumes=(disks[2], disks[0]))
        await move(a, b, spec)
        assert (await b.call("guest", spec.id)).power == "running"
        assert (await b.call("power_off", spec.id, 45)).power == "shutdown"


def _volume(world: World) -> VolumeSpec:
    path = world.directory / f"v{uuid.uuid4().hex[:6]}"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    shutil.chown(path, "pileus-qemu", "pileus-qemu")
    connection = {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}
    return VolumeSpec(
        attachment_id=str(uuid.uuid4()), volume_id=str(uuid.uuid4()), device="/dev/vdb", connection=connection
    )
