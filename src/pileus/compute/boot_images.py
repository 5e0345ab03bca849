"""The image that a server boots, wherever its bytes are: at the image service, or on a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pileus.compute import spec
from pileus.compute.schemas import ImageFacts
from pileus.image import images
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.image.images import ImageInfo
    from pileus.volume.volumes import VolumeInfo
    from pileus.web.call import Call

NOTHING = ImageFacts(id="", disk_format="", size=0, sha512="")
"""What is known of a blank volume."""

_OWN = frozenset({
    "image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size", "kernel_id",
    "ramdisk_id",
})
"""Keys of a volume's image metadata that are no properties of the image."""


def is_uuid(text: str) -> bool:
    """Whether a text can be the id of an image."""
    plain = text.replace("-", "").lower()
    return len(plain) == 32 and not set(plain) - set("0123456789abcdef")


def boot_image(call: Call, image_id: str, *, mapped: bool = False) -> ImageFacts:
    """An image that the caller may boot; `mapped`: also one without bytes, which only names snapshots of volumes.

    Raises BadRequest when it is unknown or not ready."""
    info = _visible(call, image_id)
    if info.size or not info.properties.get("block_device_mapping"):
        return spec.image_facts(info)
    if not mapped:
        raise BadRequest(f"Image {image_id} has no content of its own: it is of a server that boots from a volume.")
    return _mapped(info)


def volume_image(call: Call, image_id: str) -> ImageFacts:
    """An image that the caller may have a volume made of. Raises BadRequest."""
    try:
        return boot_image(call, image_id)
    except BadRequest:
        raise BadRequest(f"Block Device Mapping is Invalid: failed to get image {image_id}.") from None


def _visible(call: Call, image_id: str) -> ImageInfo:
    try:
        info = images.get_visible(call.tx, call.context, image_id)
    except NotFound:
        raise BadRequest("Can not find requested image") from None
    if info.status != "active":
        raise BadRequest(f"Image {image_id} is not active: it is {info.status}.")
    return info


def _mapped(info: ImageInfo) -> ImageFacts:
    """An image without bytes: it only says of which snapshots the disks are made."""
    return ImageFacts(
        id=info.id, disk_format="", size=0, sha512="", min_disk=info.min_disk or 0, min_ram=info.min_ram or 0,
        properties={str(k): str(v) for k, v in info.properties.items()},
    )


def of_volume(info: VolumeInfo | None) -> ImageFacts:
    """What a volume remembers of the image that is on it."""
    if info is None:
        return NOTHING
    kept = info.image_metadata
    return ImageFacts(
        id=kept.get("image_id", ""), disk_format="", size=0, sha512="", min_disk=_number(kept.get("min_disk")),
        min_ram=_number(kept.get("min_ram")), kernel_id=kept.get("kernel_id") or None,
        ramdisk_id=kept.get("ramdisk_id") or None, properties={k: v for k, v in kept.items() if k not in _OWN},
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def on_volume(facts: ImageFacts) -> ImageFacts:
    """The image as a server keeps it that boots from a volume: no node needs its bytes."""
    properties = {k: v for k, v in facts.properties.items() if k not in ("block_device_mapping", "bdm_v2")}
    return msgspec.structs.replace(
        facts, volume=True, disk_format="", size=0, sha512="", virtual_size=0, properties=properties
    )
