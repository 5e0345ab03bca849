"""os-volume_upload_image: a volume's bytes as a new image."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from pileus.image import images
from pileus.volume import orders, states, views, volume_types, volumes
from pileus.volume import schemas as s
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

_FORMATS = ("raw", "qcow2")
_OF_THE_IMAGE = frozenset({
    "image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size",
})
"""What a volume remembers of its image that the new one has by itself."""


def to_image(call: Call, found: Any, value: s.Upload) -> dict[str, Any]:
    """os-volume_upload_image: 202, with the image that waits for the bytes."""
    force = as_bool(value.force)
    states.require(found, {states.AVAILABLE, states.IN_USE} if force else {states.AVAILABLE}, "upload it")
    disk_format, container_format = value.disk_format or "raw", value.container_format or "bare"
    if disk_format not in _FORMATS:
        raise BadRequest(f"Invalid input received: disk_format is one of {' and '.join(_FORMATS)} here.")
    if container_format != "bare":
        raise BadRequest("Invalid input received: container_format is 'bare' here.")
    node = orders.check_up(call.tx, call.cloud, found)
    visibility, protected = _sharing(call, value)
    metadata = found.image_metadata or {}
    image_id = images.create_for_snapshot(
        call.tx, call.cloud, call.context, name=value.image_name, disk_format=disk_format,
        properties={name: text for name, text in metadata.items() if name not in _OF_THE_IMAGE}, min_disk=0,
        min_ram=0, visibility=visibility, protected=protected,
    )
    volumes.change(call.tx, call.cloud, found.id, status=states.UPLOADING)
    orders.send(
        call.tx, call.cloud, node, "upload", found.id, request_id=call.request_id, image_id=image_id,
        disk_format=disk_format, timeout=orders.patience(call.cloud, found.size),
    )
    return {"os-volume_upload_image": _view(call, found, value, image_id, disk_format, visibility, protected)}


def _sharing(call: Call, value: s.Upload) -> tuple[str, bool]:
    """The image's visibility and whether it is protected. Raises Forbidden where the image service's rules do."""
    visibility = "private" if value.visibility is UNSET else str(value.visibility)
    if visibility == "public":
        call.enforce("publicize_image", project_id=call.context.project_id)
    if visibility == "community":
        call.enforce("communitize_image", project_id=call.context.project_id)
    return visibility, value.protected is not UNSET and as_bool(value.protected)


def _view(
    call: Call, found: Any, value: s.Upload, image_id: str, disk_format: str, visibility: str, protected: bool
) -> dict[str, Any]:
    kind = volume_types.info(call.tx, found.type_id) if found.type_id else None
    shown = {
        "id": found.id, "updated_at": views.moment(call.now), "status": states.UPLOADING,
        "display_description": found.description, "size": found.size,
        "volume_type": {"id": kind.id, "name": kind.name} if kind else None, "image_id": image_id,
        "container_format": "bare", "disk_format": disk_format, "image_name": value.image_name,
    }
    if (call.version or (3, 0)) >= (3, 1):
        shown |= {"visibility": visibility, "protected": protected}
    return shown
