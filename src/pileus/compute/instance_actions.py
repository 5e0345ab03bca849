"""The action log of a server: what was asked, by whom, how it ended. `/servers/{id}/os-instance-actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import servers
from pileus.compute.actors import Actor
from pileus.compute.tables import action, event, server
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.pages import SortKey, next_link, page
from pileus.web.views import Field, View
from pileus.world import iso_micro, parse_iso

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.schemas import ActionsQuery
    from pileus.db.engine import Tx

_OPEN_OF_REQUEST = sa.select(action.c.id).where(
    action.c.request_id == sa.bindparam("request"), action.c.server_id == sa.bindparam("server"),
    action.c.finished.is_(None),
)

_FINISH = action.update().where(action.c.id == sa.bindparam("i")).values(
    finished=sa.bindparam("now"), updated=sa.bindparam("now"), message=sa.bindparam("m")
)
_FINISH_EVENT = (
    event.update().where(event.c.action_id == sa.bindparam("i"), event.c.finished.is_(None))
    .values(
        finished=sa.bindparam("now"), result=sa.bindparam("r"), traceback=sa.bindparam("t"), details=sa.bindparam("d")
    )
)
_LAST = (
    sa.select(action.c.request_id, action.c.action).where(action.c.server_id == sa.bindparam("server"))
    .order_by(action.c.id.desc()).limit(1)
)


def begin(by: Actor, server_id: str, name: str, event_name: str = "", host: str | None = None) -> None:
    """Log that an action was asked for, with its event where something is to be done."""
    row = by.tx.execute(
        action.insert(),
        {
            "server_id": server_id, "action": name, "request_id": by.request_id, "user_id": by.context.user_id,
            "project_id": by.context.project_id or "", "started": by.now, "updated": by.now,
        },
    )
    if event_name:
        by.tx.execute(event.insert(), {
            "action_id": new_key(row), "event": event_name, "host": host, "started": by.now,
        })


def new_key(result: sa.CursorResult[Any]) -> int:
    """The key that the database gave to an inserted row."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def finish(tx: Tx, server_id: str, request_id: str, now: float, error: str = "") -> None:
    """Log how it ended: the action's open event gets the result."""
    found = tx.scalar(_OPEN_OF_REQUEST, {"request": request_id, "server": server_id})
    if found is None:
        return
    tx.execute(_FINISH, {"i": found, "now": now, "m": "Error" if error else None})
    tx.execute(_FINISH_EVENT, {
        "i": found, "now": now, "r": "Error" if error else "Success", "t": error or None, "d": error[:255] or None,
    })


async def log_done(call: Call, server_id: str, name: str, event_name: str = "", host: str | None = None) -> None:
    """Log an action that was asked of a node directly, and is done, in a transaction of its own."""
    def write() -> None:
        begin(call, server_id, name, event_name, host)
        finish(call.tx, server_id, call.request_id, call.cloud.world.now())

    await call.run(write)


def last_request(tx: Tx, server_id: str) -> str:
    """The id of the request that last asked for something to be done to a server; "" where there is none."""
    found = tx.first(_LAST, {"server": server_id})
    return "" if found is None else str(found.request_id)


def last_name(tx: Tx, server_id: str) -> str:
    """What last was to be done to a server; "" where nothing was."""
    found = tx.first(_LAST, {"server": server_id})
    return "" if found is None else str(found.action)


def open_request(tx: Tx, server_id: str, name: str) -> str:
    """The id of the request whose action of this name goes on; "" where none does."""
    statement = sa.select(action.c.request_id).where(
        action.c.server_id == server_id, action.c.action == name, action.c.finished.is_(None)
    )
    return tx.scalar(statement.order_by(action.c.id.desc()).limit(1)) or ""


def note(tx: Tx, cloud: Cloud, row: Any, name: str, event_name: str, reason: str, *, failed: bool) -> None:
    """Log what happened to a server without being asked for, in its owner's name; `reason` is the event's details."""
    now = cloud.world.now()
    made = tx.execute(action.insert(), {
        "server_id": row.id, "action": name, "request_id": f"req-{cloud.world.uuid()}", "user_id": row.user_id,
        "project_id": row.project_id, "started": now, "updated": now, "finished": now,
        "message": "Error" if failed else None,
    })
    tx.execute(event.insert(), {
        "action_id": new_key(made), "event": event_name, "host": row.host, "started": now, "finished": now,
        "result": "Error" if failed else "Success", "details": reason[:255], "traceback": reason if failed else None,
    })


_ACTION = View(
    Field("action"),
    Field("instance_uuid", "server_id"),
    Field("request_id"),
    Field("user_id"),
    Field("project_id"),
    Field("start_time", lambda row: iso_micro(row.started)),
    Field("message"),
    Field("updated_at", lambda row: iso_micro(row.updated), since=(2, 58)),
)


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-instance-actions: 200, the newest first; from 2.21 of deleted servers too."""
    row = _server(call, "os_compute_api:os-instance-actions:list")
    query: ActionsQuery = call.query
    statement = sa.select(action).where(action.c.server_id == row.id)
    limit, marker = None, None
    if call.version is not None and call.version >= (2, 58):
        limit = min(query.limit or 1000, 1000)
        if query.marker is not None:
            marker = call.tx.first(statement.where(action.c.request_id == query.marker))
            if marker is None:
                raise BadRequest(f"marker [{query.marker}] not found")
        statement = _changed(call, statement)
    keys = [SortKey(action.c.started, descending=True)]
    rows = page(call.tx, statement, keys, action.c.id, limit, marker)
    reply: dict[str, Any] = {"instanceActions": _ACTION.render_all(rows, call.version)}
    if limit is not None and len(rows) == limit:
        here = f"{call.url}{call.path}"
        href = next_link(here, call.query_pairs, rows[-1].request_id, limit)
        reply["links"] = [{"rel": "next", "href": href}]
    return reply


def _changed(call: Call, statement: sa.Select[Any]) -> sa.Select[Any]:
    since, before = call.query.changes_since, call.query.changes_before
    if call.version is not None and call.version < (2, 66):
        before = None
    try:
        first = parse_iso(since) if since else None
        last = parse_iso(before) if before else None
    except ValueError:
        raise BadRequest("changes-since and changes-before are ISO 8601 times.") from None
    if first is not None and last is not None and last < first:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    if first is not None:
        statement = statement.where(action.c.updated >= first)
    if last is not None:
        statement = statement.where(action.c.updated <= last)
    return statement


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-instance-actions/{request_id}: 200, with its events."""
    row = _server(call, "os_compute_api:os-instance-actions:show")
    found = call.tx.first(
        sa.select(action)
        .where(action.c.server_id == row.id, action.c.request_id == call.params["request_id"])
        .order_by(action.c.id).limit(1)
    )
    if found is None:
        raise NotFound(f"Action for request_id {call.params['request_id']} on instance {row.id} not found")
    body = _ACTION.render(found, call.version)
    allowed = call.allows("os_compute_api:os-instance-actions:events", project_id=row.project_id)
    if allowed or (call.version is not None and call.version >= (2, 51)):
        events = call.tx.all(sa.select(event).where(event.c.action_id == found.id).order_by(event.c.id))
        body["events"] = [_event(call, row, item, allowed) for item in events]
    return {"instanceAction": body}


def _event(call: Call, row: Any, item: Any, admin: bool) -> dict[str, Any]:
    version = call.version or (2, 1)
    body: dict[str, Any] = {
        "event": item.event, "start_time": iso_micro(item.started),
        "finish_time": iso_micro(item.finished) if item.finished else None, "result": item.result,
    }
    if admin:
        body["traceback"] = item.traceback
    if version >= (2, 62):
        body["hostId"] = servers.host_id(item.host, row.project_id)
        if admin:
            body["host"] = item.host
    if version >= (2, 84) and call.allows(
        "os_compute_api:os-instance-actions:events:details", project_id=row.project_id
    ):
        body["details"] = item.details
    return body


def _server(call: Call, rule: str) -> Any:
    """The server, deleted or not (2.21). Raises NotFound, Forbidden."""
    deleted = call.version is not None and call.version >= (2, 21)
    statement = sa.select(server).where(server.c.id == call.params["server_id"])
    row = call.tx.first(statement if deleted else statement.where(server.c.deleted.is_(False)))
    return servers.visible(call, row, call.params["server_id"], rule)
