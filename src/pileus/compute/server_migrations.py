"""`/servers/{id}/migrations`: the live migrations of one server that are under way, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import instance_actions, live, migrations, servers, states
from pileus.compute.ends import without_task
from pileus.compute.migrations import IN_PROGRESS, LIVE
from pileus.compute.tables import migration
from pileus.compute.views_rest import when
from pileus.node.contract import MoveProgress
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound, Problem
from pileus.web.views import Field, View
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.node.contract import Task, TaskResult

STEER = "compute.steer_migration"
_AGAIN = 1.0
_P = "os_compute_api:servers:migrations:"
_QUESTIONS = {"abort": "abort_move", "force": "force_move"}
_ACTIONS = {"abort": "live_migration_cancel", "force": "live_migration_force_complete"}


class Steer(msgspec.Struct, frozen=True):
    """The arguments of the job that has a node hurry or break off a move."""

    server_id: str
    migration: str
    wanted: str  # abort, force
    request_id: str


class _Shown(msgspec.Struct, frozen=True):
    """A migration with how far it is; None where no node has told."""

    row: Any
    progress: MoveProgress | None


def _column(name: str, column: str = "", **versions: Any) -> Field:
    return Field(name, lambda shown: getattr(shown.row, column or name), **versions)


def _bytes(name: str) -> Any:
    return lambda shown: None if shown.progress is None else getattr(shown.progress, name)


_VIEW = View(
    _column("id"), _column("uuid", since=(2, 59)), _column("server_uuid", "server_id"), _column("status"),
    _column("source_compute", "source"), _column("source_node", "source"), _column("dest_compute", "dest"),
    _column("dest_node", "dest"), Field("dest_host", lambda shown: None),
    Field("memory_total_bytes", _bytes("memory_total")), Field("memory_processed_bytes", _bytes("memory_done")),
    Field("memory_remaining_bytes", _bytes("memory_left")), Field("disk_total_bytes", _bytes("disk_total")),
    Field("disk_processed_bytes", _bytes("disk_done")), Field("disk_remaining_bytes", _bytes("disk_left")),
    Field("created_at", lambda shown: when(shown.row.created)),
    Field("updated_at", lambda shown: when(shown.row.updated)),
    _column("user_id", since=(2, 80)), _column("project_id", since=(2, 80)),
)


# -- looking


async def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/migrations, from 2.23 on: 200."""
    found = await call.run(lambda: _under_way(call), write=False)
    return {"migrations": [_VIEW.render(await _with_progress(call, row), call.version) for row in found]}


async def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/migrations/{migration_id}, from 2.23 on: 200; 404 for one that is over."""
    found = await call.run(lambda: _one(call), write=False)
    return {"migration": _VIEW.render(await _with_progress(call, found), call.version)}


def _under_way(call: Call) -> Any:
    row = servers.get(call, call.params["server_id"], _P + "index")
    return call.tx.all(sa.select(migration).where(
        migration.c.server_id == row.id, migration.c.kind == LIVE, migration.c.status.in_(IN_PROGRESS)
    ).order_by(migration.c.id))


def _one(call: Call) -> Any:
    row = servers.get(call, call.params["server_id"], _P + "show")
    found = _find(call, row)
    if found.kind != LIVE:
        raise NotFound(f"Migration {found.id} for server {row.id} is not live-migration.")
    if found.status not in IN_PROGRESS:
        raise NotFound(f"Live migration {found.id} for server {row.id} is not in progress.")
    return found


async def _with_progress(call: Call, row: Any) -> _Shown:
    """The migration with what its source says of it; a node that does not answer leaves the figures unknown."""
    if row.status != "running":
        return _Shown(row, None)
    try:
        said = await call.cloud.ask(row.source, "move_progress", {"server_id": row.server_id})
    except Problem:
        return _Shown(row, None)
    return _Shown(row, said if isinstance(said, MoveProgress) else msgspec.convert(said, MoveProgress))


# -- steering


def force_complete(call: Call) -> None:
    """POST /servers/{server_id}/migrations/{migration_id}/action, from 2.22 on: 202. The guest is paused meanwhile."""
    row = _migrating(call, "force_complete")
    try:
        found = _find(call, row)
    except NotFound as missing:
        raise BadRequest(missing.message) from None
    _check_status(row, found, ("running",), "force complete")
    _steer(call, row, found, "force")


def abort(call: Call) -> None:
    """DELETE /servers/{server_id}/migrations/{migration_id}, from 2.24 on: 202; from 2.65 also before the guest is
    sent."""
    row = _migrating(call, "delete", "abort live migration")
    found = _find(call, row)
    early = (call.version or (2, 1)) >= (2, 65)
    _check_status(row, found, ("running", "queued", "preparing") if early else ("running",), "abort live migration")
    if found.status == "running":
        return _steer(call, row, found, "abort")
    instance_actions.begin(call, row.id, _ACTIONS["abort"], "compute_live_migration_abort", row.host)
    migrations.change(call.tx, found, call.now, wanted="abort")
    end = without_task(call.tx, call.cloud, row, instance_actions.open_request(call.tx, row.id, LIVE))
    live.stays(end, migrations.of_uuid(call.tx, found.uuid), "it was aborted")
    return instance_actions.finish(call.tx, row.id, call.request_id, call.now)


def _migrating(call: Call, rule: str, word: str = "") -> Any:
    """The server, while it migrates. Raises Conflict when it does not."""
    row = servers.hold(call, call.params["server_id"], _P + rule)
    states.require(call.context, row, "steerMigration", word or rule)
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


def _check_status(row: Any, found: Any, allowed: tuple[str, ...], verb: str) -> None:
    if found.kind != LIVE or found.status not in allowed:
        raise BadRequest(
            f"Migration {found.id} state of instance {row.id} is {found.status}. Cannot {verb} while the migration is "
            "in this state."
        )


def _steer(call: Call, row: Any, found: Any, wanted: str) -> None:
    instance_actions.begin(call, row.id, _ACTIONS[wanted], f"compute_live_migration_{wanted}", row.host)
    migrations.change(call.tx, found, call.now, wanted=wanted)
    _ask(call.tx, call.cloud, Steer(row.id, found.uuid, wanted, call.request_id))


def _ask(tx: Tx, cloud: Cloud, asked: Steer, delay: float = 0.0) -> None:
    tasks.enqueue(
        tx, cloud, STEER, resource=f"steer:{asked.migration}", arguments=asked, request_id=asked.request_id, delay=delay
    )


async def steer(cloud: Cloud, task: Task) -> str:
    """Tell the source, which may not have begun to send the guest yet: it is told until the move is over."""
    asked = msgspec.json.decode(task.arguments, type=Steer)
    move = await cloud.db.run(lambda tx: migrations.of_uuid(tx, asked.migration), write=False)
    if move is None or move.status != "running":
        return "over"
    await cloud.ask(move.source, _QUESTIONS[asked.wanted], {"server_id": asked.server_id})
    return "told"


def steered(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """Tell it again as long as the move goes on and nothing else is wanted of it."""
    asked = msgspec.json.decode(task.arguments, type=Steer)
    move = migrations.of_uuid(tx, asked.migration)
    if move is not None and move.status == "running" and move.wanted == asked.wanted:
        return _ask(tx, cloud, asked, delay=_AGAIN)
    return instance_actions.finish(tx, asked.server_id, asked.request_id, cloud.world.now())
