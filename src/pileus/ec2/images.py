"""Images that the project sees, as AMIs."""

from __future__ import annotations

from typing import Any

import msgspec

from pileus.ec2 import filters, ids, tags
from pileus.ec2.filters import Known
from pileus.ec2.schemas import DescribeImages
from pileus.image import listing
from pileus.image.images import ImageInfo
from pileus.web.call import Call
from pileus.world import iso_z

_STATES = {
    "active": "available", "deactivated": "disabled", "killed": "failed", "deleted": "deregistered",
}
_TYPES = {"aki": "kernel", "ari": "ramdisk"}


class Image(msgspec.Struct, frozen=True):
    """An image as EC2 names things."""

    id: str
    info: ImageInfo
    tags: dict[str, str]

    @property
    def state(self) -> str:
        return _STATES.get(self.info.status, "pending")

    @property
    def kind(self) -> str:
        return _TYPES.get(self.info.container_format or "", "machine")


_KNOWN: Known[Image] = {
    "image-id": lambda one: [one.id], "name": lambda one: [one.info.name or ""], "state": lambda one: [one.state],
    "owner-id": lambda one: [one.info.owner], "is-public": lambda one: [one.info.visibility == "public"],
    "image-type": lambda one: [one.kind], "description": lambda one: [one.info.properties.get("description")],
    "architecture": lambda one: [architecture(one.info)], "root-device-type": lambda one: ["instance-store"],
    "virtualization-type": lambda one: ["hvm"],
}


def architecture(info: ImageInfo) -> str | None:
    """What the image's properties say that it runs on; None where they say nothing."""
    return info.properties.get("architecture") or info.properties.get("hw_architecture")


def of_caller(call: Call, named: list[str] | None = None) -> list[Image]:
    """The images that the caller sees; of these UUIDs only, where given."""
    found = listing.of_caller(call, named)
    marked = tags.of(call, [info.id for info in found])
    return [Image(ids.write(ids.IMAGE, info.id), info, marked.get(info.id, {})) for info in found]


def describe(call: Call, params: DescribeImages) -> dict[str, Any]:
    """DescribeImages."""
    named = [ids.read(ids.IMAGE, text) for text in params.image_id] if params.image_id else None
    by_id = {image.id: image for image in of_caller(call, named)}
    wanted = ids.chosen(ids.IMAGE, params.image_id, by_id)
    if params.owner:
        owners = {call.context.project_id if name == "self" else name for name in params.owner}
        wanted = [image for image in wanted if image.info.owner in owners]
    rows = filters.select(wanted, params.filter, _KNOWN, lambda one: one.tags)
    shown, token = filters.page(rows, lambda one: one.id, params, bool(params.image_id))
    return {"imagesSet": [_view(one) for one in shown], "nextToken": token}


def _view(one: Image) -> dict[str, Any]:
    info, properties = one.info, one.info.properties
    kernel, ramdisk = properties.get("kernel_id"), properties.get("ramdisk_id")
    return {
        "imageId": one.id, "imageLocation": f"{info.owner or ''}/{info.name or info.id}", "imageState": one.state,
        "imageOwnerId": info.owner, "isPublic": info.visibility == "public", "imageType": one.kind, "name": info.name,
        "description": properties.get("description"), "architecture": architecture(info),
        "kernelId": ids.write(ids.IMAGE, kernel) if kernel else None,
        "ramdiskId": ids.write(ids.IMAGE, ramdisk) if ramdisk else None,
        "platform": "windows" if properties.get("os_type") == "windows" else None,
        "rootDeviceType": "instance-store", "virtualizationType": "hvm", "creationDate": iso_z(info.created),
        "tagSet": tags.view(one.tags),
    }
