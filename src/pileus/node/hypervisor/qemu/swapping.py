"""Putting one volume in the place of another while the guest goes on: a mirror, then the device turns to the copy."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from pileus.node.contract import NodeFault, Progress, VolumeSpec
from pileus.node.hypervisor.qemu import volumes
from pileus.node.hypervisor.qemu.disks import volume_device, volume_node
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.monitor import Event, Monitor, QmpError
from pileus.node.hypervisor.qemu.unplug import plugged

JOB = "swap"
STALLED = 300.0
"""Seconds without progress after which a swap is given up."""
DONE = ("pending", "concluded", "null")


async def swap(guest: Guest, volume_id: str, volume: VolumeSpec, progress: Progress | None) -> None:
    """Swap in a guest that runs. The caller holds the lock and records it. Raises NodeFault; it is as before then."""
    monitor = guest.qmp()
    if await _in_place(monitor, volume.volume_id):  # told again, after the device had turned
        return await _finish(guest, monitor, volume_id, volume)
    await _clear(monitor)
    old = await volumes.size_of(monitor, volume_id)
    await volumes.open_node(monitor, volume, guest.keys)
    try:
        new = await volumes.size_of(monitor, volume.volume_id)
        if new < old:
            raise NodeFault(f"volume {volume.volume_id} has {new} bytes, and {volume_id} has {old}: take a larger one")
        await _mirror(monitor, volume_id, volume.volume_id, progress)
    except BaseException:
        with contextlib.suppress(NodeFault):
            await asyncio.shield(_take_back(monitor, volume.volume_id))
        raise
    await _finish(guest, monitor, volume_id, volume)


async def _mirror(monitor: Monitor, volume_id: str, new_id: str, progress: Progress | None) -> None:
    options = {"sync": "full", "copy_mode": "write-blocking", "auto_dismiss": False}
    source, target = volume_node(volume_id), volume_node(new_id)
    await monitor.execute("blockdev-mirror", job_id=JOB, device=source, target=target, **options)
    await _until(monitor, ("ready",), progress)
    await monitor.execute("job-complete", id=JOB)
    await _until(monitor, DONE, progress)


async def _until(monitor: Monitor, wanted: tuple[str, ...], progress: Progress | None) -> None:
    """Wait until the mirror is in one of these states. Raises NodeFault if it failed or does nothing."""

    def changed(name: str, data: Event) -> bool:
        return name == "JOB_STATUS_CHANGE" and data["id"] == JOB

    last, since = -1, time.monotonic()
    while True:
        async with monitor.expect(changed) as change:
            job = await _job(monitor)
            if job is None or job.get("error") or (job["status"] == "concluded" and "concluded" not in wanted):
                raise NodeFault(f"the volume could not be copied: {(job or {}).get('error', 'the copy ended')}")
            if job["status"] in wanted:
                return
            if progress is not None:
                progress("swap", job["current-progress"], job["total-progress"])
            if job["current-progress"] != last:
                last, since = job["current-progress"], time.monotonic()
            elif time.monotonic() - since > STALLED:
                raise NodeFault(f"the copy of the volume made no progress for {STALLED:.0f} seconds")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(change), 1.0)


async def _job(monitor: Monitor) -> dict[str, Any] | None:
    return next((dict(job) for job in await monitor.execute("query-jobs") if job["id"] == JOB), None)


async def _in_place(monitor: Monitor, volume_id: str) -> bool:
    """Whether a device of the guest stands on this volume."""
    found = await monitor.execute("query-block")
    return any(
        one.get("inserted", {}).get("node-name") == volume_node(volume_id) and one.get("qdev") for one in found
    )


async def _clear(monitor: Monitor) -> None:
    """Remove a mirror that was cut off, or has ended."""
    for _ in range(500):
        job = await _job(monitor)
        if job is None:
            return
        with contextlib.suppress(QmpError):
            if job["status"] == "concluded":
                await monitor.execute("job-dismiss", id=JOB)
            else:
                await monitor.execute("block-job-cancel", device=JOB, force=True)
        await asyncio.sleep(0.02)


async def _take_back(monitor: Monitor, new_id: str) -> None:
    await _clear(monitor)
    if not await _in_place(monitor, new_id):
        await volumes.close(monitor, new_id)


async def _finish(guest: Guest, monitor: Monitor, volume_id: str, volume: VolumeSpec) -> None:
    """The guest has the new one. QEMU goes on to call its device by the old one's name, so that is recorded."""
    old, new, record = volume_device(volume_id), volume_device(volume.volume_id), guest.record
    if new not in record.shown and await plugged(monitor, guest.shown(old)):
        record.shown[new] = record.shown.pop(old, old)
        for places in (record.slots, record.scsi):
            if old in places:
                places[new] = places.pop(old)
    others = [known for known in guest.spec.volumes if known.volume_id not in (volume_id, volume.volume_id)]
    await guest.change(volumes=(*others, volume))
    await _clear(monitor)
    await volumes.close(monitor, volume_id)
