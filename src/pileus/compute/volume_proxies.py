"""Volumes and their snapshots as compute had them up to 2.35: the volume service's."""

from __future__ import annotations

from typing import Any

from pileus.compute.proxy import ask
from pileus.compute.schemas_volumes import AttachmentQuery, OldSnapshot, OldVolume
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool

_VOLUMES, _SNAPSHOTS = "/v3/volumes", "/v3/snapshots"


def _attachment(volume: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    device = {"device": one["device"]} if one.get("device") else {}
    return {"id": volume["id"], "volumeId": volume["id"], "serverId": one["server_id"], **device}


def _volume(volume: dict[str, Any]) -> dict[str, Any]:
    # The API has always shown a volume that nobody has with one attachment that is empty.
    attached = [_attachment(volume, one) for one in volume["attachments"]] or [{}]
    return {
        "id": volume["id"], "status": volume["status"], "size": volume["size"],
        "availabilityZone": volume["availability_zone"] or "", "createdAt": volume["created_at"],
        "attachments": attached, "displayName": volume["name"], "displayDescription": volume["description"],
        "volumeType": volume["volume_type"], "snapshotId": volume["snapshot_id"], "metadata": volume["metadata"],
    }


def _snapshot(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": snapshot["id"], "volumeId": snapshot["volume_id"], "status": snapshot["status"],
        "size": snapshot["size"], "createdAt": snapshot["created_at"], "displayName": snapshot["name"],
        "displayDescription": snapshot["description"],
    }


def _paging(call: Call) -> list[tuple[str, str]]:
    query: AttachmentQuery = call.query
    wanted = {"limit": query.limit, "offset": query.offset}
    return [(name, str(value)) for name, value in wanted.items() if value is not None]


async def volumes(call: Call) -> dict[str, Any]:
    """GET /os-volumes and /os-volumes/detail: 200."""
    if call.path.endswith("/"):
        raise NotFound("The path names no volume.")
    found = await ask(call, "volume", "GET", _VOLUMES + "/detail", query=_paging(call))
    return {"volumes": [_volume(one) for one in found["volumes"]]}


async def show_volume(call: Call) -> dict[str, Any]:
    """GET /os-volumes/{volume_id}: 200."""
    found = await ask(call, "volume", "GET", f"{_VOLUMES}/{call.params['volume_id']}")
    return {"volume": _volume(found["volume"])}


async def create_volume(call: Call) -> dict[str, Any]:
    """POST /os-volumes: 200."""
    asked: OldVolume = call.body.volume
    wanted = {
        "size": int(asked.size), "name": asked.display_name, "description": asked.display_description,
        "volume_type": asked.volume_type, "metadata": asked.metadata, "snapshot_id": asked.snapshot_id,
        "availability_zone": asked.availability_zone,
    }
    body = {"volume": {name: value for name, value in wanted.items() if value is not None}}
    made = await ask(call, "volume", "POST", _VOLUMES, body)
    return {"volume": _volume(made["volume"])}


async def delete_volume(call: Call) -> None:
    """DELETE /os-volumes/{volume_id}: 202."""
    await ask(call, "volume", "DELETE", f"{_VOLUMES}/{call.params['volume_id']}")


async def snapshots(call: Call) -> dict[str, Any]:
    """GET /os-snapshots and /os-snapshots/detail: 200."""
    if call.path.endswith("/"):
        raise NotFound("The path names no snapshot.")
    found = await ask(call, "volume", "GET", _SNAPSHOTS + "/detail", query=_paging(call))
    return {"snapshots": [_snapshot(one) for one in found["snapshots"]]}


async def show_snapshot(call: Call) -> dict[str, Any]:
    """GET /os-snapshots/{snapshot_id}: 200."""
    found = await ask(call, "volume", "GET", f"{_SNAPSHOTS}/{call.params['snapshot_id']}")
    return {"snapshot": _snapshot(found["snapshot"])}


async def create_snapshot(call: Call) -> dict[str, Any]:
    """POST /os-snapshots: 200. Without `force` only of a volume that nobody has."""
    asked: OldSnapshot = call.body.snapshot
    if not as_bool(asked.force):
        # The volume service of today always forces it.
        of = await ask(call, "volume", "GET", f"{_VOLUMES}/{asked.volume_id}")
        if of["volume"]["status"] != "available":
            raise BadRequest(
                f"Invalid volume: Volume {asked.volume_id} status must be available, but current status is: "
                f"{of['volume']['status']}. Send force true."
            )
    wanted = {
        "volume_id": asked.volume_id, "name": asked.display_name, "description": asked.display_description,
    }
    body = {"snapshot": {name: value for name, value in wanted.items() if value is not None}}
    made = await ask(call, "volume", "POST", _SNAPSHOTS, body)
    return {"snapshot": _snapshot(made["snapshot"])}


async def delete_snapshot(call: Call) -> None:
    """DELETE /os-snapshots/{snapshot_id}: 202."""
    await ask(call, "volume", "DELETE", f"{_SNAPSHOTS}/{call.params['snapshot_id']}")
