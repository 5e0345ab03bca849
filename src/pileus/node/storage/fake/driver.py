"""The fake storage driver. It holds no file open and no port."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from pileus.node.contract import NodeFault, StorageFacts, VolumeExport, VolumeTask
from pileus.node.hypervisor.fake import faults, qcow2
from pileus.node.storage.fake.shelf import FakeBackup, FakeVolume, Shelf
from pileus.node.storage.protocol import VolumeGone, named

GIB = 1 << 30
FIRST_PORT = 10809  # of NBD
RAW_BYTES = 1 << 20
BACKUP_BYTES = 1 << 16


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A fake node's name and what it says it has."""

    state_dir: Path
    hostname: str = "fake"
    address: str = "127.0.0.1"
    total_gib: int = 100_000


class FakeStorage:
    """Implements `pileus.node.storage.protocol.Storage` without disks."""

    backend = "fake"
    increments = True

    def __init__(self, settings: FakeSettings) -> None:
        self._settings = settings
        self._shelf = Shelf(settings.state_dir)

    async def start(self) -> None:
        self._settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._shelf.load()

    async def stop(self) -> None:
        """It holds nothing."""

    async def facts(self) -> StorageFacts:
        used = sum(volume.size_gib for volume in self._shelf.volumes.values())
        total = float(self._settings.total_gib)
        return StorageFacts(backend=self.backend, total_gib=total, free_gib=max(0.0, total - used))

    # ------------------------------------------------------------------------------- making, removing

    async def create(self, order: VolumeTask) -> None:
        if order.volume_id in self._shelf.volumes:
            return
        await self._suffer(order, "create")
        if order.size_gib < self._least(order):
            raise NodeFault(
                f"what volume {order.volume_id} is made from needs {self._least(order)} GiB, and it shall have"
                f" {order.size_gib}: ask for a larger one"
            )
        self._shelf.put(FakeVolume(id=order.volume_id, size_gib=order.size_gib))

    def _least(self, order: VolumeTask) -> int:
        """How large a volume is at least with what it is made from."""
        if order.image is not None:
            return -(-order.image.virtual_size // GIB)
        if order.snapshot_id is not None:
            return self._snapshot(named(order.snapshot_of, "volume of the snapshot"), order.snapshot_id)
        if order.source_volume_id is not None:
            return self._find(order.source_volume_id).size_gib
        return self._backup(order.backup_id).size_gib if order.backup_id is not None else 0

    async def delete(self, order: VolumeTask) -> None:
        volume = self._shelf.volumes.get(order.volume_id)
        if volume is None:
            return
        await self._suffer(order, "delete")
        if order.volume_id in self._shelf.volumes:
            self._shelf.drop(volume)

    async def fetch(self, order: VolumeTask) -> None:
        if order.source is None:
            raise NodeFault(f"the task does not say where volume {order.volume_id} is")
        if order.volume_id not in self._shelf.volumes:
            await self._suffer(order, "fetch")
            self._shelf.put(FakeVolume(id=order.volume_id, size_gib=order.size_gib))

    async def adopt(self, order: VolumeTask) -> None:
        if order.volume_id in self._shelf.volumes:
            return
        old = self._at_rest(named(order.source_volume_id, "volume to adopt"))
        await self._suffer(order, "adopt", old)
        self._shelf.put(FakeVolume(id=order.volume_id, size_gib=old.size_gib, snapshots=old.snapshots))
        self._shelf.drop(old)

    async def extend(self, order: VolumeTask) -> None:
        volume = self._find(order.volume_id)
        if order.size_gib < volume.size_gib:
            raise NodeFault(f"volume {volume.id} has {volume.size_gib} GiB and cannot shrink to {order.size_gib}")
        await self._suffer(order, "extend", volume)
        volume.size_gib = order.size_gib
        self._shelf.put(volume)

    # -------------------------------------------------------------------------------------- snapshots

    async def snapshot(self, order: VolumeTask) -> None:
        volume, snapshot_id = self._find(order.volume_id), named(order.snapshot_id, "snapshot")
        if snapshot_id in volume.snapshots:
            return
        await self._suffer(order, "snapshot", volume)
        volume.snapshots = {**volume.snapshots, snapshot_id: volume.size_gib}
        self._shelf.put(volume)

    async def delete_snapshot(self, order: VolumeTask) -> None:
        volume, snapshot_id = self._shelf.volumes.get(order.volume_id), named(order.snapshot_id, "snapshot")
        if volume is None or snapshot_id not in volume.snapshots:
            return
        await self._suffer(order, "delete_snapshot", volume)
        volume.snapshots = {name: size for name, size in volume.snapshots.items() if name != snapshot_id}
        self._shelf.put(volume)

    async def revert(self, order: VolumeTask) -> None:
        volume = self._at_rest(order.volume_id)
        self._snapshot(volume.id, named(order.snapshot_id, "snapshot"))
        await self._suffer(order, "revert", volume)

    # ------------------------------------------------------------------------------------- giving out

    async def export(self, order: VolumeTask) -> VolumeExport:
        volume = self._find(order.volume_id)
        secret = named(order.secret, "key to give the volume out with")
        await self._suffer(order, "export", volume)
        if (volume.secret, volume.read_only) != (secret, order.read_only) or not volume.port:
            volume.port = volume.port or self._free_port()
            volume.secret, volume.read_only = secret, order.read_only
            self._shelf.put(volume)
        return VolumeExport(
            volume_id=volume.id, host=self._settings.address, port=volume.port, name=volume.id, secret=secret
        )

    async def unexport(self, order: VolumeTask) -> None:
        volume = self._shelf.volumes.get(order.volume_id)
        if volume is None or not volume.secret:
            return
        await self._suffer(order, "unexport", volume)
        volume.secret, volume.read_only = "", False
        self._shelf.put(volume)

    def _free_port(self) -> int:
        taken = {volume.port for volume in self._shelf.volumes.values()}
        return next(port for port in range(FIRST_PORT, 65536) if port not in taken)

    # ------------------------------------------------------------------------------------------ copies

    async def upload(self, order: VolumeTask, target: Path) -> None:
        """An empty disk: a qcow2 of the volume's size, or a little of one as raw bytes."""
        volume = self._find(order.volume_id)
        await self._suffer(order, "upload", volume)
        if order.disk_format == "qcow2":
            await asyncio.to_thread(qcow2.write_empty, target, volume.size_gib * GIB)
        elif order.disk_format == "raw":
            await asyncio.to_thread(_zeroes, target)
        else:
            raise NodeFault(f"a volume cannot be uploaded as '{order.disk_format}': use raw or qcow2")

    async def backup(self, order: VolumeTask) -> int:
        volume, backup_id = self._find(order.volume_id), named(order.backup_id, "backup")
        if backup_id not in self._shelf.backups:
            if order.parent_id is not None:
                self._backup(order.parent_id)
            size = self._snapshot(volume.id, order.snapshot_id) if order.snapshot_id else volume.size_gib
            await self._suffer(order, "backup", volume)
            self._shelf.put(FakeBackup(id=backup_id, volume_id=volume.id, size_gib=size))
        return BACKUP_BYTES

    async def restore(self, order: VolumeTask) -> None:
        volume, backup = self._at_rest(order.volume_id), self._backup(named(order.backup_id, "backup"))
        await self._suffer(order, "restore", volume)
        volume.size_gib = max(order.size_gib, volume.size_gib, backup.size_gib)
        self._shelf.put(volume)

    async def reimage(self, order: VolumeTask) -> None:
        volume = self._at_rest(order.volume_id)
        if order.image is None:
            raise NodeFault(f"the task does not say which image is to be on volume {order.volume_id}")
        await self._suffer(order, "reimage", volume)

    async def delete_backup(self, order: VolumeTask) -> None:
        backup = self._shelf.backups.get(named(order.backup_id, "backup"))
        if backup is None:
            return
        await self._suffer(order, "delete_backup")
        if backup.id in self._shelf.backups:
            self._shelf.drop(backup)

    # ----------------------------------------------------------------------------------------- looking

    async def _suffer(self, order: VolumeTask, operation: str, volume: FakeVolume | None = None) -> None:
        await faults.suffer(faults.among(order.metadata), operation, self._settings.hostname)
        if volume is not None and self._find(volume.id) is not volume:
            raise VolumeGone(f"volume {volume.id} was deleted meanwhile")

    def _find(self, volume_id: str) -> FakeVolume:
        try:
            return self._shelf.volumes[volume_id]
        except KeyError:
            raise VolumeGone(f"volume {volume_id} is not on this node") from None

    def _at_rest(self, volume_id: str) -> FakeVolume:
        volume = self._find(volume_id)
        if volume.secret:
            raise NodeFault(f"volume {volume_id} is given out: detach it first")
        return volume

    def _snapshot(self, volume_id: str, snapshot_id: str) -> int:
        try:
            return self._find(volume_id).snapshots[snapshot_id]
        except KeyError:
            raise VolumeGone(f"volume {volume_id} has no snapshot {snapshot_id} on this node") from None

    def _backup(self, backup_id: str) -> FakeBackup:
        try:
            return self._shelf.backups[backup_id]
        except KeyError:
            raise VolumeGone(f"backup {backup_id} is not on this node") from None


def _zeroes(target: Path) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.ftruncate(handle, RAW_BYTES)
    os.close(handle)
