"""`/servers/{id}/tags` (2.26)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute import servers, states
from pileus.compute.schemas import TagsBody
from pileus.compute.tables import server_tag
from pileus.compute.versions import in_path
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Conflict, NotFound

_MOST = 50
_RULE = "os_compute_api:os-server-tags:"
_STATES = (states.ACTIVE, states.PAUSED, states.SUSPENDED, states.STOPPED)


def _held(call: Call, rule: str) -> Any:
    row = servers.hold(call, call.params["server_id"], _RULE + rule)
    if row.vm_state not in _STATES:
        raise Conflict(f"Cannot 'update tags' instance {row.id} while it is in vm_state {row.vm_state}")
    return row


def _of(call: Call, server_id: str) -> list[str]:
    return servers.tags_of(call.tx, [server_id]).get(server_id, [])


def _changed(call: Call, server_id: str) -> None:
    servers.change(call.tx, server_id, call.now)


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/tags: 200."""
    return {"tags": _of(call, servers.get(call, call.params["server_id"], _RULE + "index").id)}


def replace(call: Call) -> dict[str, Any]:
    """PUT /servers/{server_id}/tags: 200."""
    body: TagsBody = call.body
    row = _held(call, "update_all")
    tags = list(dict.fromkeys(body.tags))
    call.tx.execute(server_tag.delete().where(server_tag.c.server_id == row.id))
    if tags:
        call.tx.execute(server_tag.insert(), [{"server_id": row.id, "name": tag} for tag in tags])
    _changed(call, row.id)
    return {"tags": sorted(tags)}


def delete_all(call: Call) -> None:
    """DELETE /servers/{server_id}/tags: 204."""
    row = _held(call, "delete_all")
    call.tx.execute(server_tag.delete().where(server_tag.c.server_id == row.id))
    _changed(call, row.id)


def show(call: Call) -> None:
    """GET /servers/{server_id}/tags/{tag}: 204, or 404."""
    row = servers.get(call, call.params["server_id"], _RULE + "show")
    _must_have(row, _of(call, row.id), call.params["tag"])


def _must_have(row: Any, tags: list[str], tag: str) -> None:
    if tag not in tags:
        raise NotFound(f"Server {row.id} has no tag '{tag}'")


def put(call: Call) -> Reply:
    """PUT /servers/{server_id}/tags/{tag}: 201, or 204 when the server had it."""
    row, tag = _held(call, "update"), call.params["tag"]
    if not 1 <= len(tag) <= 60 or "," in tag or "/" in tag:
        raise BadRequest(f"Tag '{tag}' is not possible: 1 to 60 characters, none of them ',' or '/'.")
    have = _of(call, row.id)
    if tag in have:
        return Reply(status=204)
    if len(have) >= _MOST:
        raise BadRequest(f"The number of tags exceeded the per-server limit {_MOST}")
    call.tx.execute(server_tag.insert(), {"server_id": row.id, "name": tag})
    _changed(call, row.id)
    here = f"{call.url}/{in_path(call)}/servers/{row.id}/tags/{call.params['tag']}"
    return Reply(status=201, headers={"Location": here})


def delete(call: Call) -> None:
    """DELETE /servers/{server_id}/tags/{tag}: 204, or 404."""
    row, tag = _held(call, "delete"), call.params["tag"]
    _must_have(row, _of(call, row.id), tag)
    call.tx.execute(
        server_tag.delete().where(sa.and_(server_tag.c.server_id == row.id, server_tag.c.name == tag))
    )
    _changed(call, row.id)
