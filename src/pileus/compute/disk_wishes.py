"""The disks that are asked for with a new server, in whichever form: read, and each by itself not senseless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from pileus.compute.devices import SWAP
from pileus.compute.schemas import ImageFacts, NewServer
from pileus.compute.schemas_volumes import BlockDevice, ImageDevice, OldBlockDevice
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.web.call import Call

INVALID = "Block Device Mapping is Invalid: "
_TO_VOLUME = ("volume", "snapshot")


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to be. Sizes in GiB, of swap in MiB; 0: as large as what it is made from, or as the flavor says."""

    source_type: str
    destination_type: str
    source_id: str | None = None
    size: int = 0
    boot_index: int | None = None
    delete_on_termination: bool = False
    device_name: str | None = None
    guest_format: str | None = None
    tag: str | None = None
    volume_type: str | None = None

    @property
    def is_volume(self) -> bool:
        return self.destination_type == "volume"

    @property
    def is_root(self) -> bool:
        return self.boot_index == 0


def read(call: Call, asked: NewServer, image: ImageFacts | None) -> list[Disk]:
    """The disks as they were asked for, and those that the image brings with it."""
    of_image = _of_image(image)
    root_of_image = any(disk.is_root for disk in of_image)
    own = Disk(source_type="image", destination_type="local", boot_index=0, source_id=image.id if image else None)
    if asked.block_device_mapping:
        found = _old(asked.block_device_mapping, image)
        if image is not None and not any(disk.is_root for disk in found):
            found = [own, *found]
    elif asked.block_device_mapping_v2:
        found = [_new(call, one, image) for one in asked.block_device_mapping_v2 if not one.no_device]
    else:
        found = [own]
    if root_of_image:
        # Clients put the image itself in as the root disk, which it has none of.
        found = [disk for disk in found if not (disk.is_root and disk.source_type == "image")]
    named = {disk.device_name for disk in found if disk.device_name}
    return [*(disk for disk in of_image if disk.device_name not in named), *found]


def _of_image(image: ImageFacts | None) -> list[Disk]:
    text = image.properties.get("block_device_mapping") if image is not None else None
    if not text:
        return []
    try:
        listed = msgspec.json.decode(text, type=list[ImageDevice])
    except msgspec.MsgspecError as error:
        raise BadRequest(f"{INVALID}the image's property block_device_mapping cannot be read: {error}") from None
    return [
        Disk(
            source_type=one.source_type or ("snapshot" if one.snapshot_id else "volume"), destination_type="volume",
            source_id=one.snapshot_id or one.volume_id, size=one.volume_size or 0, boot_index=one.boot_index,
            delete_on_termination=one.delete_on_termination, device_name=one.device_name,
            volume_type=one.volume_type, tag=one.tag,
        )
        for one in listed if not one.no_device and one.destination_type == "volume"
    ]


def _new(call: Call, one: BlockDevice, image: ImageFacts | None) -> Disk:
    source = one.source_type
    if source is None:
        raise BadRequest(f"{INVALID}Unrecognized format: source_type is missing.")
    target = one.destination_type or ("volume" if source in _TO_VOLUME else "local")
    if source == "blank" and one.uuid:
        raise BadRequest(f"{INVALID}Invalid device UUID.")
    if source != "blank" and not one.uuid:
        raise BadRequest(f"{INVALID}Missing device UUID.")
    boot_index = None if one.boot_index is None else int(one.boot_index)
    if target == "local" and source in _TO_VOLUME:
        raise BadRequest(f"{INVALID}Mapping {source} to local is not supported.")
    if (source, target) == ("image", "local") and (image is None or boot_index != 0 or one.uuid != image.id):
        raise BadRequest(f"{INVALID}Mapping image to local is not supported.")
    version = call.version or (2, 1)
    if one.tag is not UNSET and (2, 33) <= version < (2, 42):
        raise BadRequest("Invalid input: additional properties are not allowed ('tag' was unexpected)")
    return Disk(
        source_type=source, destination_type=target, source_id=one.uuid, size=int(one.volume_size or 0),
        boot_index=boot_index, delete_on_termination=_flag(one.delete_on_termination), device_name=one.device_name,
        guest_format=one.guest_format, tag=None if one.tag is UNSET else one.tag,
        volume_type=None if one.volume_type is UNSET else one.volume_type,
    )


def _flag(value: Any) -> bool:
    return value is not None and as_bool(value)


def _old(given: Sequence[OldBlockDevice], image: ImageFacts | None) -> list[Disk]:
    """The older form: what is called as the root disk is that; without an image, the first that can be."""
    found = [_old_disk(one) for one in given if not one.no_device]
    root = image.properties.get("root_device_name", "vda") if image is not None else "vda"
    at = next((
        n for n, disk in enumerate(found)
        if disk.source_type != "blank" and (disk.device_name or "").removeprefix("/dev/") == root.removeprefix("/dev/")
    ), None)
    if at is None and image is None:
        at = next((n for n, disk in enumerate(found) if disk.source_type != "blank"), None)
    return [msgspec.structs.replace(disk, boot_index=0 if n == at else None) for n, disk in enumerate(found)]


def _old_disk(one: OldBlockDevice) -> Disk:
    common: dict[str, Any] = {
        "size": int(one.volume_size or 0), "delete_on_termination": _flag(one.delete_on_termination),
        "device_name": one.device_name,
    }
    if one.snapshot_id:
        return Disk(source_type="snapshot", destination_type="volume", source_id=one.snapshot_id, **common)
    if one.volume_id:
        return Disk(source_type="volume", destination_type="volume", source_id=one.volume_id, **common)
    if one.virtual_name and one.virtual_name.startswith((SWAP, "ephemeral")):
        swap = one.virtual_name == SWAP
        return Disk(
            source_type="blank", destination_type="local", guest_format=SWAP if swap else None, **common
        )
    raise BadRequest(f"{INVALID}Unrecognized legacy format.")
