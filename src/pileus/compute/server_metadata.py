"""`/servers/{id}/metadata`: what users write on their servers."""

from __future__ import annotations

from typing import Any

from pileus.compute import create, servers
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

_RULE = "os_compute_api:server-metadata:"


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/metadata: 200."""
    return {"metadata": servers.get(call, call.params["server_id"], _RULE + "index").metadata}


def add(call: Call) -> dict[str, Any]:
    """POST /servers/{server_id}/metadata: 200, the new items beside the old."""
    row = _held(call, "create")
    return {"metadata": _store(call, row, {**row.metadata, **call.body.metadata})}


def replace(call: Call) -> dict[str, Any]:
    """PUT /servers/{server_id}/metadata: 200, the new items alone."""
    return {"metadata": _store(call, _held(call, "update_all"), call.body.metadata)}


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/metadata/{key}: 200."""
    row = servers.get(call, call.params["server_id"], _RULE + "show")
    return {"meta": {call.params["key"]: _item(row, call.params["key"])}}


def put(call: Call) -> dict[str, Any]:
    """PUT /servers/{server_id}/metadata/{key}: 200."""
    row, key = _held(call, "update"), call.params["key"]
    if key not in call.body.meta:
        raise BadRequest("Request body and URI mismatch")
    _store(call, row, {**row.metadata, **call.body.meta})
    return {"meta": call.body.meta}


def delete(call: Call) -> None:
    """DELETE /servers/{server_id}/metadata/{key}: 204."""
    row, key = _held(call, "delete"), call.params["key"]
    _item(row, key)
    _store(call, row, {k: v for k, v in row.metadata.items() if k != key})


def _held(call: Call, rule: str) -> Any:
    return servers.check_action(call, call.params["server_id"], _RULE + rule, "metadata", "update metadata")


def _item(row: Any, key: str) -> str:
    if key not in row.metadata:
        raise NotFound("Metadata item was not found")
    value: str = row.metadata[key]
    return value


def _store(call: Call, row: Any, metadata: dict[str, str]) -> dict[str, str]:
    create.check_metadata_quota(call, metadata)
    servers.change(call.tx, row.id, call.now, metadata=metadata)
    return metadata
