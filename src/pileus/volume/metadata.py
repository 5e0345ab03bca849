"""What users write on volumes and snapshots: all of it, or item by item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pileus.volume import snapshots, states, volumes
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound, PreconditionFailed

Write = Callable[..., None]


def of_volume(call: Call) -> Reply:
    """GET /volumes/{volume_id}/metadata: 200; from 3.15 on with an ETag, by which a change can be made conditional."""
    found = _volume(call, "volume:get_volume_metadata").metadata
    tagged = (call.version or (3, 0)) >= (3, 15)
    return Reply({"metadata": found}, headers={"ETag": _etag(found)} if tagged else {})


def _etag(metadata: Mapping[str, str]) -> str:
    text = msgspec.json.encode(dict(sorted(metadata.items())))
    return hashlib.sha256(text).hexdigest()[:32]


def _check_etag(call: Call, row: Any) -> None:
    """Raises PreconditionFailed when the metadata are not those that the caller has seen (If-Match, from 3.15 on)."""
    wanted = call.headers.get("if-match")
    if wanted is None or (call.version or (3, 0)) < (3, 15):
        return
    seen = {one.strip().strip('"') for one in wanted.split(",")}
    if "*" not in seen and _etag(row.metadata) not in seen:
        raise PreconditionFailed(f"The metadata of {row.id} are not what they were: read them again.")


def item_of_volume(call: Call) -> dict[str, Any]:
    """GET /volumes/{volume_id}/metadata/{key}: 200."""
    return _item(call, _volume(call, "volume:get_volume_metadata"))


def add_to_volume(call: Call) -> dict[str, Any]:
    """POST /volumes/{volume_id}/metadata: 200. What is there stays."""
    row = _volume(call, "volume:create_volume_metadata", hold=True)
    _check_etag(call, row)
    return _write(call, row, volumes.change, {**row.metadata, **call.body.metadata})


def replace_of_volume(call: Call) -> dict[str, Any]:
    """PUT /volumes/{volume_id}/metadata: 200."""
    row = _volume(call, "volume:update_volume_metadata", hold=True)
    _check_etag(call, row)
    return _write(call, row, volumes.change, call.body.metadata)


def put_on_volume(call: Call) -> dict[str, Any]:
    """PUT /volumes/{volume_id}/metadata/{key}: 200."""
    row = _volume(call, "volume:update_volume_metadata", hold=True)
    _check_etag(call, row)
    return _put(call, row, volumes.change)


def drop_from_volume(call: Call) -> None:
    """DELETE /volumes/{volume_id}/metadata/{key}: 200."""
    _drop(call, _volume(call, "volume:delete_volume_metadata", hold=True), volumes.change)


def of_snapshot(call: Call) -> dict[str, Any]:
    """GET /snapshots/{snapshot_id}/metadata: 200."""
    return {"metadata": _snapshot(call, "volume:get_snapshot_metadata").metadata}


def item_of_snapshot(call: Call) -> dict[str, Any]:
    """GET /snapshots/{snapshot_id}/metadata/{key}: 200."""
    return _item(call, _snapshot(call, "volume:get_snapshot_metadata"))


def add_to_snapshot(call: Call) -> dict[str, Any]:
    """POST /snapshots/{snapshot_id}/metadata: 200. What is there stays."""
    row = _snapshot(call, "volume:update_snapshot_metadata", hold=True)
    return _write(call, row, snapshots.change, {**row.metadata, **call.body.metadata})


def replace_of_snapshot(call: Call) -> dict[str, Any]:
    """PUT /snapshots/{snapshot_id}/metadata: 200."""
    row = _snapshot(call, "volume:update_snapshot_metadata", hold=True)
    return _write(call, row, snapshots.change, call.body.metadata)


def put_on_snapshot(call: Call) -> dict[str, Any]:
    """PUT /snapshots/{snapshot_id}/metadata/{key}: 200."""
    return _put(call, _snapshot(call, "volume:update_snapshot_metadata", hold=True), snapshots.change)


def drop_from_snapshot(call: Call) -> None:
    """DELETE /snapshots/{snapshot_id}/metadata/{key}: 200."""
    _drop(call, _snapshot(call, "volume:delete_snapshot_metadata", hold=True), snapshots.change)


def _volume(call: Call, rule: str, *, hold: bool = False) -> Any:
    return volumes.visible(call, call.params["volume_id"], rule, hold=hold)


def _snapshot(call: Call, rule: str, *, hold: bool = False) -> Any:
    return snapshots.visible(call, call.params["snapshot_id"], rule, hold=hold)


def _item(call: Call, row: Any) -> dict[str, Any]:
    key = call.params["key"]
    if key not in row.metadata:
        raise _missing(row, key)
    return {"meta": {key: row.metadata[key]}}


def _missing(row: Any, key: str) -> NotFound:
    return NotFound(f"{row.id} has no metadata with key {key}.")


def _write(call: Call, row: Any, write: Write, metadata: Mapping[str, str]) -> dict[str, Any]:
    if row.status in (states.MAINTENANCE, "uploading") and write is volumes.change:
        raise BadRequest(f"Invalid volume: The status of volume {row.id} is {row.status}; its metadata is not changed.")
    write(call.tx, call.cloud, row.id, metadata=dict(metadata))
    return {"metadata": dict(metadata)}


def _put(call: Call, row: Any, write: Write) -> dict[str, Any]:
    key, meta = call.params["key"], call.body.meta
    if list(meta) != [key]:
        raise BadRequest("Request body contains too many items, or another key than the URI.")
    _write(call, row, write, {**row.metadata, **meta})
    return {"meta": meta}


def _drop(call: Call, row: Any, write: Write) -> None:
    key = call.params["key"]
    if key not in row.metadata:
        raise _missing(row, key)
    _write(call, row, write, {name: value for name, value in row.metadata.items() if name != key})
