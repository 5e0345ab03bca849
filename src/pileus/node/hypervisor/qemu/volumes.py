"""Volumes: always given to QEMU over QMP, for their connections may hold credentials."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import NodeFault, ServerSpec, VolumeSpec
from pileus.node.hypervisor.qemu import psk
from pileus.node.hypervisor.qemu.disks import volume_blockdev, volume_device, volume_key, volume_node
from pileus.node.hypervisor.qemu.monitor import Monitor, QmpError
from pileus.node.hypervisor.qemu.settings import Account
from pileus.node.hypervisor.qemu.unplug import unplug
from pileus.threads import to_its_end

FIRST_SCSI, LAST_SCSI = 16, 255  # ids on the SCSI controller, of which local disks have the first
VIRTIO_SERIAL = 20  # bytes that virtio-blk has for it
NUDGE = "qemu-io {} \"read 0 512\""


class Keys(msgspec.Struct, frozen=True):
    """Where the keys of a guest's volumes are while QEMU reads them, and whose they are then."""

    folder: Path
    who: Account


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
    monitor: Monitor, volume: VolumeSpec, slot: int | None, keys: Keys, *, bootable: bool = False,
    scsi_id: int | None = None,
) -> None:
    """Give a guest a volume. Raises NodeFault; then nothing of it is left in QEMU."""
    await open_node(monitor, volume, keys)
    try:
        await monitor.execute("device_add", **device(volume, slot, bootable=bootable, scsi_id=scsi_id))
    except BaseException:
        await asyncio.shield(close(monitor, volume.volume_id))
        raise


async def open_node(monitor: Monitor, volume: VolumeSpec, keys: Keys) -> None:
    """Let QEMU open a volume. Raises NodeFault; then nothing of it is left in QEMU."""
    # An attach or detach that was cut off may have left the node.
    await close(monitor, volume.volume_id)
    try:
        if volume.secret:
            await _give_key(monitor, volume, keys)
        await monitor.execute("blockdev-add", **volume_blockdev(volume))
    except QmpError as error:
        await asyncio.shield(close(monitor, volume.volume_id))
        raise NodeFault(f"volume {volume.volume_id} could not be opened: {error.reason}") from None
    except BaseException:
        with contextlib.suppress(NodeFault):
            await asyncio.shield(close(monitor, volume.volume_id))
        raise


async def _give_key(monitor: Monitor, volume: VolumeSpec, keys: Keys) -> None:
    """QEMU reads it once, when it makes the object; then it is nowhere but in its memory."""
    folder = keys.folder / volume_node(volume.volume_id)
    try:
        await to_its_end(_write_key, keys, folder, volume.secret)
        await monitor.execute(
            "object-add", qom_type="tls-creds-psk", id=volume_key(volume.volume_id), dir=str(folder),
            endpoint="client", username=psk.USER,
        )  # fmt: skip
    finally:
        await asyncio.shield(asyncio.to_thread(psk.remove, folder))


def _write_key(keys: Keys, folder: Path, secret: str) -> None:
    keys.folder.mkdir(mode=0o711, exist_ok=True)
    psk.write(folder, secret, keys.who)


async def remove(monitor: Monitor, volume_id: str, shown: str, within: float) -> None:
    """Take a volume, which QEMU shows by the device `shown`, out of a running guest. Raises NodeFault if the guest does
    not let go."""
    await unplug(monitor, shown, within)
    await close(monitor, volume_id)


async def close(monitor: Monitor, volume_id: str) -> None:
    """Let QEMU close a volume that no device uses; missing is fine. Raises NodeFault if it is still in use."""
    for attempt in range(20):
        try:
            await monitor.execute("blockdev-del", node_name=volume_node(volume_id))
        except QmpError as error:
            if "Failed to find node" in error.reason:
                break
            if attempt == 19:
                raise
            # The device is gone for the guest a moment before it lets go of the node.
            await asyncio.sleep(0.05)
        else:
            break
    with contextlib.suppress(QmpError):  # there is none without a secret
        await monitor.execute("object-del", id=volume_key(volume_id))


async def size_of(monitor: Monitor, volume_id: str) -> int:
    """How large QEMU takes a volume to be, in bytes. Raises NodeFault if it does not have it."""
    for node in await monitor.execute("query-named-block-nodes", flat=True):
        if node.get("node-name") == volume_node(volume_id):
            return int(node["image"]["virtual-size"])
    raise NodeFault(f"the guest does not have volume {volume_id}: attach it first")


async def grow(monitor: Monitor, volume_id: str) -> None:
    """Let a guest see that a volume has become larger where it is kept. Raises NodeFault.

    What gives it out cut the connections when it grew, and QEMU's client asks for the size whenever it connects, which
    it does when there is something to read; `block_resize` then takes that size over and tells the guest."""
    now = await size_of(monitor, volume_id)
    await monitor.execute("human-monitor-command", command_line=NUDGE.format(volume_node(volume_id)))
    await monitor.execute("block_resize", node_name=volume_node(volume_id), size=now)
