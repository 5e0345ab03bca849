"""Volumes as qcow2 files: each method of the contract, as steps on one locked volume."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pileus.node.contract import ImageStore, NodeFault, StorageFacts, VolumeExport, VolumeTask
from pileus.node.hypervisor.qemu import ports, psk
from pileus.node.storage import adoption, copies
from pileus.node.storage.place import Place, safe
from pileus.node.storage.protocol import VolumeGone, named
from pileus.node.storage.settings import FileSettings
from pileus.node.storage.tool import GIB, Source
from pileus.node.storage.volume import Volume


class FileStorage:
    """Implements `pileus.node.storage.protocol.Storage` with files of this node."""

    backend = "file"
    increments = False  # each backup is a file of its own

    def __init__(self, settings: FileSettings, images: ImageStore) -> None:
        self._place = Place(settings, images)
        self._volumes: dict[str, Volume] = {}

    async def start(self) -> None:
        """Find the volumes of an earlier agent. Raises NodeFault if volumes cannot be kept here, and says why."""
        await self._place.prepare()
        self._volumes = await adoption.adopt_all(self._place)
        self._place.later(self._watch())

    async def stop(self) -> None:
        await self._place.stop()
        for volume in self._volumes.values():
            await volume.daemon.let_go()
        self._volumes.clear()

    async def facts(self) -> StorageFacts:
        """Whole GiB, so that what is told changes seldom."""
        found = await asyncio.to_thread(os.statvfs, self._place.volumes)
        unit = found.f_frsize
        total, free = unit * found.f_blocks // GIB, unit * found.f_bavail // GIB
        return StorageFacts(backend=self.backend, total_gib=float(total), free_gib=float(free))

    async def _watch(self) -> None:
        """See to what is to be given out, should the end of a daemon not have been heard."""
        while True:
            await asyncio.sleep(self._place.settings.watch_interval)
            for volume in list(self._volumes.values()):
                if volume.given_out and not volume.daemon.running and not volume.lock.locked():
                    self._place.later(volume.see_to_it())

    @contextlib.asynccontextmanager
    async def _locked(self, volume_id: str) -> AsyncIterator[Volume]:
        """A volume that nobody else changes meanwhile. Raises VolumeGone."""
        volume = self._find(volume_id)
        async with volume.lock:
            if volume.gone:
                raise VolumeGone(f"volume {volume_id} was deleted meanwhile")
            yield volume

    def _find(self, volume_id: str) -> Volume:
        volume = self._volumes.get(volume_id)
        if volume is None or not volume.there():
            raise VolumeGone(f"volume {volume_id} is not on this node")
        return volume

    # ------------------------------------------------------------------------------- making, removing

    async def create(self, order: VolumeTask) -> None:
        async with self._new(order.volume_id) as volume:
            if volume is None:
                return
            async with contextlib.AsyncExitStack() as stack:
                source = await self._origin(order, stack)
                await copies.make(volume, order.size_gib * GIB, source)

    async def _origin(self, order: VolumeTask, stack: contextlib.AsyncExitStack) -> Source | None:
        if order.image is not None:
            return await copies.of_image(self._place, order.image)
        if order.snapshot_id is not None:
            parent = self._find(named(order.snapshot_of, "volume of the snapshot"))
            return await stack.enter_async_context(copies.of_volume(parent, order.snapshot_id))
        if order.source_volume_id is not None:
            return await stack.enter_async_context(copies.of_volume(self._find(order.source_volume_id)))
        return await copies.of_backup(self._place, order.backup_id) if order.backup_id is not None else None

    async def fetch(self, order: VolumeTask) -> None:
        if order.source is None:
            raise NodeFault(f"the task does not say where volume {order.volume_id} is")
        async with self._new(order.volume_id) as volume:
            if volume is not None:
                volume.files.directory.mkdir(mode=0o711, exist_ok=True)
                async with copies.of_export(volume, order.source, order.size_gib * GIB) as source:
                    await copies.make(volume, order.size_gib * GIB, source)

    @contextlib.asynccontextmanager
    async def _new(self, volume_id: str) -> AsyncIterator[Volume | None]:
        """A volume that is to be made: None if it is there, and nothing is left if that fails."""
        volume = self._volumes.setdefault(volume_id, Volume(self._place, volume_id))
        async with volume.lock:
            if volume.gone:
                raise VolumeGone(f"volume {volume_id} was deleted meanwhile")
            if volume.there():
                yield None
                return
            try:
                yield volume
            except BaseException:
                await asyncio.shield(self._remove(volume))
                raise

    async def delete(self, order: VolumeTask) -> None:
        volume = self._volumes.get(order.volume_id)
        if volume is None:
            return
        async with volume.lock:
            if not volume.gone:
                await self._remove(volume)

    async def _remove(self, volume: Volume) -> None:
        volume.record.port = 0
        await volume.daemon.kill()
        await asyncio.to_thread(volume.files.remove)
        volume.gone = True
        if self._volumes.get(volume.id) is volume:
            del self._volumes[volume.id]

    async def adopt(self, order: VolumeTask) -> None:
        old_id, new_id = named(order.source_volume_id, "volume to adopt"), safe(order.volume_id)
        known = self._volumes.get(new_id)
        if known is not None and known.there():
            return
        async with self._locked(old_id) as old:
            old.must_rest()
            if any(old.read.values()):
                raise NodeFault(f"volume {old_id} is being copied: try again when that is done")
            await asyncio.to_thread(os.rename, old.files.directory, self._place.volumes / new_id)
            old.gone = True
            del self._volumes[old_id]
            self._volumes[new_id] = Volume(self._place, new_id)

    async def extend(self, order: VolumeTask) -> None:
        """While it is given out its daemon is another one afterwards: a NBD export does not change its size."""
        size = order.size_gib * GIB
        async with self._locked(order.volume_id) as volume:
            now = await self._place.tool.size(volume.files.disk)
            if size < now:
                raise NodeFault(f"volume {volume.id} has {now / GIB:g} GiB and cannot shrink to {order.size_gib}")
            if size > now:
                try:
                    await volume.daemon.close()
                    await self._place.tool.resize(volume.files.disk, size)
                finally:
                    if volume.given_out:
                        await asyncio.shield(volume.open())
            if volume.record.size != size:
                volume.record.size = size
                await volume.save()

    # -------------------------------------------------------------------------------------- snapshots

    async def snapshot(self, order: VolumeTask) -> None:
        name = safe(named(order.snapshot_id, "snapshot"))
        async with self._locked(order.volume_id) as volume:
            await volume.change_snapshot(name, make=True)

    async def delete_snapshot(self, order: VolumeTask) -> None:
        """Waits for copies of it."""
        name = safe(named(order.snapshot_id, "snapshot"))
        try:
            volume = self._find(order.volume_id)
            async with volume.unread:
                await volume.unread.wait_for(lambda: not volume.read[name])
            async with self._locked(order.volume_id):
                if volume.read[name]:
                    raise NodeFault(f"snapshot {name} is being copied: try again when that is done")
                await volume.change_snapshot(name, make=False)
        except VolumeGone:
            return

    async def revert(self, order: VolumeTask) -> None:
        name = safe(named(order.snapshot_id, "snapshot"))
        async with self._locked(order.volume_id) as volume:
            volume.must_rest()
            if name not in await volume.snapshots():
                raise VolumeGone(f"volume {volume.id} has no snapshot {name} on this node")
            torn = await volume.tear()
            await self._place.tool.snapshot(volume.files.disk, "-a", name)
            await self._at_least(volume, volume.record.size)
            await volume.whole(torn)

    async def _at_least(self, volume: Volume, size: int) -> None:
        if await self._place.tool.size(volume.files.disk) < size:
            await self._place.tool.resize(volume.files.disk, size)

    # ------------------------------------------------------------------------------------- giving out

    async def export(self, order: VolumeTask) -> VolumeExport:
        secret = named(order.secret, "key to give the volume out with")
        async with self._locked(order.volume_id) as volume:
            known = await asyncio.to_thread(psk.read, volume.files.key)
            if not volume.given_out or (known, volume.record.read_only) != (secret, order.read_only):
                await volume.daemon.close()
                await self._promise(volume, secret, order.read_only)
            else:
                await volume.open()
            return VolumeExport(
                volume_id=volume.id, host=self._place.settings.host, port=volume.record.port, name=volume.id,
                secret=secret,
            )

    async def _promise(self, volume: Volume, secret: str, read_only: bool) -> None:
        """Record how it is given out, then do it; a promise that was never kept is taken back."""
        fresh, record = not volume.given_out, volume.record
        await asyncio.to_thread(psk.write, volume.files.key, secret, self._place.who)
        try:
            record.port, record.read_only = record.port or await asyncio.to_thread(self._free_port), read_only
            await volume.save()
            await volume.open()
        except BaseException:
            if fresh:
                await asyncio.shield(volume.withdraw())
            raise

    def _free_port(self) -> int:
        first, last = self._place.settings.ports
        taken = {volume.record.port for volume in self._volumes.values()}
        for port in range(first, last + 1):
            made = ports.bind(self._place.settings.host, port) if port not in taken else None
            if made is not None:
                made.close()
                return port
        raise NodeFault(f"the ports {first} to {last}, on which volumes are given out, are all in use: widen them")

    async def unexport(self, order: VolumeTask) -> None:
        with contextlib.suppress(VolumeGone):
            async with self._locked(order.volume_id) as volume:
                await volume.withdraw()

    # ------------------------------------------------------------------------------------------ copies

    async def upload(self, order: VolumeTask, target: Path) -> None:
        if order.disk_format not in ("raw", "qcow2"):
            raise NodeFault(f"a volume cannot be uploaded as '{order.disk_format}': use raw or qcow2")
        async with copies.of_volume(self._find(order.volume_id)) as source:
            await copies.give(self._place, source, order.disk_format, target)

    async def backup(self, order: VolumeTask) -> int:
        target = self._place.backup(named(order.backup_id, "backup"))
        if not target.exists():
            async with copies.of_volume(self._find(order.volume_id), order.snapshot_id) as source:
                return await copies.keep(self._place, source, target)
        return target.stat().st_size

    async def restore(self, order: VolumeTask) -> None:
        """Into the file as it is, so that its snapshots stay; told again after being cut off, all is written anew."""
        await self._overwrite(order, await copies.of_backup(self._place, named(order.backup_id, "backup")))

    async def reimage(self, order: VolumeTask) -> None:
        if order.image is None:
            raise NodeFault(f"the task does not say which image is to be on volume {order.volume_id}")
        await self._overwrite(order, await copies.of_image(self._place, order.image))

    async def _overwrite(self, order: VolumeTask, source: Source) -> None:
        async with self._locked(order.volume_id) as volume:
            volume.must_rest()
            size = max(order.size_gib * GIB, source.size, volume.record.size)
            torn = await volume.tear()
            if await self._place.tool.size(volume.files.disk) > source.size:
                # Behind the end of what is copied there is nothing, not what there was.
                await self._place.tool.resize(volume.files.disk, source.size, shrink=True)
            await self._at_least(volume, size)
            await self._place.tool.copy(source, volume.files.disk, blank=False)
            volume.record.size = size
            await volume.whole(torn)
            await volume.save()

    async def delete_backup(self, order: VolumeTask) -> None:
        target = self._place.backup(named(order.backup_id, "backup"))
        await asyncio.to_thread(target.unlink, missing_ok=True)
