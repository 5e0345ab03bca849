"""Lists of servers: filters, sorting, pages."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.compute import filters, servers, views
from pileus.compute.tables import server
from pileus.compute.versions import in_path
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.pages import SortKey, next_link, page, sort_keys

_MOST = 1000

_SORT: dict[str, sa.ColumnElement[Any]] = {
    "access_ip_v4": server.c.access_ip_v4, "access_ip_v6": server.c.access_ip_v6,
    "auto_disk_config": server.c.disk_config, "availability_zone": server.c.zone,
    "config_drive": server.c.config_drive, "created_at": server.c.created,
    "display_description": server.c.description, "display_name": server.c.name, "host": server.c.host,
    "hostname": server.c.hostname, "image_ref": server.c.image_id, "instance_type_id": server.c.flavor_id,
    "key_name": server.c.key_name, "launch_index": server.c.launch_index, "launched_at": server.c.launched,
    "locked_by": server.c.locked_by, "node": server.c.host, "power_state": server.c.power_state,
    "progress": server.c.progress, "project_id": server.c.project_id, "task_state": server.c.task_state,
    "terminated_at": server.c.terminated, "updated_at": server.c.updated, "user_id": server.c.user_id,
    "uuid": server.c.id, "vm_state": server.c.vm_state,
}
_encode = msgspec.json.Encoder().encode
_CONSTANT = frozenset({"kernel_id", "ramdisk_id", "root_device_name"})
_IGNORED = frozenset({
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at",
    "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "locked", "memory_mb",
    "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode",
})
"""Keys that were legal before schemas were checked: they sort nothing, and are refused from 2.75 on."""

_DEFAULT = (SortKey(server.c.created, descending=True),)
_SHORT = tuple(dict.fromkeys((
    server.c.id, server.c.name, server.c.seq, server.c.created, *_SORT.values(), server.c.locked,
)))


def index(call: Call) -> dict[str, Any]:
    """GET /servers: 200, ids and names."""
    rows, links = _rows(call, sa.select(*_SHORT), "index")
    version = in_path(call)
    items = [{"id": row.id, "name": row.name, "links": views.links(call.url, row.id, version)} for row in rows]
    return {"servers": items, **links}


def detail(call: Call) -> dict[str, Any]:
    """GET /servers/detail: 200, whole servers, without their groups."""
    admin = servers.is_admin_view(call, call.context.project_id)
    rows, links = _rows(call, sa.select(*servers.columns(call.version or (2, 1), admin)), "detail")
    # Each is encoded at once: a thousand views held together would be megabytes of fresh memory for every list.
    found = [
        msgspec.Raw(_encode(views.render(call, item, admin=admin, groups=False))) for item in servers.shown(call, rows)
    ]
    return {"servers": found, **links}


def _rows(call: Call, statement: sa.Select[Any], kind: str) -> tuple[list[Any], dict[str, Any]]:
    clauses = filters.clauses(call, kind)
    if clauses is None:
        return [], {}
    limit, marker_id = _limit(call)
    marker = None
    if marker_id is not None:
        of_caller = [] if call.context.is_admin else [server.c.project_id == call.context.project_id]
        marker = call.tx.first(statement.where(server.c.id == marker_id, *of_caller))
        if marker is None:
            raise BadRequest(f"marker [{marker_id}] not found")
    rows = page(call.tx, statement.where(*clauses), _sort(call), server.c.seq, limit, marker)
    if rows and len(rows) == limit:
        path = f"/{in_path(call)}/servers" + ("/detail" if kind == "detail" else "")
        asked = any(name == "limit" for name, _ in call.query_pairs)
        href = next_link(call.url + path, call.query_pairs, rows[-1].id, limit if asked else None)
        return rows, {"servers_links": [{"rel": "next", "href": href}]}
    return rows, {}


def _limit(call: Call) -> tuple[int, str | None]:
    limit, marker = _MOST, None
    for name, text in call.query_pairs:
        if name == "limit":
            if not text.isascii() or not text.isdigit() or len(text) > 18:
                raise BadRequest(f"Invalid input for query parameters limit. Value: {text}. It is not a number >= 0.")
            limit = min(int(text), _MOST)
        elif name == "marker":
            marker = text
    return limit, marker


def _sort(call: Call) -> list[SortKey]:
    keys = [text for name, text in call.query_pairs if name == "sort_key"]
    directions = [text for name, text in call.query_pairs if name == "sort_dir"]
    version = call.version or (2, 1)
    columns = {**_SORT, "locked": server.c.locked} if version >= (2, 73) else _SORT
    kept, kept_directions = [], []
    for at, key in enumerate(keys):
        if key in columns:
            if key in ("host", "node") and not call.context.is_admin:
                continue
            kept.append(key)
            kept_directions.append(directions[at] if at < len(directions) else "desc")
        elif key not in _CONSTANT and (key not in _IGNORED or version >= (2, 75)):
            raise BadRequest(f"Invalid input for query parameters sort_key. Value: {key}.")
    for text in directions:
        if text not in ("asc", "desc"):
            raise BadRequest(f"Unknown sort direction '{text}': must be 'asc' or 'desc'.")
    if len(directions) > max(len(keys), 1):
        raise BadRequest("There are more sort directions than sort keys.")
    if not keys and directions:
        return [SortKey(server.c.created, descending=directions[0] == "desc")]
    return sort_keys(columns, kept, kept_directions, _DEFAULT, "desc")
