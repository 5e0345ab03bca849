"""Volumes of real guests: given out by real daemons, which are killed, snapshotted, extended and swapped under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.system.test_qemu import GUEST, Console, Images, Taps, spec_for, until

from pileus.node.contract import ConfigDriveFile, ImageRef, NodeFault, ServerSpec, VolumeExport, VolumeSpec, VolumeTask
from pileus.node.hypervisor.qemu import Qemu, QemuSettings, process
from pileus.node.storage.adoption import remove_all
from pileus.node.storage.driver import FileStorage
from pileus.node.storage.settings import FileSettings

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("accounts"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs QEMU"),
    pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="needs qemu-storage-daemon"),
]

ORDERS = b"""#!/bin/sh
# The console is ours until the next start, the kernel's warnings included.
dmesg -n 1
sed /ttyS0/d /etc/inittab >/run/inittab; mount --bind /run/inittab /etc/inittab
kill -HUP 1; sleep 1; killall getty; sleep 1
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
put() { head -c 4096 /dev/zero | tr '\\0' "$3" >/tmp/b; dd if=/tmp/b of=/dev/$1 bs=4k seek=$2 conv=notrunc oflag=direct
}
# The kernel makes a disk's node in /dev a moment before the disk can be opened.
get() { n=0; until dd if=/dev/$1 of=/dev/null count=1 2>/dev/null || [ $n -ge 100 ]; do sleep 0.1; n=$((n+1)); done
dd if=/dev/$1 bs=4k skip=$2 count=1 iflag=direct 2>/dev/null | head -c 1; }
echo takes-orders
while read -r line; do eval "$line" 2>/dev/null; echo "end-of-order"; done
"""


class World:
    """Two nodes on this host, the first of which keeps the volumes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.images = Images({"guest": GUEST})
        self.taps = Taps()
        self.first = random.randrange(20000, 30000, 100)
        self.storage = self.make_storage()
        self.a, self.b = self.make("a"), self.make("b")

    def make_storage(self) -> FileStorage:
        settings = FileSettings(state_dir=self.directory / "a", ports=(self.first, self.first + 40))
        return FileStorage(settings, self.images)

    def make(self, name: str) -> Qemu:
        ports = (self.first + 50, self.first + 90)
        settings = QemuSettings(
            state_dir=self.directory / name, accel="tcg", address="127.0.0.1", move_ports=ports
        )
        return Qemu(settings, self.images, self.taps)

    async def event(self, server_id: str, power: str) -> None:
        pass

    async def give(self, volume_id: str, **more: object) -> VolumeSpec:
        """Make a volume, give it out, and say so as a controller does."""
        await self.storage.create(order(volume_id, **{"size_gib": 1, **more}))
        return described(await self.storage.export(order(volume_id, secret=secrets.token_hex(32))))

    def daemon(self, volume_id: str) -> int:
        marker = f"tls-creds-psk,id=tls,endpoint=server,dir={self.directory}/a/volumes/{volume_id}/key"
        return next(iter(process.find({marker}).get(marker, [])), 0)


def order(volume_id: str, **more: object) -> VolumeTask:
    return VolumeTask(volume_id=volume_id, **more)  # type: ignore[arg-type]


def described(export: VolumeExport) -> VolumeSpec:
    server = {"type": "inet", "host": export.host, "port": str(export.port)}
    return VolumeSpec(
        attachment_id=str(uuid.uuid4()), volume_id=export.volume_id, device="vdb", secret=export.secret,
        connection={"driver": "nbd", "server": server, "export": export.name},
    )


def guest() -> ServerSpec:
    image = ImageRef(id="guest", disk_format="qcow2", size=GUEST.stat().st_size, sha512="0" * 128)
    data = ConfigDriveFile(path="openstack/latest/user_data", content=ORDERS)
    spec = spec_for(image)
    assert spec.config_drive is not None
    return msgspec.structs.replace(spec, config_drive=(spec.config_drive[0], data))


class Person:
    """Somebody at a guest's serial console."""

    def __init__(self, driver: Qemu, folder: Path, server_id: str) -> None:
        self.driver, self.server_id = driver, server_id
        self.console = Console.__new__(Console)
        self.console.path, self.console.seen = folder / "instances" / server_id / "console.log", 0

    async def begin(self) -> None:
        await self.console.says("takes-orders", 120)

    async def tell(self, line: str) -> None:
        """Give an order, and do not wait for its end."""
        self.console.forget()
        _, writer = await asyncio.open_unix_connection(str(await self.driver.serial_socket(self.server_id)))
        writer.write(line.encode() + b"\n")
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.close()

    async def ask(self, line: str) -> str:
        """Give an order, and wait for what comes of it."""
        await self.tell(line)
        await self.console.says("end-of-order", 120)
        return self.console.text().partition("end-of-order")[0].strip()


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    made = World(directory)
    try:
        yield made
    finally:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and str(directory) in " ".join(process.arguments(int(entry.name))):
                os.kill(int(entry.name), signal.SIGKILL)
        asyncio.run(remove_all(directory / "a"))
        made.taps.close()


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    await world.storage.start()
    await world.a.start(world.event)
    await world.b.start(world.event)
    try:
        yield world
    finally:
        await world.a.stop()
        await world.b.stop()
        await world.storage.stop()


async def at(world: World, driver: Qemu, name: str, server_id: str) -> Person:
    person = Person(driver, world.directory / name, server_id)
    await person.begin()
    return person


def test_bytes_stay_whatever_is_done_to_a_volume(world: World) -> None:
    asyncio.run(_bytes_stay(world))


async def _bytes_stay(world: World) -> None:
    async with running(world):
        storage, one, two = world.storage, guest(), guest()
        disk = await world.give("v1")
        await world.a.build(one)
        await world.a.build(two)
        here, there = await at(world, world.a, "a", one.id), await at(world, world.a, "a", two.id)
        with pytest.raises(NodeFault, match="could not be opened"):
            await world.a.attach_volume(one, msgspec.structs.replace(disk, secret="ab" * 32))
        await world.a.attach_volume(msgspec.structs.replace(one, volumes=(disk,)), disk)
        _no_key_lies_about(world, one.id, disk.secret)
        assert await here.ask("get vdc 0 >/dev/null; cat /sys/block/vdc/serial") == "v1"

        # The daemon is killed while the guest writes: it stands still for a moment, then all is there.
        await here.ask("put vdc 0 a")
        await here.tell("i=1; while [ $i -le 60 ]; do put vdc $i b; i=$((i+1)); done; echo all-written")
        killed = world.daemon("v1")
        os.kill(killed, signal.SIGKILL)
        await here.console.says("all-written", 60)
        assert world.daemon("v1") not in (0, killed)
        assert await here.ask("for i in $(seq 0 60); do get vdc $i; done") == "a" + "b" * 60

        # A snapshot while in use is what there was then, in a volume of its own, which another guest reads.
        await storage.snapshot(order("v1", snapshot_id="s1"))
        await here.ask("put vdc 0 c")
        copy = await world.give("v2", snapshot_id="s1", snapshot_of="v1")
        await world.a.attach_volume(msgspec.structs.replace(two, volumes=(copy,)), copy)
        assert await there.ask("get vdc 0; get vdc 60") == "ab"
        assert await here.ask("get vdc 0") == "c"

        # It grows under the guest, which sees that.
        await storage.extend(order("v1", size_gib=2))
        await world.a.extend_volume(msgspec.structs.replace(one, volumes=(disk,)), disk)
        await world.a.extend_volume(msgspec.structs.replace(one, volumes=(disk,)), disk)
        assert await here.ask("cat /sys/block/vdc/size; put vdc 400000 d; get vdc 400000; get vdc 0") == "4194304\r\ndc"

        # Another volume takes its place.
        new = await world.give("v3", size_gib=2)
        small = await world.give("v4", size_gib=1)
        with pytest.raises(NodeFault, match="take a larger one"):
            await world.a.swap_volume(msgspec.structs.replace(one, volumes=(small,)), "v1", small)
        await here.ask("(i=100; while [ $i -le 160 ]; do put vdc $i e; i=$((i+1)); done) &")
        swapped = msgspec.structs.replace(one, volumes=(new,))
        await world.a.swap_volume(swapped, "v1", new)
        await world.a.swap_volume(swapped, "v1", new)
        await storage.delete(order("v1"))
        await here.ask("wait")
        assert await here.ask("for i in 0 60 100 130 160 400000; do get vdc $i; done") == "cbeeed"

        # What one guest wrote another reads; what is detached is open nowhere.
        await world.a.detach_volume(one.id, "v3")
        await world.a.detach_volume(one.id, "v3")
        assert await here.ask("ls /sys/block | grep -c ^vd") == "2"
        await world.a.attach_volume(msgspec.structs.replace(two, volumes=(copy, new)), new)
        assert await there.ask("get vdd 0; get vdd 160; get vdd 400000") == "ced"
        for spec in (one, two):
            await world.a.destroy(spec.id)
        for name in ("v2", "v3", "v4"):
            await storage.unexport(order(name))
            assert not world.daemon(name)


def _no_key_lies_about(world: World, server_id: str, secret: str) -> None:
    """The guest's description, which is root's, is the only file that has it; no command line does."""
    folder = world.directory / "a" / "instances" / server_id
    has = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20
           and secret.encode() in path.read_bytes()]  # fmt: skip
    assert [path.name for path in has] == ["spec.json"]
    assert has[0].stat().st_mode & 0o777 == 0o600
    everything = [word for entry in Path("/proc").iterdir() if entry.name.isdigit()
                  for word in process.arguments(int(entry.name))]  # fmt: skip
    assert not any(secret in word for word in everything)


def test_a_guest_on_a_volume_lives_and_moves(world: World) -> None:
    asyncio.run(_on_a_volume(world))


async def _on_a_volume(world: World) -> None:
    async with running(world):
        spec = guest()
        assert spec.image is not None
        root = msgspec.structs.replace(await world.give("v1", image=spec.image), boot_index=0)
        spec = msgspec.structs.replace(spec, image=None, volumes=(root,))
        await world.a.build(spec)
        here = await at(world, world.a, "a", spec.id)
        root_of = "cat /proc/mounts | grep -c ' / ext4'; ls /sys/block | grep -c ^vd"
        assert await here.ask(root_of + "; echo kept >/root/kept; sync") == "1\r\n2"

        # The agent is gone for a while, and the daemon dies meanwhile.
        await world.a.stop()
        await world.storage.stop()
        os.kill(world.daemon("v1"), signal.SIGKILL)
        world.storage, world.a = world.make_storage(), world.make("a")
        await world.storage.start()
        await world.a.start(world.event)
        here = Person(world.a, world.directory / "a", spec.id)
        assert await here.ask("echo 3 >/proc/sys/vm/drop_caches; cat /root/kept") == "kept"

        await world.a.suspend(spec.id)
        await world.a.resume(spec)
        assert await here.ask("cat /root/kept; echo more >/root/more; sync") == "kept"

        target = await world.b.take_in(spec, await world.a.layout(spec.id))
        assert target.disks in ((), ("config",))
        await world.a.send(spec.id, target)
        assert (await world.b.taken(spec)).power == "running"
        await world.a.destroy(spec.id)
        moved = Person(world.b, world.directory / "b", spec.id)
        assert await moved.ask("echo 3 >/proc/sys/vm/drop_caches; cat /root/kept /root/more") == "kept\r\nmore"

        # Brought back elsewhere with a new key: who had the old one is shut out.
        fresh = msgspec.structs.replace(
            described(await world.storage.export(order("v1", secret=secrets.token_hex(32)))), boot_index=0
        )
        again = msgspec.structs.replace(spec, volumes=(fresh,))
        await world.b.reboot(again, True, 0)
        log = world.directory / "b" / "instances" / spec.id / "console.log"
        await until(lambda: re.search(r"login:|takes-orders", log.read_text(errors="replace")), "it boots again", 120)
        await world.b.power_off(spec.id, 0)
        await world.b.power_on(again)
        with pytest.raises(NodeFault, match="no root disk on this node"):
            await world.b.snapshot(spec.id, world.directory / "copy")
        rescue = ImageRef(id="guest", disk_format="qcow2", size=1, sha512="0" * 128)
        await world.b.rescue(msgspec.structs.replace(again, rescue_image=rescue))
        assert (await world.b.guest(spec.id)).power == "running"
        await world.b.unrescue(again)
        await world.b.destroy(spec.id)
