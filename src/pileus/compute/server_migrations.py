"""`/servers/{id}/migrations`: the live migrations of one server that are under way, for administrators."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute import servers, states
from pileus.compute.tables import migration
from pileus.compute.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.views import Field, View

LIVE = "live-migration"
IN_PROGRESS = ("accepted", "queued", "preparing", "pre-migrating", "migrating", "running", "post-migrating")
"""The states in which a live migration is not over."""

_P = "os_compute_api:servers:migrations:"


def _nothing(row: Any) -> None:
    """Figures that no node has reported yet."""
    return None


_VIEW = View(
    "id", Field("uuid", since=(2, 59)), Field("server_uuid", "server_id"), "status",
    Field("source_compute", "source"), Field("source_node", "source"), Field("dest_compute", "dest"),
    Field("dest_node", "dest"), Field("dest_host", _nothing),
    Field("memory_total_bytes", _nothing), Field("memory_processed_bytes", _nothing),
    Field("memory_remaining_bytes", _nothing), Field("disk_total_bytes", _nothing),
    Field("disk_processed_bytes", _nothing), Field("disk_remaining_bytes", _nothing),
    Field("created_at", lambda row: when(row.created)), Field("updated_at", lambda row: when(row.updated)),
    Field("user_id", since=(2, 80)), Field("project_id", since=(2, 80)),
)


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/migrations, from 2.23 on: 200."""
    row = servers.get(call, call.params["server_id"], _P + "index")
    rows = call.tx.all(sa.select(migration).where(
        migration.c.server_id == row.id, migration.c.kind == LIVE, migration.c.status.in_(IN_PROGRESS)
    ).order_by(migration.c.id))
    return {"migrations": _VIEW.render_all(rows, call.version)}


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/migrations/{migration_id}, from 2.23 on: 200; 404 for one that is over."""
    row = servers.get(call, call.params["server_id"], _P + "show")
    found = _find(call, row)
    if found.kind != LIVE:
        raise NotFound(f"Migration {found.id} for server {row.id} is not live-migration.")
    if found.status not in IN_PROGRESS:
        raise NotFound(f"Migration {found.id} for server {row.id} is not in progress.")
    return {"migration": _VIEW.render(found, call.version)}


def force_complete(call: Call) -> None:
    """POST /servers/{server_id}/migrations/{migration_id}/action, from 2.22 on: 202."""
    row = _migrating(call, "force_complete")
    try:
        found = _find(call, row)
    except NotFound as missing:
        raise BadRequest(missing.message) from None
    _refuse(row, found, "force complete")


def abort(call: Call) -> None:
    """DELETE /servers/{server_id}/migrations/{migration_id}, from 2.24 on: 202."""
    row = _migrating(call, "delete")
    _refuse(row, _find(call, row), "abort live migration")


def _migrating(call: Call, rule: str) -> Any:
    """The server, while it migrates. Raises Conflict when it does not."""
    row = servers.hold(call, call.params["server_id"], _P + rule)
    states.require(call.context, row, "steerMigration", rule)
    return row


def _find(call: Call, row: Any) -> Any:
    wanted = call.params["migration_id"]
    found = None
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 18:
        found = call.tx.first(
            sa.select(migration).where(migration.c.id == int(wanted), migration.c.server_id == row.id)
        )
    if found is None:
        raise NotFound(f"Migration {wanted} not found for instance {row.id}")
    return found


def _refuse(row: Any, found: Any, verb: str) -> None:
    """No node carries guests over while they run, so that there is nothing to hurry or to break off."""
    if found.kind != LIVE or found.status not in IN_PROGRESS:
        raise BadRequest(
            f"Migration {found.id} state of instance {row.id} is {found.status}. Cannot {verb} while the migration is "
            "in this state."
        )
    raise Conflict(f"Migration {found.id} of instance {row.id}: its nodes cannot {verb}.")
