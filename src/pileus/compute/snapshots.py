"""createImage: a server's disk as a new image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import names, orders, quotas, spec, states, volume_images
from pileus.compute.schemas import CreateImage
from pileus.image import images
from pileus.node.contract import ServerTask
from pileus.web.call import Call, Reply
from pileus.web.errors import OverQuota
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_NOT_INHERITED = frozenset({
    "cache_in_nova", "bittorrent", "img_signature_hash_method", "img_signature", "img_signature_key_type",
    "img_signature_certificate_uuid", "os_glance_import_task", "os_glance_importing_to_stores",
})


def create_image(call: Call, row: Any, value: CreateImage) -> Reply:
    """createImage: 202; its Location names the image, from 2.45 on its body does."""
    states.require(call.context, row, "createImage")
    if (call.version or (2, 1)) < (2, 39):
        _check_quota(call, value.metadata)
    name = names.check_name(value.name)
    if spec.is_on_volume(row):
        return where(call, volume_images.create(call, row, name, value.metadata))
    image_id = make(call, row, name, value.metadata, call.context)
    orders.begin(call, row, "createImage", "compute_snapshot_instance", "image_snapshot")
    orders.send(call.tx, call.cloud, row, "snapshot", request_id=call.request_id, image_id=image_id)
    return where(call, image_id)


def where(call: Call, image_id: str) -> Reply:
    """How the caller learns of the new image, which depends on the version."""
    if (call.version or (2, 1)) >= (2, 45):
        return Reply({"image_id": image_id})
    return Reply(headers={"Location": f"{call.base}/image/v2/images/{image_id}"})


def _check_quota(call: Call, metadata: dict[str, str]) -> None:
    most = quotas.limits(call.tx, call.cloud, call.context.project_id or "")["metadata_items"]
    if 0 <= most < len(metadata):
        raise OverQuota(f"Maximum number of metadata items exceeds {most}")


def make(call: Call, row: Any, name: str, properties: dict[str, str], context: Context) -> str:
    """A queued image that waits for the disk of a server; its id."""
    facts = spec.facts_of(row)
    min_disk = spec.flavor_of(row).disk or (facts.min_disk if facts else 0)
    image_id: str = images.create_for_snapshot(
        call.tx, call.cloud, context, name=name, properties={**said_of(row), **properties},
        disk_format="qcow2", min_disk=min_disk, min_ram=facts.min_ram if facts else 0,
    )
    return image_id


def said_of(row: Any) -> dict[str, str]:
    """The properties of an image that is made of a server: those of its own image, and what it is of."""
    facts = spec.facts_of(row)
    inherited = {
        k: v for k, v in (facts.properties if facts else {}).items()
        if k not in _NOT_INHERITED and not k.startswith("owner_specified.")
    }
    own = {
        "image_type": "snapshot", "instance_uuid": row.id, "user_id": row.user_id, "image_location": "snapshot",
        "image_state": "available", "owner_id": row.project_id, "base_image_ref": row.image_id or "",
    }
    if facts and facts.kernel_id:
        own["kernel_id"] = facts.kernel_id
    if facts and facts.ramdisk_id:
        own["ramdisk_id"] = facts.ramdisk_id
    return {**inherited, **own}


_WAITING = sa.select(task.c.arguments).where(
    task.c.resource == sa.bindparam("r"), task.c.kind == "server.snapshot", task.c.state == "pending",
    task.c.attempt == 0,
)


def give_up(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """Let the images go that still wait for a snapshot which no node has begun: their server is deleted."""
    for arguments in tx.scalars(_WAITING, {"r": orders.resource(server_id)}):
        image_id = msgspec.json.decode(arguments, type=ServerTask).image_id
        if image_id is not None:
            images.fail(tx, cloud, image_id, f"server {server_id} is deleted")
