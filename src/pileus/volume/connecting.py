"""Attaching as it was before the attachments API: reserve, initialize_connection, attach, and the way back.

Each step works on an attachment all the same; before os-attach it has no server yet."""

from __future__ import annotations

from typing import Any

from pileus.volume import attachments, connections, states, volumes
from pileus.volume import schemas as s
from pileus.volume.attachment_handlers import refuse_used
from pileus.web.call import Call
from pileus.web.errors import BadRequest

_ON_THE_WAY = ("reserved", "attaching")


def reserve(call: Call, found: Any, value: Any) -> None:
    """os-reserve: 202, the volume is `attaching`."""
    made = attachments.reserve(call, found.id, None)
    attachments.change(call.tx, call.cloud, made, status="attaching")
    volumes.settle(call.tx, call.cloud, found.id)


def unreserve(call: Call, found: Any, value: Any) -> None:
    """os-unreserve: 202. What no server has yet is given up."""
    for one in _nameless(call, found):
        attachments.release(call.tx, call.cloud, one.id, call.request_id)
    volumes.settle(call.tx, call.cloud, found.id)


def attach(call: Call, found: Any, value: s.Attach) -> None:
    """os-attach: 202. The caller says that a server or a host has the volume."""
    if bool(value.instance_uuid) == bool(value.host_name):
        raise BadRequest("Invalid input received: os-attach names either instance_uuid or host_name.")
    reserved = _nameless(call, found)
    mode = value.mode or "rw"
    if found.read_only and mode == "rw":
        raise BadRequest(f"Invalid volume: Volume {found.id} is read-only: attach it with mode ro.")
    if reserved:
        made = reserved[0].id
        attachments.change(call.tx, call.cloud, made, server_id=value.instance_uuid, mode=mode)
    else:
        made = attachments.reserve(call, found.id, value.instance_uuid, mode=mode)
    if value.host_name:
        attachments.change(call.tx, call.cloud, made, host=value.host_name)
    attachments.complete(call.tx, call.cloud, made, value.mountpoint)


def detach(call: Call, found: Any, value: s.Detach | None) -> None:
    """os-detach: 202, also when it is detached already. What a server of this cloud has is taken from it by compute."""
    if found.status == states.AVAILABLE and (value is None or value.attachment_id is None):
        return
    states.require(found, {states.IN_USE, states.DETACHING}, "detach it")
    wanted = _one(call, found, value.attachment_id if value else None)
    refuse_used(call, wanted)
    attachments.release(call.tx, call.cloud, wanted.id, call.request_id)


def force_detach(call: Call, found: Any, value: s.ForceDetach | None) -> None:
    """os-force_detach: 202, whatever the volume's status is."""
    wanted = _one(call, found, value.attachment_id if value else None)
    refuse_used(call, wanted)
    attachments.release(call.tx, call.cloud, wanted.id, call.request_id)
    volumes.settle(call.tx, call.cloud, found.id, force=True)


def begin_detaching(call: Call, found: Any, value: Any) -> None:
    """os-begin_detaching: 202, the volume is `detaching`."""
    states.require(found, {states.IN_USE}, "begin to detach it")
    for one in _of(call, found):
        attachments.begin_detach(call.tx, call.cloud, one.id)


def roll_detaching(call: Call, found: Any, value: Any) -> None:
    """os-roll_detaching: 202, the volume is in use as before."""
    for one in _of(call, found):
        attachments.roll_back_detach(call.tx, call.cloud, one.id)


async def initialize_connection(call: Call, found: Any, value: s.Connector) -> dict[str, Any]:
    """os-initialize_connection: 200, how the connector's host reaches the volume, once its node gives it out."""
    host = connections.host_of(value.connector)

    def connect() -> str:
        of = volumes.visible(call, found.id, "volume_extension:volume_actions:initialize_connection", hold=True)
        there = [one for one in _of(call, of) if one.host in (None, host) or one.status in _ON_THE_WAY]
        made = str(there[0].id) if there else attachments.reserve(call, of.id, None, connector=value.connector)
        attachments.change(call.tx, call.cloud, made, connector=value.connector)
        connections.give_out(call, of, made, host)
        return made

    made = await call.run(connect)
    return {"connection_info": await connections.wait(call, made)}


def terminate(call: Call, found: Any, value: s.Connector) -> None:
    """os-terminate_connection: 202. The volume's node stops to give it out when that was the last host."""
    host = connections.host_of(value.connector)
    for one in _of(call, found):
        if one.host == host:
            refuse_used(call, one)
            attachments.change(call.tx, call.cloud, one.id, connected=False, waits_for=None)
    if found.export_key and not any(one.connected for one in _of(call, found)):
        attachments.unexport(call.tx, call.cloud, volumes.row(call.tx, found.id), call.request_id)


def drop_all(call: Call, found: Any) -> None:
    """Forget all attachments of a volume, but those that servers of this cloud have. Raises Conflict for these."""
    for one in _of(call, found):
        refuse_used(call, one)
        attachments.release(call.tx, call.cloud, one.id, call.request_id)


def _of(call: Call, found: Any) -> list[Any]:
    return volumes.attachments_of(call.tx, [found.id]).get(found.id, [])


def _nameless(call: Call, found: Any) -> list[Any]:
    """Attachments that are on their way, to no server yet."""
    return [one for one in _of(call, found) if one.server_id is None and one.status in _ON_THE_WAY]


def _one(call: Call, found: Any, attachment_id: str | None) -> Any:
    """The attachment that is meant. Raises BadRequest when there are several and none is named."""
    there = _of(call, found)
    if attachment_id is not None:
        there = [one for one in there if one.id == attachment_id]
        if not there:
            raise attachments.missing(attachment_id)
    if not there:
        raise BadRequest(f"Invalid volume: Volume {found.id} is not attached.")
    if len(there) > 1:
        raise BadRequest(
            f"Invalid volume: Volume {found.id} is attached more than once: say which, by attachment_id."
        )
    return there[0]
