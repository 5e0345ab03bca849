"""Migrations: servers that moved or changed their size, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import spec
from pileus.compute.schemas import FlavorFacts
from pileus.compute.schemas_rest import MigrationQuery
from pileus.compute.tables import migration
from pileus.compute.views_rest import links, more, page_size, when
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.views import Field, View
from pileus.world import parse_iso

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_VIEW = View(
    "id", Field("uuid", since=(2, 59)), Field("instance_uuid", "server_id"), "status",
    Field("migration_type", "kind", since=(2, 23)),
    Field("source_compute", "source"), Field("source_node", "source"), Field("dest_compute", "dest"),
    Field("dest_node", "dest"), Field("dest_host", lambda row: None),
    Field("old_instance_type_id", "old_flavor"), Field("new_instance_type_id", "new_flavor"),
    Field("created_at", lambda row: when(row.created)), Field("updated_at", lambda row: when(row.updated)),
    Field("user_id", since=(2, 80)), Field("project_id", since=(2, 80)),
)
_MOVING = ("queued", "preparing", "running", "post-migrating", "accepted", "pre-migrating", "migrating")

_NEWEST = (
    sa.select(migration).where(migration.c.server_id == sa.bindparam("i")).order_by(migration.c.id.desc()).limit(1)
)
COMPLETED = "completed"
_OVER = ("confirmed", "reverted", "accepted", "done", COMPLETED)

# -- for other modules


def record(
    call: Call, row: Any, kind: str, status: str, new: FlavorFacts, *, uuid: str = "", dest: str | None = None
) -> None:
    """Write down that a server changes its flavor or its node; by default on its own node."""
    call.tx.execute(migration.insert(), {
        "uuid": uuid or call.cloud.world.uuid(), "server_id": row.id, "kind": kind, "status": status,
        "source": row.host, "dest": dest or row.host, "old_flavor": spec.flavor_of(row).seq, "new_flavor": new.seq,
        "user_id": call.context.user_id, "project_id": call.context.project_id, "created": call.now,
        "updated": call.now,
    })


def newest(tx: Tx, server_id: str) -> Any:
    """The row of a server's newest migration; None when it never had one."""
    return tx.first(_NEWEST, {"i": server_id})


def set_status(tx: Tx, server_id: str, now: float, status: str, *before: str) -> None:
    """The state of the server's newest migration, where it is one of `before`."""
    found = newest(tx, server_id)
    if found is not None and found.status in before:
        tx.execute(migration.update().where(migration.c.id == found.id).values(status=status, updated=now))


def other_node(tx: Tx, row: Any) -> str | None:
    """The node beside its own that may have a server's guest too, as long as a move is neither confirmed nor undone."""
    move = newest(tx, row.id)
    if move is None or move.status in _OVER or row.host not in (move.source, move.dest):
        return None
    other: str = move.dest if row.host == move.source else move.source
    return other if other != row.host else None


def open_from(tx: Tx, server_id: str, kind: str, source: str) -> list[Any]:
    """A server's migrations of a kind from a node that has not been cleaned since."""
    return list(tx.all(sa.select(migration).where(
        migration.c.server_id == server_id, migration.c.kind == kind, migration.c.source == source,
        migration.c.status != COMPLETED,
    )))


def complete(tx: Tx, row: Any, now: float) -> None:
    """Nothing of the server is left on the migration's source."""
    tx.execute(migration.update().where(migration.c.id == row.id).values(status=COMPLETED, updated=now))


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /os-migrations: 200."""
    query: MigrationQuery = call.query
    pages = call.version is not None and call.version >= (2, 59)
    statement = sa.select(migration).where(*_filters(query)).order_by(migration.c.id.desc())
    size = page_size(query.limit) if pages else None
    if size is not None:
        statement = statement.limit(size)
    if pages and query.marker is not None:
        at = call.tx.scalar(sa.select(migration.c.id).where(migration.c.uuid == query.marker))
        if at is None:
            raise BadRequest(f"Marker {query.marker} could not be found.")
        statement = statement.where(migration.c.id < at)
    rows = call.tx.all(statement)
    items = _VIEW.render_all(rows, call.version)
    if call.version is not None and call.version >= (2, 23):
        for item, row in zip(items, rows, strict=True):
            if row.kind == "live-migration" and row.status in _MOVING:
                item["links"] = links(call, f"servers/{row.server_id}/migrations", row.id)
    reply: dict[str, Any] = {"migrations": items}
    return reply | more(call, "migrations", len(rows), size, rows[-1].uuid) if size and rows else reply


def _filters(query: MigrationQuery) -> list[sa.ColumnElement[bool]]:
    columns = {
        "instance_uuid": migration.c.server_id, "migration_type": migration.c.kind, "status": migration.c.status,
        "source_compute": migration.c.source, "user_id": migration.c.user_id, "project_id": migration.c.project_id,
    }
    wanted: list[sa.ColumnElement[bool]] = []
    for name, column in columns.items():
        value = getattr(query, name, None)
        if value is not None:
            wanted.append(column == value)
    if query.host is not None:
        wanted.append(sa.or_(migration.c.source == query.host, migration.c.dest == query.host))
    since, before = getattr(query, "changes_since", None), getattr(query, "changes_before", None)
    if since is not None:
        wanted.append(migration.c.updated >= _moment(since, "changes-since"))
    if before is not None:
        wanted.append(migration.c.updated <= _moment(before, "changes-before"))
        if since is not None and _moment(since, "changes-since") > _moment(before, "changes-before"):
            raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return wanted


def _moment(text: str, name: str) -> float:
    try:
        return parse_iso(text)
    except (ValueError, OverflowError):
        raise BadRequest(f"Invalid input: {name} '{text}' is not an ISO 8601 time.") from None
