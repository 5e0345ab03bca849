"""Volumes in files, with the real qemu-img and qemu-storage-daemon, as the account of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.node.contract import ImageRef, NodeFault, VolumeExport, VolumeTask
from pileus.node.hypervisor.qemu import process, psk
from pileus.node.hypervisor.qemu.settings import Account
from pileus.node.storage.adoption import remove_all
from pileus.node.storage.driver import FileStorage
from pileus.node.storage.protocol import Storage, VolumeGone
from pileus.node.storage.settings import FileSettings
from tests.ports import free_port

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-storage-daemon") is None, reason="qemu-storage-daemon is not installed"
)
GIB = 1 << 30
KEY, OTHER = "11" * 32, "22" * 32


class Images:
    """An image store of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    async def path(self, image: ImageRef) -> Path:
        return self.file


class Node:
    """A storage in a folder, which can be killed and begun again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = Images(folder / "image")
        self.storage: FileStorage = None  # type: ignore[assignment]

    async def __aenter__(self) -> Node:
        first = free_port(21)
        settings = FileSettings(state_dir=self.folder, user=None, ports=(first, first + 20), watch_interval=0.2)
        self.storage = FileStorage(settings, self.images)
        await self.storage.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.storage.stop()

    def disk(self, volume_id: str = "v1") -> Path:
        return self.folder / "volumes" / volume_id / "disk"

    def daemons(self, volume_id: str = "v1") -> list[int]:
        marker = f"tls-creds-psk,id=tls,endpoint=server,dir={self.folder}/volumes/{volume_id}/key"
        return process.find({marker}).get(marker, [])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    asyncio.run(remove_all(tmp_path))


def order(**more: Any) -> VolumeTask:
    return VolumeTask(**{"volume_id": "v1", "size_gib": 1, **more})


def tool(*words: str) -> str:
    return subprocess.run(["qemu-io", *words], check=True, capture_output=True, text=True).stdout


def image_tool(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


def at_rest(disk: Path, *commands: str, form: str = "qcow2") -> str:
    return tool("-f", form, *(word for each in commands for word in ("-c", each)), str(disk))


async def through(export: VolumeExport, folder: Path, *commands: str) -> str:
    """What a guest's QEMU does with a volume, over NBD and TLS."""
    key = folder / "client"
    psk.write(key, export.secret, Account())
    nbd = f"driver=nbd,server.type=inet,server.host={export.host},server.port={export.port},export={export.name}"
    words = [word for each in commands for word in ("-c", each)]
    credentials = f"tls-creds-psk,id=tls,endpoint=client,username=pileus,dir={key}"
    options = ("-t", "writeback", "--object", credentials, *words, "--image-opts")  # no flush that was not asked for
    return await asyncio.to_thread(tool, *options, nbd + ",tls-creds=tls")


async def eventually(test: Any) -> None:
    for _ in range(200):
        if test():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_it_keeps_the_contract(folder: Path) -> None:
    storage: Storage = FileStorage(FileSettings(state_dir=folder), Images(folder))
    assert storage.backend == "file"


def test_a_volume_of_an_image_has_its_bytes_and_its_own_size(folder: Path) -> None:
    (folder / "image").write_bytes(b"\x05" * 65536)

    async def work() -> None:
        async with Node(folder) as node:
            image = ImageRef(id="i", disk_format="raw", size=65536, sha512="", virtual_size=65536)
            await node.storage.create(order(size_gib=2, image=image))
            at_rest(node.disk(), "read -P 5 0 64k", "read -P 0 64k 64k", "read -P 0 2047M 1M")
            assert os.stat(node.disk()).st_mode & 0o777 == 0o600
            large = ImageRef(id="i", disk_format="raw", size=65536, sha512="", virtual_size=2 * GIB)
            with pytest.raises(NodeFault, match="ask for a larger one"):
                await node.storage.create(order(volume_id="v2", image=large))
            assert not (folder / "volumes" / "v2").exists()

    asyncio.run(work())


def test_an_image_is_put_over_what_a_volume_has(folder: Path) -> None:
    (folder / "image").write_bytes(b"\x05" * 65536)

    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order(size_gib=2))
            at_rest(node.disk(), "write -P 1 0 64k", "write -P 1 1G 64k")
            await node.storage.snapshot(order(snapshot_id="s1"))
            image = ImageRef(id="i", disk_format="raw", size=65536, sha512="", virtual_size=65536)
            await node.storage.reimage(order(size_gib=2, image=image))
            at_rest(node.disk(), "read -P 5 0 64k", "read -P 0 64k 64k", "read -P 0 1G 64k", "read -P 0 2047M 1M")
            await node.storage.revert(order(snapshot_id="s1"))
            at_rest(node.disk(), "read -P 1 0 64k", "read -P 1 1G 64k")

    asyncio.run(work())


def test_an_image_that_says_it_stands_on_another_file_shows_nothing_of_that(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"\x07" * 65536)
    image_tool("create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(folder / "image"))

    async def work() -> None:
        async with Node(folder) as node:
            image = ImageRef(id="i", disk_format="qcow2", size=1, sha512="", virtual_size=65536)
            await node.storage.create(order(image=image))
            at_rest(node.disk(), "read -P 0 0 64k")

    asyncio.run(work())


def test_snapshots_hold_still_and_become_volumes_and_are_gone_back_to(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            storage = node.storage
            await storage.create(order())
            at_rest(node.disk(), "write -P 1 0 64k")
            await storage.snapshot(order(snapshot_id="s1"))
            await storage.snapshot(order(snapshot_id="s1"))
            await storage.extend(order(size_gib=3))
            at_rest(node.disk(), "write -P 2 0 64k", "write -P 2 2G 64k")
            await storage.create(order(volume_id="v2", snapshot_id="s1", snapshot_of="v1"))
            at_rest(node.disk("v2"), "read -P 1 0 64k", "read -P 0 1023M 1M")
            await storage.revert(order(snapshot_id="s1"))
            at_rest(node.disk(), "read -P 1 0 64k", "read -P 0 2G 64k")
            await storage.delete_snapshot(order(snapshot_id="s1"))
            await storage.delete_snapshot(order(snapshot_id="s1"))
            with pytest.raises(VolumeGone):
                await storage.revert(order(snapshot_id="s1"))
            image_tool("check", "-q", "-f", "qcow2", str(node.disk()))

    asyncio.run(work())


def test_a_volume_in_use_is_snapshotted_copied_uploaded_and_backed_up_as_it_is(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            storage = node.storage
            await storage.create(order())
            export = await storage.export(order(secret=KEY))
            await through(export, folder, "write -P 1 0 64k")
            await storage.snapshot(order(snapshot_id="s1"))
            await through(export, folder, "write -P 2 0 64k")
            await storage.create(order(volume_id="v2", source_volume_id="v1"))
            await storage.create(order(volume_id="v3", snapshot_id="s1", snapshot_of="v1"))
            await storage.upload(order(disk_format="raw"), folder / "raw")
            await storage.upload(order(disk_format="qcow2"), folder / "qcow2")
            assert await storage.backup(order(backup_id="b1")) > 0
            assert await storage.backup(order(backup_id="b2", snapshot_id="s1")) > 0
            await through(export, folder, "write -P 3 0 64k")
            at_rest(node.disk("v2"), "read -P 2 0 64k")
            at_rest(node.disk("v3"), "read -P 1 0 64k")
            at_rest(folder / "raw", "read -P 2 0 64k", form="raw")
            at_rest(folder / "qcow2", "read -P 2 0 64k")
            await storage.create(order(volume_id="v4", backup_id="b2"))
            at_rest(node.disk("v4"), "read -P 1 0 64k")
            with pytest.raises(NodeFault, match="detach it first"):
                await storage.restore(order(backup_id="b1"))
            await storage.delete_snapshot(order(snapshot_id="s1"))
            await storage.unexport(order())
            assert not node.daemons()
            found = image_tool("info", "--output=json", "-f", "qcow2", str(node.disk()))
            assert not json.loads(found).get("snapshots")
            at_rest(node.disk(), "read -P 3 0 64k")
            await storage.restore(order(backup_id="b1"))
            at_rest(node.disk(), "read -P 2 0 64k")
            await storage.delete_backup(order(backup_id="b1"))
            assert os.listdir(folder / "volume-backups") == ["b2"]

    asyncio.run(work())


def test_what_is_given_out_outlives_the_agent_and_comes_again_when_it_has_died(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order())
            export = await node.storage.export(order(secret=KEY))
            await through(export, folder, "write -P 1 0 64k")
            first = node.daemons()
        assert node.daemons() == first
        async with Node(folder) as node:
            assert node.daemons() == first
            assert await node.storage.export(order(secret=KEY)) == export
            guest = asyncio.create_task(through(export, folder, "write -P 2 512M 64k", "sleep 2000"))
            await asyncio.sleep(1.0)
            os.kill(first[0], signal.SIGKILL)  # what it said to be written is, without ever a flush
            with contextlib.suppress(subprocess.CalledProcessError):
                await guest
            await eventually(lambda: node.daemons() not in ([], first))
            await eventually(lambda: node.storage._volumes["v1"].daemon.running)
            await through(export, folder, "read -P 2 512M 64k")
            second = node.daemons()
        os.kill(second[0], signal.SIGKILL)
        await eventually(lambda: not node.daemons())
        async with Node(folder) as node:
            await through(export, folder, "read -P 2 512M 64k", "write -P 3 0 64k")
            await node.storage.unexport(order())
            await node.storage.unexport(order())
            assert not node.daemons()
            assert not (folder / "volumes" / "v1" / "key").exists()
            image_tool("check", "-q", "-f", "qcow2", str(node.disk()))

    asyncio.run(work())


def test_another_key_shuts_out_who_had_the_old_one(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order())
            old = await node.storage.export(order(secret=KEY))
            new = await node.storage.export(order(secret=OTHER))
            assert (old.host, old.port) == (new.host, new.port)
            with pytest.raises(subprocess.CalledProcessError):
                await through(old, folder, "read 0 4k")
            await through(new, folder, "write -P 1 0 4k")
            only = await node.storage.export(order(secret=OTHER, read_only=True))
            with pytest.raises(subprocess.CalledProcessError):
                await through(only, folder, "write 0 4k")
            assert not any(OTHER in word for word in process.arguments(node.daemons()[0]))

    asyncio.run(work())


def test_a_volume_grows_while_it_is_given_out(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order())
            export = await node.storage.export(order(secret=KEY))
            await through(export, folder, "write -P 1 0 64k")
            await node.storage.extend(order(size_gib=2))
            await through(export, folder, "read -P 1 0 64k", "write -P 1 1536M 64k")
            with pytest.raises(NodeFault, match="cannot shrink to 1"):
                await node.storage.extend(order(size_gib=1))

    asyncio.run(work())


def test_a_volume_is_fetched_from_another_node_and_kept_on_under_a_new_name(folder: Path) -> None:
    async def work() -> None:
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        async with Node(folder / "a") as one, Node(folder / "b") as two:
            await one.storage.create(order())
            at_rest(one.disk(), "write -P 9 1M 64k")
            export = await one.storage.export(order(secret=KEY))
            await two.storage.fetch(order(size_gib=2, source=export))
            at_rest(two.disk(), "read -P 9 1M 64k", "read -P 0 1536M 64k")
            await two.storage.snapshot(order(snapshot_id="s1"))
            await two.storage.adopt(order(volume_id="v2", source_volume_id="v1"))
            await two.storage.adopt(order(volume_id="v2", source_volume_id="v1"))
            await two.storage.revert(order(volume_id="v2", snapshot_id="s1"))
            with pytest.raises(VolumeGone):
                await two.storage.snapshot(order(snapshot_id="s2"))
            with pytest.raises(NodeFault):
                await two.storage.fetch(order(volume_id="v3", source=VolumeExport(
                    volume_id="v1", host=export.host, port=export.port, name="v1", secret=OTHER)))
            assert not (folder / "b" / "volumes" / "v3").exists()
        await remove_all(folder / "a")
        await remove_all(folder / "b")
        assert not one.daemons()

    asyncio.run(work())


def test_deleting_ends_what_is_given_out_and_leaves_nothing(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order())
            await node.storage.snapshot(order(snapshot_id="s1"))
            await node.storage.export(order(secret=KEY))
            await node.storage.delete(order())
            await node.storage.delete(order())
            assert not node.daemons()
            assert os.listdir(folder / "volumes") == ["lock"]
            with pytest.raises(VolumeGone):
                await node.storage.export(order(secret=KEY))
            with pytest.raises(NodeFault, match="is no id"):
                await node.storage.create(order(volume_id="../v1"))

    asyncio.run(work())


def test_what_was_cut_off_is_removed_at_the_next_start(folder: Path) -> None:
    async def work() -> None:
        async with Node(folder) as node:
            await node.storage.create(order())
            half = folder / "volumes" / "v2"
            half.mkdir()
            (half / "disk.tmp").touch()
            (folder / "volume-backups" / "b1.tmp").touch()
            volume = node.storage._volumes["v1"]
            volume.record.copied = True
            await volume.save()
            image_tool("snapshot", "-c", "copy-x", str(node.disk()))
            await node.storage.snapshot(order(snapshot_id="s1"))
        async with Node(folder) as node:
            assert sorted(os.listdir(folder / "volumes")) == ["lock", "v1"]
            assert not os.listdir(folder / "volume-backups")
            assert await node.storage._volumes["v1"].snapshots() == {"s1"}

    asyncio.run(work())
