"""Where a guest is whose live migration was cut off: told by its nodes, never guessed.

    source says      destination says    then
    it runs          anything            it stays; the destination removes what it has
    it does not run  it runs             it has gone
    silent           it runs             it has gone: a guest runs there only when the source has stopped it
    it does not run  it does not run     it stays; it ended at the source meanwhile
    silent           it does not run     it stays: it runs nowhere else; the destination removes what it has, and the
                                         source tells how the guest is as soon as it speaks again (`look_later`)
    anything else                        they are asked again, until one that was silent speaks

A node that an operator or a fence has forced down counts as saying that it does not run. The source is told to end
the move before it is asked, so that its answer holds. One that says that the guest does not run there is told once more
to send it, for that it answers with how it has ended: the guest may have gone without that the word of it came through.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import migrations, nodes, servers
from pileus.node.contract import GuestReport, GuestState, MoveTarget
from pileus.web.errors import Conflict, Problem
from pileus.work import tasks
from pileus.work.tables import task as task_table

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.node.contract import Task, TaskResult

ASK = "compute.where_is_guest"
LOOK = "compute.look_at_guest"
_AGAIN = 5.0
_LOOK = 10.0
RUNS = ("running", "paused")
SILENT, NOT_THERE, FORCED_DOWN = "?", "-", "x"
_SENDS = 3


class Question(msgspec.Struct, frozen=True):
    """The arguments of the job."""

    server_id: str
    migration: str
    request_id: str
    target: MoveTarget | None = None


class Answer(msgspec.Struct, frozen=True):
    """A guest's power at both nodes, or SILENT, NOT_THERE, FORCED_DOWN."""

    source: str
    dest: str


def ask(
    tx: Tx, cloud: Cloud, row: Any, move: Any, request_id: str, delay: float = 0.0, target: MoveTarget | None = None
) -> None:
    """Have a controller ask both nodes of a migration where the guest is."""
    tasks.enqueue(
        tx, cloud, ASK, resource=f"migration:{move.uuid}", request_id=request_id, delay=delay,
        arguments=Question(row.id, move.uuid, request_id, target),
    )


def is_asked(tx: Tx, move: Any) -> bool:
    """Whether the nodes of a migration are being asked."""
    mine = sa.select(task_table.c.id).where(
        task_table.c.resource == f"migration:{move.uuid}", task_table.c.state.in_(tasks.OPEN)
    )
    return tx.first(mine.limit(1)) is not None


async def job(cloud: Cloud, task: Task) -> Answer:
    """Ask them."""
    asked = msgspec.json.decode(task.arguments, type=Question)
    ends = await cloud.db.run(lambda tx: _nodes(tx, asked), write=False)
    if ends is None:
        return Answer(SILENT, SILENT)
    (source, source_down), (dest, dest_down) = ends
    if not source_down:
        with contextlib.suppress(Problem):
            await cloud.ask(source, "abort_move", {"server_id": asked.server_id})
    said = await _power(cloud, source, asked.server_id, source_down)
    return Answer(said, await _power(cloud, dest, asked.server_id, dest_down))


def _nodes(tx: Tx, asked: Question) -> tuple[tuple[str, bool], tuple[str, bool]] | None:
    """Both nodes, each with whether it is forced down."""
    move = migrations.of_uuid(tx, asked.migration)
    if move is None:
        return None
    return (move.source, _down(tx, move.source)), (move.dest, _down(tx, move.dest))


def _down(tx: Tx, name: str) -> bool:
    row = nodes.by_name(tx, name)
    return row is None or bool(row.forced_down)


async def _power(cloud: Cloud, node: str, server_id: str, down: bool) -> str:
    if down:
        return FORCED_DOWN
    try:
        answer = await cloud.ask(node, "guest", {"server_id": server_id})
    except Conflict:
        return NOT_THERE
    except Problem:
        return SILENT
    return (answer if isinstance(answer, GuestState) else msgspec.convert(answer, GuestState)).power


def verdict(answer: Answer) -> str:
    """`stays`, `goes`, or `unknown` for asking again."""
    if answer.source in RUNS:
        return "stays"
    if answer.dest in RUNS:
        return "goes"
    if answer.dest == SILENT:
        return "unknown"
    return "stays"


def answered(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """What the nodes have said, in the transaction that ends the job."""
    from pileus.compute import ends, live

    asked = msgspec.json.decode(task.arguments, type=Question)
    row, move = servers.held(tx, asked.server_id), migrations.of_uuid(tx, asked.migration)
    if row is None or row.deleted or row.task_state != "migrating":
        return None
    if move is None or move.status not in ("preparing", "running"):
        return None
    answer = msgspec.json.decode(result.value, type=Answer) if result.ok else Answer(SILENT, SILENT)
    decided = verdict(answer) if move.status == "running" else "stays"
    end = ends.without_task(tx, cloud, row, asked.request_id)
    if decided == "goes":
        return live.goes(end, move)
    if decided == "unknown":
        return ask(tx, cloud, row, move, asked.request_id, delay=_AGAIN, target=asked.target)
    spoke = answer.source not in (SILENT, FORCED_DOWN)
    if spoke and answer.source not in RUNS and asked.target is not None and move.sends < _SENDS:
        return live.send(end, move, asked.target)
    said = "shutdown" if answer.source == NOT_THERE else answer.source if spoke else ""
    live.stays(end, move, move.reason or "the migration was cut off", said)
    return look_later(tx, cloud, Look(row.id, row.host)) if answer.source == SILENT else None


# -- how a guest is on a node that was silent


class Look(msgspec.Struct, frozen=True):
    """The arguments of the job."""

    server_id: str
    node: str


def look_later(tx: Tx, cloud: Cloud, asked: Look) -> None:
    """Have a node asked how a guest is that it has, until it answers."""
    tasks.enqueue(tx, cloud, LOOK, resource=f"look:{asked.server_id}", arguments=asked, delay=_LOOK)


async def look(cloud: Cloud, task: Task) -> str:
    """The guest's power there, SILENT, or NOT_THERE."""
    asked = msgspec.json.decode(task.arguments, type=Look)
    return await _power(cloud, asked.node, asked.server_id, down=False)


def looked(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """Make the server what its guest is, as long as it is that node's."""
    from pileus.compute import power

    asked = msgspec.json.decode(task.arguments, type=Look)
    said = msgspec.json.decode(result.value, type=str) if result.ok else SILENT
    row = servers.held(tx, asked.server_id)
    if row is None or row.deleted or row.host != asked.node:
        return
    said = "shutdown" if said == NOT_THERE else said
    if said == SILENT or power.changed(tx, cloud, GuestReport(node=asked.node, server_id=row.id, power=said)):
        look_later(tx, cloud, asked)
