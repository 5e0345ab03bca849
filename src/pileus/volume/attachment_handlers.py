"""Attachments: the handlers of /attachments (3.27), the way in which other programs than compute attach volumes."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from pileus.volume import attachments, connections, listing, views, volumes
from pileus.volume import schemas as s
from pileus.volume.tables import attachment
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict

KIND = listing.Kind(
    plural="attachments", table=attachment, all_tenants="volume:get_all:all_tenants",
    sort={
        "id": attachment.c.id, "status": attachment.c.status, "volume_id": attachment.c.volume_id,
        "instance_id": attachment.c.server_id, "created_at": attachment.c.created,
    },
    filters={
        "volume_id": listing.text(attachment.c.volume_id), "status": listing.text(attachment.c.status),
        "instance_id": listing.text(attachment.c.server_id), "attach_status": listing.text(attachment.c.status),
        "instance_uuid": listing.text(attachment.c.server_id), "id": listing.text(attachment.c.id),
    },
    alike={
        "volume_id": attachment.c.volume_id, "status": attachment.c.status, "attach_status": attachment.c.status,
        "instance_id": attachment.c.server_id,
    },
)


def index(call: Call) -> dict[str, Any]:
    """GET /attachments: 200."""
    found = listing.pages(call, KIND, "/v3/attachments")
    return {"attachments": [views.attachment_short(row) for row in found.rows], **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /attachments/detail: 200. How a host connects is shown one by one, for it has the key."""
    found = listing.pages(call, KIND, "/v3/attachments/detail")
    return {"attachments": [views.attachment(row, None) for row in found.rows], **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /attachments/{attachment_id}: 200. Members of its project learn how to connect, its readers do not."""
    row = _row(call, "volume:get")
    info = None
    if call.allows("volume:attachment_update", project_id=row.project_id, user_id=call.context.user_id):
        info = connections.described(call.tx, row.id)
    return {"attachment": views.attachment(row, info)}


async def create(call: Call) -> dict[str, Any]:
    """POST /attachments: 200. With a connector the volume is given out to its host at once."""
    body: s.NewAttachment = call.body.attachment

    def reserve() -> str:
        of = volumes.visible(call, body.volume_uuid, "volume:attachment_create", hold=True)
        mode = "rw" if body.mode is UNSET else str(body.mode)
        made = attachments.reserve(call, of.id, body.instance_uuid, mode=mode, connector=body.connector)
        if body.connector:
            connections.give_out(call, of, made, connections.host_of(body.connector))
        return made

    made = await call.run(reserve)
    info = await connections.wait(call, made) if body.connector else None
    return await _shown(call, made, info)


async def update(call: Call) -> dict[str, Any]:
    """PUT /attachments/{attachment_id}: 200. Gives the volume out to the connector's host."""
    connector: dict[str, Any] = call.body.attachment.connector
    host = connections.host_of(connector)

    def connect() -> str:
        row = _row(call, "volume:attachment_update")
        if row.status not in ("reserved", "attaching", "attached"):
            raise BadRequest(f"Invalid volume: attachment {row.id} is {row.status}: it cannot be connected.")
        attachments.change(call.tx, call.cloud, row.id, connector=connector)
        connections.give_out(call, volumes.row(call.tx, row.volume_id), row.id, host)
        return str(row.id)

    found = await call.run(connect)
    return await _shown(call, found, await connections.wait(call, found))


def delete(call: Call) -> dict[str, Any]:
    """DELETE /attachments/{attachment_id}: 200, with the attachments that the volume has left.

    One that a server of this cloud has is taken from it by compute."""
    row = _row(call, "volume:attachment_delete")
    refuse_used(call, row)
    attachments.release(call.tx, call.cloud, row.id, call.request_id)
    left = volumes.attachments_of(call.tx, [row.volume_id]).get(row.volume_id, [])
    return {"attachments": [views.attachment_short(one) for one in left]}


def act(call: Call) -> None:
    """POST /attachments/{attachment_id}/action: 204, os-complete (3.44): the host has the volume."""
    if len(call.body) != 1:
        raise BadRequest("The body must name exactly one action: os-complete.")
    row = _row(call, "volume:attachment_complete")
    if row.status not in ("attaching", "reserved") or not row.connected:
        raise BadRequest(f"Invalid volume: attachment {row.id} is {row.status}; connect it before it is completed.")
    attachments.complete(call.tx, call.cloud, row.id, row.device or (row.connector or {}).get("mountpoint"))


def refuse_used(call: Call, row: Any) -> None:
    """Raises Conflict for an attachment whose volume a server of this cloud has: compute takes it from there."""
    from pileus.compute import devices

    if row.server_id is not None and devices.by_attachment(call.tx, row.id) is not None:
        raise Conflict(
            f"Detach volume from instance {row.server_id} using the Compute API: attachment {row.id} is in use there."
        )


def _row(call: Call, rule: str) -> Any:
    row = attachments.get_visible(call.tx, call.context, call.params["attachment_id"])
    call.enforce(rule, project_id=row.project_id, user_id=call.context.user_id)
    return row


async def _shown(call: Call, attachment_id: str, info: dict[str, Any] | None) -> dict[str, Any]:
    row = await call.db.run(lambda tx: attachments.row(tx, attachment_id), write=False)
    if row is None:
        raise attachments.missing(attachment_id)
    return {"attachment": views.attachment(row, info)}
