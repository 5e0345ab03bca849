"""`/servers/{id}/os-volume_attachments`: volumes given to servers and taken from them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import block_devices, boot_devices, devices, instance_actions, orders, servers, spec, states
from pileus.compute.devices import ATTACHED, DETACHING, PLUGGING
from pileus.compute.schemas_volumes import AttachmentChange, AttachmentQuery, NewAttachment
from pileus.volume import attachments, volumes
from pileus.volume.volumes import VolumeInfo
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool
from pileus.web.versions import Version
from pileus.web.views import Field, View

_RULE = "os_compute_api:os-volumes-attachments:"
_WITHOUT_ID: Version = (2, 89)


class _Shown(msgspec.Struct, frozen=True):
    device: Any
    made: bool = False


_COMMON = (
    Field("volumeId", "device.volume_id"),
    Field("serverId", "device.server_id"),
    Field("device", "device.device"),
    Field("tag", "device.tag", since=(2, 70)),
    Field("delete_on_termination", "device.delete_on_termination", since=(2, 79)),
)
_MADE = View(Field("id", "device.volume_id"), *_COMMON)
_VIEW = View(
    Field("id", "device.volume_id", until=(2, 88)),
    *_COMMON,
    Field("attachment_id", "device.attachment_id", since=_WITHOUT_ID),
    Field("bdm_uuid", "device.id", since=_WITHOUT_ID),
)


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-volume_attachments: 200."""
    row = servers.get(call, call.params["server_id"], _RULE + "index")
    query: AttachmentQuery = call.query
    found = [one for one in devices.of_server(call.tx, row.id) if one.volume_id]
    first = query.offset or 0
    last = len(found) if query.limit is None else first + query.limit
    return {"volumeAttachments": [_VIEW.render(_Shown(one), call.version) for one in found[first:last]]}


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-volume_attachments/{volume_id}: 200."""
    row = servers.get(call, call.params["server_id"], _RULE + "show")
    return {"volumeAttachment": _VIEW.render(_Shown(_device(call, row)), call.version)}


def _device(call: Call, row: Any) -> Any:
    """The row of the volume that the path names. Raises NotFound where the server does not have it."""
    volume_id = call.params["volume_id"]
    found = devices.find(call.tx, row.id, volume_id)
    if found is None:
        raise NotFound(f"Instance {row.id} is not attached to volume {volume_id}")
    return found


# -- attach


def attach(call: Call) -> dict[str, Any]:
    """POST /servers/{server_id}/os-volume_attachments: 200. The guest has it once the volume is in-use."""
    row = servers.check_action(call, call.params["server_id"], _RULE + "create", "attach_volume")
    asked: NewAttachment = call.body.attachment
    volume = volumes.get_visible(call.tx, call.context, asked.volume)
    offloaded = row.vm_state == states.OFFLOADED
    _check(call, row, volume, asked, shelved=row.vm_state in (states.SHELVED, states.OFFLOADED))
    if not offloaded:
        orders.check_up(call, row)
        if reason := block_devices.out_of_reach(call.tx, moment(call.cloud), volume.id):
            raise Conflict(f"Service is unavailable at this time: {reason}")
    attachment_id = attachments.reserve(call, volume.id, row.id)
    image = spec.facts_of(row)
    there = devices.of_server(call.tx, row.id)
    name = devices.next_name(spec.flavor_of(row), there, image is None or not image.volume)
    devices.add(
        call.tx, call.cloud, server_id=row.id, source_type="volume", destination_type="volume", source_id=volume.id,
        volume_id=volume.id, attachment_id=attachment_id, state=ATTACHED if offloaded else PLUGGING, device=name,
        tag=None if asked.tag is UNSET else asked.tag, size=volume.size_gib, request_id=call.request_id,
        delete_on_termination=asked.delete_on_termination is not UNSET and as_bool(asked.delete_on_termination),
    )
    instance_actions.begin(call, row.id, "attach_volume", "compute_attach_volume", row.host)
    if offloaded:
        # There is no guest now: it gets the volume when it is unshelved.
        attachments.complete(call.tx, call.cloud, attachment_id, name)
        instance_actions.finish(call.tx, row.id, call.request_id, call.now)
    else:
        attachments.connect(call.tx, call.cloud, attachment_id, row.host, call.request_id)
    return {"volumeAttachment": _MADE.render(_Shown(devices.find(call.tx, row.id, volume.id)), call.version)}


def _check(call: Call, row: Any, volume: VolumeInfo, asked: NewAttachment, *, shelved: bool) -> None:
    boot_devices.check_multiattach(call, volume)
    if shelved and volume.multiattach:
        raise BadRequest("Attaching multiattach volumes is not supported for shelved-offloaded instances.")
    if shelved and asked.tag is not UNSET:
        raise BadRequest(
            f"Attaching volume {volume.id} with a tag to instance {row.id} is not possible while that is shelved."
        )
    if devices.find(call.tx, row.id, volume.id) is not None:
        raise BadRequest(f"Invalid volume: volume {volume.id} is already attached to instance {row.id}.")


# -- change


def update(call: Call) -> None:
    """PUT /servers/{server_id}/os-volume_attachments/{volume_id}: 202. From 2.85 on for `delete_on_termination`."""
    asked: AttachmentChange = call.body.attachment
    volume_id = call.params["volume_id"]
    old = (call.version or (2, 1)) < (2, 85)
    swap = old or asked.volume != volume_id
    row = servers.hold(call, call.params["server_id"], _RULE + ("swap" if swap else "update"))
    if not old:
        _change(call, row, asked)
    if swap:
        _swap(call, volume_id, asked.volume)


def _change(call: Call, row: Any, asked: AttachmentChange) -> None:
    device = _device(call, row)
    fixed = {"id": (asked.id, device.volume_id), "serverId": (asked.server, row.id),
             "device": (asked.device, device.device), "tag": (asked.tag, device.tag)}
    for name, (wanted, known) in fixed.items():
        if wanted is not UNSET and wanted != known:
            raise BadRequest(f"The {name} property is not mutable")
    if asked.delete_on_termination is not UNSET:
        devices.change(call.tx, call.cloud, device, delete_on_termination=as_bool(asked.delete_on_termination))


def _swap(call: Call, old_id: str, new_id: str) -> None:
    """Another volume instead: only the service that moves a volume may ask for that, and here none asks by this way."""
    volumes.get_visible(call.tx, call.context, old_id)
    try:
        volumes.get_visible(call.tx, call.context, new_id)
    except NotFound as missing:
        raise BadRequest(missing.message) from None
    raise Conflict(f"volume {old_id} is not migrating: this request is only for a volume service that moves it.")


# -- detach


def detach(call: Call) -> None:
    """DELETE /servers/{server_id}/os-volume_attachments/{volume_id}: 202."""
    row = servers.hold(call, call.params["server_id"], _RULE + "delete")
    device = _device(call, row)
    if device.boot_index == 0:
        raise BadRequest("Cannot detach a root device volume")
    states.require(call.context, row, "detach_volume")
    if device.state != ATTACHED:
        raise BadRequest(
            f"Invalid volume: volume {device.volume_id} cannot be detached from instance {row.id} now: it is "
            f"{'being attached' if device.state != DETACHING else 'detaching'}."
        )
    attachments.begin_detach(call.tx, call.cloud, device.attachment_id)
    instance_actions.begin(call, row.id, "detach_volume", "compute_detach_volume", row.host)
    if row.host is None:
        block_devices.take(call.tx, call.cloud, device, call.request_id)
        return instance_actions.finish(call.tx, row.id, call.request_id, call.now)
    orders.check_up(call, row)
    devices.change(call.tx, call.cloud, device, state=DETACHING, request_id=call.request_id)
    return orders.send(
        call.tx, call.cloud, row, "detach_volume", request_id=call.request_id, volume_id=device.volume_id
    )
