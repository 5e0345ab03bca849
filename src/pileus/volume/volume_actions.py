"""POST /volumes/{id}/action: what is done to a volume, all of it on one screen."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import connecting, orders, states, upload, usage, volume_handlers, volumes
from pileus.volume import schemas as s
from pileus.volume import snapshots as snapshots_
from pileus.volume.actions_rest import VOLUME_ACTIONS
from pileus.volume.tables import snapshot
from pileus.web import actions
from pileus.web.actions import Action
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool

_USER = "volume_extension:volume_actions:"
_ADMIN = "volume_extension:volume_admin_actions:"
_IMAGE = "volume_extension:volume_image_metadata:"


def extend(call: Call, found: Any, value: s.Extend) -> None:
    """os-extend: 202. Of a volume that is in use from 3.42 on; its server sees the new size."""
    new = s.gib(value.new_size)
    allowed = {states.AVAILABLE}
    if (call.version or (3, 0)) >= (3, 42):
        call.enforce("volume:extend_attached_volume", project_id=found.project_id)
        allowed = {states.AVAILABLE, states.IN_USE}
    states.require(found, allowed, "extend it")
    if new <= found.size:
        raise BadRequest(
            f"Invalid input received: New size for extend must be greater than current size. (current: {found.size}, "
            f"extended: {new})."
        )
    node = orders.check_up(call.tx, call.cloud, found)
    usage.size(call.tx, call.cloud, found.project_id, new)
    usage.room(call.tx, call.cloud, found.project_id, found.type_id, gigabytes=new - found.size)
    volumes.change(call.tx, call.cloud, found.id, status=states.EXTENDING, new_size=new)
    orders.send(call.tx, call.cloud, node, "extend", found.id, request_id=call.request_id, size_gib=new)


def complete_extending(call: Call, found: Any, value: Any) -> None:
    """os-extend_volume_completion (3.71): 400 always. It is for drivers that wait for a client; no node does."""
    raise BadRequest(
        f"Invalid volume: Volume {found.id} is {found.status}, and its node does not wait for anyone to complete that: "
        "it tells by itself."
    )


def revert(call: Call, found: Any, value: s.Revert) -> None:
    """revert: 202. To the newest snapshot alone, and only while the volume has its size."""
    taken = snapshots_.held(call.tx, value.snapshot_id)
    if taken is None or taken.project_id != found.project_id:
        raise snapshots_.missing(value.snapshot_id)
    newest = call.tx.scalar(
        sa.select(snapshot.c.id).where(snapshot.c.volume_id == found.id).order_by(snapshot.c.seq.desc()).limit(1)
    )
    if taken.volume_id != found.id or newest != taken.id:
        raise BadRequest(
            f"Invalid input received: Specified snapshot {taken.id} is not the latest one of volume {found.id}."
        )
    states.require(found, {states.AVAILABLE}, "revert it")
    if taken.status != states.AVAILABLE:
        raise BadRequest(f"Invalid snapshot: Snapshot {taken.id} is {taken.status}; it must be available.")
    if taken.size != found.size:
        raise BadRequest(
            f"Invalid volume: Can't revert volume {found.id} to its latest snapshot {taken.id}. The volume size must "
            "be equal to the snapshot size."
        )
    node = orders.check_up(call.tx, call.cloud, found)
    volumes.change(call.tx, call.cloud, found.id, status=states.REVERTING)
    snapshots_.change(call.tx, call.cloud, taken.id, status="restoring")
    orders.send(
        call.tx, call.cloud, node, "revert", found.id, request_id=call.request_id, snapshot_id=taken.id,
    )


def reset_status(call: Call, found: Any, value: s.ResetStatus) -> None:
    """os-reset_status: 202, what an operator says; nothing is done on the node."""
    given = {
        name: getattr(value, name) for name in ("status", "attach_status", "migration_status")
        if getattr(value, name) is not UNSET
    }
    if not given:
        raise BadRequest("Invalid input received: Must specify 'status', 'attach_status' or 'migration_status'.")
    if given.get("status", states.ERROR) not in states.VOLUME_STATES:
        raise BadRequest(f"Invalid input received: '{given['status']}' is no status of a volume.")
    if given.get("migration_status", "none") not in (None, "none", "migrating", "error", "success", "completing",
                                                     "starting"):
        raise BadRequest(f"Invalid input received: '{given['migration_status']}' is no status of a migration.")
    values = {name: given[name] for name in ("status", "migration_status") if given.get(name) is not None}
    if values.get("migration_status") == "none":
        values["migration_status"] = None
    if given.get("attach_status") == "detached":
        connecting.drop_all(call, found)
    if values:
        volumes.change(call.tx, call.cloud, found.id, **values)


def set_bootable(call: Call, found: Any, value: s.Bootable) -> None:
    """os-set_bootable: 200."""
    volumes.change(call.tx, call.cloud, found.id, bootable=as_bool(value.bootable))


def set_read_only(call: Call, found: Any, value: s.ReadOnly) -> None:
    """os-update_readonly_flag: 202. What is attached later cannot write it."""
    states.require(found, {states.AVAILABLE}, "update its readonly flag")
    volumes.change(call.tx, call.cloud, found.id, read_only=as_bool(value.readonly))


def set_image_metadata(call: Call, found: Any, value: s.ImageMetadata) -> dict[str, Any]:
    """os-set_image_metadata: 200. What is there stays."""
    metadata = {**(found.image_metadata or {}), **value.metadata}
    volumes.change(call.tx, call.cloud, found.id, image_metadata=metadata)
    return {"metadata": metadata}


def unset_image_metadata(call: Call, found: Any, value: s.ImageKey) -> None:
    """os-unset_image_metadata: 200."""
    metadata = dict(found.image_metadata or {})
    if metadata.pop(value.key, None) is None:
        raise NotFound(f"Volume {found.id} has no image metadata with key {value.key}.")
    volumes.change(call.tx, call.cloud, found.id, image_metadata=metadata)


def show_image_metadata(call: Call, found: Any, value: Any) -> dict[str, Any]:
    """os-show_image_metadata: 200."""
    return {"metadata": found.image_metadata or {}}


ACTIONS: dict[str, Action] = {
    "os-extend": Action("volume:extend", extend, body=s.Extend),
    "os-extend_volume_completion": Action(
        _ADMIN + "extend_volume_completion", complete_extending, body=s.ExtendCompletion, since=(3, 71)
    ),
    "revert": Action("volume:revert_to_snapshot", revert, body=s.Revert, since=(3, 40)),
    "os-reset_status": Action(_ADMIN + "reset_status", reset_status, body=s.ResetStatus),
    "os-force_delete": Action(_ADMIN + "force_delete", volume_handlers.force_delete),
    "os-set_bootable": Action("volume:update", set_bootable, 200, body=s.Bootable),
    "os-update_readonly_flag": Action("volume:update", set_read_only, body=s.ReadOnly),
    "os-volume_upload_image": Action(_USER + "upload_image", upload.to_image, body=s.Upload),
    # image metadata
    "os-set_image_metadata": Action(_IMAGE + "set", set_image_metadata, 200, body=s.ImageMetadata),
    "os-unset_image_metadata": Action(_IMAGE + "remove", unset_image_metadata, 200, body=s.ImageKey),
    "os-show_image_metadata": Action(_IMAGE + "show", show_image_metadata, 200),
    # attaching as it was before attachments
    "os-reserve": Action(_USER + "reserve", connecting.reserve),
    "os-unreserve": Action(_USER + "unreserve", connecting.unreserve),
    "os-attach": Action(_USER + "attach", connecting.attach, body=s.Attach),
    "os-detach": Action(_USER + "detach", connecting.detach, body=s.Detach | None),
    "os-force_detach": Action(_ADMIN + "force_detach", connecting.force_detach, body=s.ForceDetach | None),
    "os-begin_detaching": Action(_USER + "begin_detaching", connecting.begin_detaching),
    "os-roll_detaching": Action(_USER + "roll_detaching", connecting.roll_detaching),
    "os-initialize_connection": Action(
        _USER + "initialize_connection", connecting.initialize_connection, 200, body=s.Connector
    ),
    "os-terminate_connection": Action(_USER + "terminate_connection", connecting.terminate, body=s.Connector),
    **VOLUME_ACTIONS,
}


async def act(call: Call) -> Reply:
    """POST /volumes/{volume_id}/action: 202, or as the action has it."""
    return await actions.perform(call, ACTIONS, volumes.visible, call.params["volume_id"])
