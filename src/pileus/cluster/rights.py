"""What a node may have: only what is placed on it. Asked before anything is given out or taken from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pileus.node.contract import ServerTask, VolumeTask
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def may_read_image(tx: Tx, node: str, image_id: str, now: float) -> bool:
    """Whether a guest placed on the node, or a task that it has to do, as making a volume, needs the image."""
    from pileus.compute import servers

    return image_id in _images_of_tasks(tx, node, now) or servers.uses_image(tx, node, image_id)


def may_store_image(tx: Tx, node: str, image_id: str, now: float) -> bool:
    """Whether the node has to make a snapshot, or to read out a volume, for just this image."""
    return any(
        task.kind in _STORING and msgspec.json.decode(task.arguments, type=_STORING[task.kind]).image_id == image_id
        for task in tasks.open_tasks(tx, node, now)
    )


_STORING: dict[str, type[ServerTask] | type[VolumeTask]] = {"server.snapshot": ServerTask, "volume.upload": VolumeTask}


def _images_of_tasks(tx: Tx, node: str, now: float) -> set[str]:
    found: set[str | None] = set()
    for task in tasks.open_tasks(tx, node, now):
        if task.kind in ("volume.create", "volume.reimage"):
            image = msgspec.json.decode(task.arguments, type=VolumeTask).image
            found.add(image.id if image is not None else None)
        if not task.kind.startswith("server."):
            continue
        spec = msgspec.json.decode(task.arguments, type=ServerTask).spec
        for image in (spec.image, spec.rescue_image) if spec is not None else ():
            if image is not None:
                found |= {image.id, image.kernel_id, image.ramdisk_id}
    return {image_id for image_id in found if image_id}


def may_answer_for(tx: Tx, node: str, network_or_router_id: str) -> bool:
    """Whether the node serves the metadata address of this network or router."""
    from pileus.network import serving

    return serving.on_node(tx, node, network_or_router_id)
