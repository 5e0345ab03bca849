"""The disks that a new server gets: `block_device_mapping_v2`, the older form of it, and what an image says.

First all of it is looked up and checked (`plan`); then, for each server, the rows and volumes are made (`make`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import boot_images, devices, disk_wishes, names
from pileus.compute.devices import GIVING, LOCAL, MAKING, SWAP
from pileus.compute.disk_wishes import INVALID, Disk
from pileus.compute.schemas import FlavorFacts, ImageFacts, NewServer
from pileus.volume import attachments, snapshots, volumes
from pileus.volume.faults import OverLimit
from pileus.web.errors import BadRequest, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.volume.volumes import VolumeInfo
    from pileus.web.call import Call

_MOST_LOCAL = 3


class Boot(msgspec.Struct, frozen=True):
    """What servers boot from, and their other disks."""

    image: ImageFacts
    disks: tuple[Disk, ...]  # without a root disk that is plainly of the image

    @property
    def has_volumes(self) -> bool:
        return any(disk.is_volume for disk in self.disks)

    @property
    def makes_volumes(self) -> bool:
        return any(disk.is_volume and disk.source_type != "volume" for disk in self.disks)


# -- what is asked for


def plan(call: Call, asked: NewServer, flavor: FlavorFacts, count: int) -> Boot:
    """What the servers of a request boot from. Raises BadRequest, with Nova's words."""
    if asked.block_device_mapping and asked.block_device_mapping_v2:
        raise BadRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
    image_id = names.last_part(asked.image)
    if image_id and not boot_images.is_uuid(image_id):
        raise BadRequest(f"Invalid input for field/attribute imageRef. Value: {asked.image}. It is not a UUID.")
    given = asked.block_device_mapping or asked.block_device_mapping_v2
    if not image_id and not given:
        raise BadRequest("Missing imageRef attribute")
    if given:
        call.enforce("os_compute_api:servers:create:attach_volume", project_id=call.context.project_id)
    image = boot_images.boot_image(call, image_id, mapped=True) if image_id else None
    found = disk_wishes.read(call, asked, image)
    if count > 1 and any(disk.source_type == "volume" for disk in found):
        raise BadRequest("Cannot attach one or more volumes to multiple instances")
    _check_order(found)
    checked = [_checked(call, disk) for disk in found]
    _check_local(flavor, checked)
    root = next(disk for disk in checked if disk.is_root)
    return Boot(_root_image(call, image, root), tuple(disk for disk in checked if not _is_plain(disk)))


def _is_plain(disk: Disk) -> bool:
    return disk.is_root and not disk.is_volume and disk.tag is None


# -- whether it can be


def _check_order(found: list[Disk]) -> None:
    indexes = sorted(disk.boot_index for disk in found if disk.boot_index is not None and disk.boot_index >= 0)
    if not indexes or indexes != list(range(len(indexes))):
        raise BadRequest(
            f"{INVALID}Boot sequence for the instance and image/block device mapping combination is not valid."
        )


def _check_local(flavor: FlavorFacts, found: list[Disk]) -> None:
    local = [disk for disk in found if not disk.is_volume]
    blank = [disk for disk in local if disk.source_type == "blank"]
    swaps = [disk for disk in blank if disk.guest_format == SWAP]
    ephemeral = [disk.size or flavor.ephemeral for disk in blank if disk.guest_format != SWAP]
    if len(local) > _MOST_LOCAL:
        raise BadRequest(f"{INVALID}You specified more local devices than the limit allows")
    if len(swaps) > 1:
        raise BadRequest(f"{INVALID}More than one swap drive requested.")
    if swaps and swaps[0].size > flavor.swap:
        raise BadRequest(f"{INVALID}Swap drive requested is larger than instance type allows.")
    if sum(ephemeral) > flavor.ephemeral:
        raise BadRequest(
            f"{INVALID}Ephemeral disks requested are larger than the instance type allows. If no size is given in one "
            "block device mapping, flavor ephemeral size will be used."
        )
    if len(ephemeral) > 1:
        raise BadRequest(f"{INVALID}a server has one ephemeral disk at most here; ask for one as large as all of them.")


def _checked(call: Call, disk: Disk) -> Disk:
    """The disk with its size. Raises BadRequest where it cannot be made."""
    if not disk.is_volume:
        return disk
    if disk.source_type == "volume":
        return msgspec.structs.replace(disk, size=_volume(call, disk).size_gib)
    if disk.source_type == "snapshot":
        return msgspec.structs.replace(disk, size=disk.size or _snapshot(call, disk).size_gib)
    if disk.size == 0:
        kind = "Images with destination_type 'volume'" if disk.source_type == "image" else (
            "Blank volumes (source: 'blank', dest: 'volume')"
        )
        raise BadRequest(f"{INVALID}{kind} need to have a non-zero size specified")
    return disk


def _volume(call: Call, disk: Disk) -> VolumeInfo:
    assert disk.source_id is not None
    try:
        found = volumes.get_visible(call.tx, call.context, disk.source_id)
    except NotFound:
        raise BadRequest(f"{INVALID}failed to get volume {disk.source_id}.") from None
    check_multiattach(call, found)
    return found


def check_multiattach(call: Call, found: VolumeInfo) -> None:
    """Raises BadRequest in versions that do not know volumes which several servers have."""
    if found.multiattach and (call.version or (2, 1)) < (2, 60):
        raise BadRequest("Multiattach volumes are only supported starting with compute API version 2.60.")


def _snapshot(call: Call, disk: Disk) -> snapshots.SnapshotInfo:
    assert disk.source_id is not None
    try:
        return snapshots.get_visible(call.tx, call.context, disk.source_id)
    except NotFound:
        raise BadRequest(f"{INVALID}failed to get snapshot {disk.source_id}.") from None


def _root_image(call: Call, image: ImageFacts | None, root: Disk) -> ImageFacts:
    """What is known of the image that the servers boot, wherever its bytes are."""
    if not root.is_volume:
        assert image is not None
        if not image.sha512:
            raise BadRequest(f"{INVALID}image {image.id} has no content, and its mapping no root disk.")
        return image
    return boot_images.on_volume(_image_on(call, image, root))


def _image_on(call: Call, image: ImageFacts | None, root: Disk) -> ImageFacts:
    assert root.source_id is not None or root.source_type == "blank"
    if root.source_type == "image":
        found = boot_images.volume_image(call, str(root.source_id))
        least = max(found.min_disk << 30, found.virtual_size)
        if least > root.size << 30:
            raise BadRequest(
                "Volume is smaller than the minimum size specified in image metadata. Volume size is "
                f"{root.size << 30} bytes, minimum size is {least} bytes."
            )
        return found
    if root.source_type == "blank":
        return image or boot_images.NOTHING
    if root.source_type == "snapshot":
        of = volumes.info(call.tx, _snapshot(call, root).volume_id)
    else:
        of = _volume(call, root)
    if of is not None and not of.bootable:
        raise BadRequest(f"{INVALID}Boot source {root.source_id}: volume {of.id} is not bootable.")
    return image or boot_images.of_volume(of)


# -- making


def make(call: Call, server_id: str, flavor: FlavorFacts, boot: Boot) -> list[Any]:
    """The rows of a server's disks, with volumes made and taken; those that wait are told to go on by the volume room.

    Raises what a user shall see of volumes that cannot be had, and placing.NoPlace."""
    local_root = not boot.image.volume
    for disk in sorted(boot.disks, key=lambda disk: (not disk.is_root, disk.is_volume)):
        there = devices.of_server(call.tx, server_id)
        device = "/dev/vda" if disk.is_root else _name(flavor, there, local_root, disk)
        common: dict[str, Any] = {
            "server_id": server_id, "source_type": disk.source_type, "destination_type": disk.destination_type,
            "source_id": disk.source_id, "boot_index": disk.boot_index if (disk.boot_index or 0) >= 0 else None,
            "delete_on_termination": disk.delete_on_termination if disk.is_volume else True, "tag": disk.tag,
            "guest_format": disk.guest_format, "device": device, "request_id": call.request_id,
        }
        if disk.is_volume:
            devices.add(call.tx, call.cloud, **common, **_had(call, server_id, disk), size=disk.size)
        else:
            devices.add(call.tx, call.cloud, **common, state=LOCAL, size=_local_size(flavor, disk))
    return list(devices.of_server(call.tx, server_id))


def _name(flavor: FlavorFacts, there: Sequence[Any], local_root: bool, disk: Disk) -> str:
    if disk.is_volume:
        return devices.next_name(flavor, there, local_root)
    kinds = devices.local_names(flavor, there, local_root)
    kind = SWAP if disk.guest_format == SWAP else "ephemeral0"
    return kinds.get(kind) or devices.next_name(flavor, there, local_root)


def _local_size(flavor: FlavorFacts, disk: Disk) -> int:
    if disk.source_type != "blank":
        return flavor.disk
    return disk.size or (flavor.swap if disk.guest_format == SWAP else flavor.ephemeral)


def _had(call: Call, server_id: str, disk: Disk) -> dict[str, Any]:
    """A volume for a disk, taken for the server; as columns of the row."""
    try:
        if disk.source_type == "volume":
            assert disk.source_id is not None
            attachment_id = attachments.reserve(call, disk.source_id, server_id)
            return {"state": GIVING, "volume_id": disk.source_id, "attachment_id": attachment_id}
        made = volumes.make(
            call, name="", size_gib=disk.size, volume_type=disk.volume_type, description="",
            image_id=disk.source_id if disk.source_type == "image" else None,
            snapshot_id=disk.source_id if disk.source_type == "snapshot" else None,
        )
        attachment_id = attachments.reserve(call, made.id, server_id, fresh=True)
        return {"state": MAKING, "volume_id": made.id, "attachment_id": attachment_id, "own": True}
    except OverLimit as problem:
        raise Forbidden(problem.message) from None
    except (NotFound, BadRequest) as problem:
        raise BadRequest(problem.message) from None


def begin(call: Call, made: Sequence[Any], host: str) -> None:
    """Have the volumes given out that are there already, as soon as the server's row is written."""
    for device in made:
        if device.state == GIVING:
            attachments.connect(call.tx, call.cloud, device.attachment_id, host, call.request_id)
