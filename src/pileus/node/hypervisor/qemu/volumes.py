"""Volumes: always given to QEMU over QMP, for their connections may hold credentials."""

from __future__ import annotations

import asyncio
from typing import Any

from pileus.node.contract import NodeFault, ServerSpec, VolumeSpec
from pileus.node.hypervisor.qemu.disks import volume_blockdev, volume_device, volume_node
from pileus.node.hypervisor.qemu.monitor import Monitor, QmpError
from pileus.node.hypervisor.qemu.unplug import unplug

FIRST_SCSI, LAST_SCSI = 16, 255  # ids on the SCSI controller, of which local disks have the first
VIRTIO_SERIAL = 20  # bytes that virtio-blk has for it


def device(
    volume: VolumeSpec, slot: int | None, *, bootable: bool, scsi_id: int | None = None
) -> dict[str, Any]:
    """A volume's disk as device_add takes it; no slot: on the SCSI controller."""
    serial = volume.serial or volume.volume_id
    found: dict[str, Any] = {"id": volume_device(volume.volume_id), "drive": volume_node(volume.volume_id)}
    if slot is None:
        found |= {"driver": "scsi-hd", "bus": "scsi0.0", "serial": serial}
        if scsi_id is not None:
            found["scsi-id"] = scsi_id
    else:
        found |= {"driver": "virtio-blk-pci", "bus": f"port{slot}", "serial": serial[:VIRTIO_SERIAL]}
    if bootable and volume.boot_index is not None and volume.boot_index >= 0:
        # Root and rescue disk have 1 and 0.
        found["bootindex"] = volume.boot_index + 1
    return found


def in_order(spec: ServerSpec) -> list[VolumeSpec]:
    """A guest's volumes as it shall find them: that from which it boots first."""
    return sorted(spec.volumes, key=lambda volume: (volume.boot_index is None, volume.boot_index or 0))


async def plug(
    monitor: Monitor, volume: VolumeSpec, slot: int | None, *, bootable: bool = False, scsi_id: int | None = None
) -> None:
    """Give a guest a volume. Raises NodeFault; then nothing of it is left in QEMU."""
    # An attach or detach that was cut off may have left the node.
    await close(monitor, volume.volume_id)
    try:
        await monitor.execute("blockdev-add", **volume_blockdev(volume))
    except QmpError as error:
        raise NodeFault(f"volume {volume.volume_id} could not be opened: {error.reason}") from None
    try:
        await monitor.execute("device_add", **device(volume, slot, bootable=bootable, scsi_id=scsi_id))
    except NodeFault:
        await close(monitor, volume.volume_id)
        raise


async def remove(monitor: Monitor, volume_id: str, within: float) -> None:
    """Take a volume out of a running guest. Raises NodeFault if the guest does not let go."""
    await unplug(monitor, volume_device(volume_id), within)
    await close(monitor, volume_id)


async def close(monitor: Monitor, volume_id: str) -> None:
    """Let QEMU close a volume that no device uses; missing is fine. Raises NodeFault if it is still in use."""
    for attempt in range(20):
        try:
            await monitor.execute("blockdev-del", node_name=volume_node(volume_id))
        except QmpError as error:
            if "Failed to find node" in error.reason:
                return
            if attempt == 19:
                raise
            # The device is gone for the guest a moment before it lets go of the node.
            await asyncio.sleep(0.05)
        else:
            return
