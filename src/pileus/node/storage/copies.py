"""Copies of volumes and into volumes: each from something that holds still, and complete or not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from pileus.node.contract import ImageRef, NodeFault, VolumeExport
from pileus.node.hypervisor.qemu import psk
from pileus.node.hypervisor.qemu.commandline import json_safe
from pileus.node.hypervisor.qemu.files import own
from pileus.node.hypervisor.qemu.imagetool import Fresh
from pileus.node.storage.place import Place
from pileus.node.storage.tool import Source, file_device
from pileus.node.storage.volume import COPY, Volume


async def of_image(place: Place, image: ImageRef) -> Source:
    """An image, as its format was found to be. Raises NodeFault."""
    path = await place.images.path(image)
    size = image.virtual_size or await place.tool.size(path, image.disk_format)
    return Source(device=file_device(path, image.disk_format), size=size, name=f"image {image.id}")


@contextlib.asynccontextmanager
async def of_volume(volume: Volume, snapshot_id: str | None = None) -> AsyncIterator[Source]:
    """A volume as it is at this moment, or as its snapshot is, which stays as long as it is read. Raises NodeFault."""
    name = snapshot_id or f"{COPY}{uuid.uuid4()}"
    async with volume.lock:
        if volume.gone:
            raise NodeFault(f"volume {volume.id} was deleted meanwhile")
        if snapshot_id is None:
            volume.record.copied = True
            await volume.save()
            await volume.change_snapshot(name, make=True)
        elif name not in await volume.snapshots():
            raise NodeFault(f"volume {volume.id} has no snapshot {name} on this node")
        volume.read[name] += 1
        size = await volume.place.tool.size(volume.files.disk)
    try:
        yield Source(
            device=file_device(volume.files.disk, "qcow2"), size=size, snapshot=name,
            name=f"snapshot {name}" if snapshot_id else f"volume {volume.id}",
        )
    finally:
        await asyncio.shield(_read(volume, name, remove=snapshot_id is None))


async def _read(volume: Volume, name: str, *, remove: bool) -> None:
    async with volume.unread:
        volume.read[name] -= 1
        volume.unread.notify_all()
    async with volume.lock:
        if remove and not volume.gone:
            await volume.change_snapshot(name, make=False)
            if not any(count for each, count in volume.read.items() if each.startswith(COPY)):
                volume.record.copied = False
                await volume.save()


async def of_backup(place: Place, backup_id: str) -> Source:
    """A backup. Raises NodeFault."""
    path = place.backup(backup_id)
    if not path.exists():
        raise NodeFault(f"backup {backup_id} is not on this node")
    return Source(device=file_device(path, "qcow2"), size=await place.tool.size(path), name=f"backup {backup_id}")


@contextlib.asynccontextmanager
async def of_export(volume: Volume, export: VolumeExport, size: int) -> AsyncIterator[Source]:
    """What another node gives out. Raises NodeFault."""
    key = volume.files.fetching
    await asyncio.to_thread(psk.write, key, export.secret, volume.place.who)
    server = {"type": "inet", "host": export.host, "port": str(export.port)}
    nbd = {"driver": "nbd", "server": server, "export": export.name, "tls-creds": "tls"}
    credentials = f"tls-creds-psk,id=tls,endpoint=client,username={psk.USER},dir={json_safe(str(key))}"
    try:
        yield Source(
            device={"driver": "raw", "file": nbd}, size=size, objects=(credentials,),
            name=f"volume {export.volume_id} from {export.host}",
        )
    finally:
        await asyncio.to_thread(psk.remove, key)


async def make(volume: Volume, size: int, source: Source | None) -> None:
    """Make a volume that is not there. It is when this returns. Raises NodeFault."""
    place = volume.place
    volume.files.directory.mkdir(mode=0o711, exist_ok=True)
    with Fresh(volume.files.disk, place.who) as fresh:
        # With a snapshot it is the volume's size now that qemu-img goes by, not that of then.
        room = size if source is None or not source.snapshot else max(size, source.size)
        if source is not None and source.size > room:
            raise NodeFault(
                f"{source.name} has {source.size} bytes, and volume {volume.id} shall have {size}: ask for a larger one"
            )
        await place.tool.create(fresh, room)
        if source is not None:
            await place.tool.copy(source, fresh, blank=True)
        if room > size:
            await place.tool.resize(fresh, size, shrink=True)
        volume.record.size = size
        await volume.save()


async def keep(place: Place, source: Source, target: Path) -> int:
    """Write a packed copy under its name. Returns its bytes. Raises NodeFault."""
    with Fresh(target, place.who) as fresh:
        await place.tool.write(source, "qcow2", str(fresh), packed=True)
    return (await asyncio.to_thread(target.stat)).st_size


async def give(place: Place, source: Source, form: str, target: Path) -> None:
    """Write a copy into a file of ours, which the storage account may write to as long as that takes."""
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        own(target, place.who)
        await place.tool.write(source, form, f"/dev/fd/{fd}", fd=fd)
        os.fchown(fd, os.geteuid(), os.getegid())
        await asyncio.to_thread(os.fsync, fd)
    except BaseException:
        await asyncio.to_thread(target.unlink, missing_ok=True)
        raise
    finally:
        os.close(fd)
