"""The storage that keeps nothing: what it knows it knows after a restart too, and it fails only where it is told to."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from pileus.node.contract import ImageRef, NodeFault, VolumeExport, VolumeTask
from pileus.node.storage.fake.driver import FakeSettings, FakeStorage
from pileus.node.storage.protocol import Storage, VolumeGone

T = TypeVar("T")
IMAGE = ImageRef(id="i", disk_format="qcow2", size=1, sha512="0" * 128, virtual_size=(1 << 30) + 1)


def run(work: Awaitable[T]) -> T:
    async def inner() -> T:
        return await asyncio.wait_for(work, 10)

    return asyncio.run(inner())


def order(**more: object) -> VolumeTask:
    return VolumeTask(**{"volume_id": "v1", **more})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def started(folder: Path) -> Storage:
    storage: Storage = FakeStorage(FakeSettings(state_dir=folder, hostname="n1", total_gib=100))
    run(storage.start())
    return storage


def test_what_was_made_is_there_after_a_restart_and_takes_room(folder: Path) -> None:
    run(started(folder).create(order(size_gib=3)))
    storage = started(folder)
    assert run(storage.facts()).free_gib == 97
    run(storage.delete(order()))
    run(storage.delete(order()))
    assert run(started(folder).facts()).free_gib == 100


def test_a_volume_that_is_too_small_for_its_image_is_refused(folder: Path) -> None:
    storage = started(folder)
    with pytest.raises(NodeFault, match="needs 2 GiB"):
        run(storage.create(order(size_gib=1, image=IMAGE)))
    with pytest.raises(VolumeGone):
        run(storage.extend(order(size_gib=2)))
    run(storage.create(order(size_gib=2, image=IMAGE)))


def test_snapshots_are_of_their_volume_and_go_with_it(folder: Path) -> None:
    storage = started(folder)
    run(storage.create(order(size_gib=1)))
    run(storage.snapshot(order(snapshot_id="s1")))
    run(storage.extend(order(size_gib=4)))
    of_it = {"volume_id": "v2", "snapshot_id": "s1", "snapshot_of": "v1"}
    run(storage.create(order(size_gib=1, **of_it)))
    with pytest.raises(VolumeGone):
        run(storage.create(order(size_gib=1, volume_id="v3", snapshot_id="s1", snapshot_of="v2")))
    run(storage.delete_snapshot(order(snapshot_id="s1")))
    with pytest.raises(VolumeGone):
        run(storage.revert(order(snapshot_id="s1")))


def test_an_export_keeps_its_port_and_takes_the_key_it_is_told(folder: Path) -> None:
    storage = started(folder)
    for name in ("v1", "v2"):
        run(storage.create(order(volume_id=name, size_gib=1)))
    first: VolumeExport = run(storage.export(order(secret="aa" * 32)))
    other = run(storage.export(order(volume_id="v2", secret="aa" * 32)))
    assert first.port != other.port
    again = run(started(folder).export(order(secret="bb" * 32)))
    assert (again.port, again.secret, first.secret) == (first.port, "bb" * 32, "aa" * 32)
    with pytest.raises(NodeFault, match="detach it first"):
        run(started(folder).restore(order(backup_id="b1")))
    run(storage.unexport(order()))
    run(storage.unexport(order(volume_id="unknown")))


def test_a_backup_outlives_its_volume(folder: Path) -> None:
    storage = started(folder)
    run(storage.create(order(size_gib=2)))
    assert run(storage.backup(order(backup_id="b1"))) > 0
    run(storage.delete(order()))
    storage = started(folder)
    with pytest.raises(NodeFault, match="needs 2 GiB"):
        run(storage.create(order(volume_id="v2", size_gib=1, backup_id="b1")))
    run(storage.create(order(volume_id="v2", size_gib=1)))
    run(storage.restore(order(volume_id="v2", size_gib=1, backup_id="b1")))
    assert run(storage.facts()).free_gib == 98
    run(storage.delete_backup(order(backup_id="b1")))
    with pytest.raises(VolumeGone):
        run(storage.restore(order(volume_id="v2", backup_id="b1")))


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_an_upload_is_a_sound_image(folder: Path, form: str) -> None:
    storage = started(folder)
    run(storage.create(order(size_gib=2)))
    target = folder / "image"
    run(storage.upload(order(disk_format=form), target))
    told = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", "-f", form, str(target)]))
    assert told["virtual-size"] == (2 << 30 if form == "qcow2" else 1 << 20)
    with pytest.raises(NodeFault, match="vhd"):
        run(storage.upload(order(disk_format="vhd"), target))


def test_faults_are_those_of_the_metadata(folder: Path) -> None:
    storage = started(folder)
    told = {"fake:create_error": "no more room", "fake:nodes": "n1"}
    with pytest.raises(NodeFault, match="no more room"):
        run(storage.create(order(size_gib=1, metadata=told)))
    run(storage.create(order(size_gib=1, metadata={**told, "fake:nodes": "n2"})))


def test_a_volume_that_was_removed_while_it_was_made_larger_stays_away(folder: Path) -> None:
    storage = started(folder)

    async def both() -> None:
        await storage.create(order(size_gib=1))
        slow = asyncio.create_task(storage.extend(order(size_gib=2, metadata={"fake:extend_delay": "0.05"})))
        await asyncio.sleep(0.01)
        await storage.delete(order())
        with pytest.raises(VolumeGone):
            await slow

    run(both())
    assert run(started(folder).facts()).free_gib == 100
