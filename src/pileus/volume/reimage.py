"""An image is written over a volume: for a server that is rebuilt, or as os-reimage asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pileus.image import images
from pileus.node.contract import VolumeTask
from pileus.volume import attachments, messages, orders, states, volumes
from pileus.volume.create import image_metadata
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import Body, Flag, UuidText, as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.image.images import ImageInfo
    from pileus.node.contract import Task, TaskResult
    from pileus.web.call import Call

_GIB = 1 << 30


class Reimage(Body):
    """What os-reimage takes."""

    image_id: UuidText
    reimage_reserved: Flag = False


def act(call: Call, found: Any, value: Reimage) -> None:
    """os-reimage (3.68): 202. Of a volume that nobody has, or that is reserved."""
    allowed = {states.AVAILABLE, states.ERROR}
    if as_bool(value.reimage_reserved):
        call.enforce("volume:reimage_reserved", project_id=found.project_id)
        allowed.add(states.RESERVED)
    states.require(found, allowed, "write an image over it")
    try:
        info = images.get_visible(call.tx, call.context, value.image_id)
    except NotFound:
        raise BadRequest(f"Invalid image identifier or unable to access requested image: {value.image_id}.") from None
    orders.check_up(call.tx, call.cloud, found)
    begin(call.tx, call.cloud, found.id, info, call.request_id)


def begin(tx: Tx, cloud: Cloud, volume_id: str, info: ImageInfo, request_id: str) -> None:
    """Have an image written over a volume; `block_devices.reimaged` is told when it is. No guest may run on it.

    Raises BadRequest where the image does not fit, Conflict where it has no content."""
    found = volumes.held(tx, volume_id)
    if found is None:
        raise volumes.missing(volume_id)
    ref = info.ref()
    need = max(info.min_disk << 30, info.virtual_size or info.size or 0)
    if need > found.size * _GIB:
        raise BadRequest(
            f"Invalid input received: image {info.id} needs {-(-need // _GIB)} GiB, and volume {volume_id} has "
            f"{found.size}."
        )
    if found.export_key:
        attachments.unexport(tx, cloud, found, request_id)
    volumes.change(tx, cloud, volume_id, status=states.DOWNLOADING, image_id=info.id)
    orders.send(
        tx, cloud, found.node, "reimage", volume_id, request_id=request_id, image=ref, size_gib=found.size,
        timeout=orders.patience(cloud, found.size),
    )


def ended(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.reimage has ended: the image is on the volume, or what is there is nobody's any more."""
    from pileus.compute import block_devices

    args = msgspec.json.decode(task.arguments, type=VolumeTask)
    found = volumes.held(tx, args.volume_id)
    if found is None or found.status != states.DOWNLOADING:
        return
    error = "" if result.ok else (result.error or "the node gave no reason")
    if error:
        volumes.change(tx, cloud, found.id, status=states.ERROR, error=error)
        messages.record(
            tx, cloud, project_id=found.project_id, request_id=task.request_id, resource_type="VOLUME",
            resource_id=found.id, action="reimage volume", detail=error,
        )
    else:
        info = images.info(tx, args.image.id) if args.image is not None else None
        said = {"image_metadata": image_metadata(info)} if info is not None else {}
        volumes.settle(tx, cloud, found.id, force=True, bootable=True, error=None, **said)
    block_devices.reimaged(tx, cloud, found.id, error)
