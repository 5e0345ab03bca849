"""Migrations: servers that moved or changed their size, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import orders, spec
from pileus.compute.actors import Actor
from pileus.compute.schemas import FlavorFacts
from pileus.compute.schemas_rest import MigrationQuery
from pileus.compute.tables import migration
from pileus.compute.views_rest import links, more, page_size, when
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.views import Field, View
from pileus.world import parse_iso

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.ends import End
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
LIVE = "live-migration"
IN_PROGRESS = ("queued", "preparing", "running", "post-migrating")
"""The states in which a live migration is not over."""

_NEWEST = (
    sa.select(migration).where(migration.c.server_id == sa.bindparam("i")).order_by(migration.c.id.desc()).limit(1)
)
COMPLETED = "completed"
_OVER = ("confirmed", "reverted", "accepted", "done", "cancelled", COMPLETED)
_OF_UUID = sa.select(migration).where(migration.c.uuid == sa.bindparam("u"))

# -- for other modules


def record(
    by: Actor, row: Any, kind: str, status: str, new: FlavorFacts, *, uuid: str = "", dest: str | None = None,
    purpose: str = "", reason: str | None = None,
) -> None:
    """Write down that a server changes its flavor or its node; by default on its own node."""
    by.tx.execute(migration.insert(), {
        "uuid": uuid or by.cloud.world.uuid(), "server_id": row.id, "kind": kind, "status": status,
        "source": row.host, "dest": dest or row.host, "old_flavor": spec.flavor_of(row).seq, "new_flavor": new.seq,
        "user_id": by.context.user_id, "project_id": by.context.project_id, "created": by.now,
        "updated": by.now, "purpose": purpose, "reason": reason,
    })


def of_uuid(tx: Tx, uuid: str) -> Any:
    """The row of a migration; None when there is none."""
    return tx.first(_OF_UUID, {"u": uuid})


def newest(tx: Tx, server_id: str) -> Any:
    """The row of a server's newest migration; None when it never had one."""
    return tx.first(_NEWEST, {"i": server_id})


def set_status(tx: Tx, server_id: str, now: float, status: str, *before: str, reason: str | None = None) -> None:
    """The state of the server's newest migration, where it is one of `before`; `reason` where it is an error."""
    found = newest(tx, server_id)
    if found is not None and found.status in before:
        change(tx, found, now, status=status, **({"reason": reason} if reason else {}))


def change(tx: Tx, move: Any, now: float, **values: Any) -> None:
    """Write columns of a migration."""
    tx.execute(migration.update().where(migration.c.id == move.id).values(updated=now, **values))


def other_node(tx: Tx, row: Any) -> str | None:
    """The node beside its own that may have a server's guest too, as long as a move is neither confirmed nor undone."""
    move = newest(tx, row.id)
    if move is None or move.status in _OVER or row.host not in (move.source, move.dest):
        return None
    other: str = move.dest if row.host == move.source else move.source
    return other if other != row.host else None


def clean(tx: Tx, cloud: Cloud, row: Any, move: Any, node: str, request_id: str) -> None:
    """Have a node remove its copy of a guest that goes on elsewhere, whenever it is there to do it."""
    change(tx, move, cloud.world.now(), to_clean=node)
    orders.send(tx, cloud, row, "destroy", node=node, request_id=request_id, deadline=orders.UNTIL_BACK)


_TO_CLEAN = sa.select(migration).where(
    migration.c.server_id == sa.bindparam("s"), migration.c.to_clean == sa.bindparam("n")
)


def cleaned(end: End) -> bool:
    """A node has removed the copy that it still had of a guest: its place there is free. False: it had none.

    The server may even be on that node again by now, so that this tells such a removal from any other."""
    found = end.tx.all(_TO_CLEAN, {"s": end.row.id, "n": end.task.node})
    for move in found:
        if move.source == end.task.node:
            allocations.release(end.tx, move.uuid)
        after = {"status": COMPLETED} if move.status == "done" else {}
        change(end.tx, move, end.now, to_clean=None, **after)
    return bool(found)


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
            if row.kind == LIVE and row.status in IN_PROGRESS:
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
