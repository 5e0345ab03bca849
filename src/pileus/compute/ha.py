"""Nodes that went down: with `ha_evacuate` they are fenced, and their servers come back on others.

A node that sends no heartbeat may have lost its network alone, and its guests run on. So nothing is started elsewhere
before `fence_command` has said, by exit code 0, that the node is off. A row of `compute_outage` tells how far it is:

    noticed   it is down since `noticed`, as long as the controllers have watched without a pause
    fencing   the command runs (a controller's task, done again when that controller dies)
    fenced    it is forced down, and its servers are evacuated, each by a task of its own
    failed    the command failed; it runs again after a while

The row goes when the node is up again, which after a fence is when an operator says so (`forced_down` false).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.cluster import nodes as cluster
from pileus.cluster.liveness import moment
from pileus.compute import actors, evacuate, instance_actions, migrations, moves, nodes, scheduler, servers, states
from pileus.compute.tables import node, outage, server
from pileus.node.contract import NodeFault, TaskResult
from pileus.work import tasks
from pileus.work.tables import task as task_table

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.node.contract import Task

_LOG = logging.getLogger("pileus.compute")

FENCE = "compute.fence"
EVACUATE = "compute.evacuate"
PURPOSE = "outage"
WATCH = 5.0
"""Seconds between two looks at the nodes."""

_PAUSE = 20.0
_RETRY = 60.0
_BATCH = 500
_MOST_TIME = 120.0
_ALONE = (None, "powering-on", "powering-off", "rebooting", "rebooting_hard", "pausing", "unpausing", "suspending")
_COMES_BACK = (states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED, states.RESCUED, states.RESIZED)


class Fence(msgspec.Struct, frozen=True):
    """The arguments of the job."""

    node: str


class Rescue(msgspec.Struct, frozen=True):
    """The arguments of the job that evacuates one server."""

    server_id: str
    node: str


# -- watching


def watch(tx: Tx, cloud: Cloud) -> None:
    """Notice nodes that are down and those that are back, have them fenced, have their servers evacuated."""
    if not cloud.settings.ha_evacuate or not cloud.settings.fence_command:
        return
    now = cloud.world.now()
    rows = {row.name: row for row in tx.all(sa.select(node))}
    known = {row.node: row for row in tx.all(sa.select(outage))}
    heard = moment(cloud)
    down = {name for name, row in rows.items() if not nodes.is_up(row, heard)}
    for name in known.keys() - down:
        tx.execute(outage.delete().where(outage.c.node == name))
    for name in sorted(down):
        _look(tx, cloud, rows[name], known.get(name), now)
    if len(down) * 2 > len(rows) > 1:
        if any(row.state in ("noticed", "failed") for row in known.values()):
            _LOG.error(
                "%d of %d nodes are down: it is rather this controller that is cut off, so that none is fenced",
                len(down), len(rows),
            )
        return
    for name in sorted(down & known.keys()):
        _go_on(tx, cloud, known[name], now)


def _look(tx: Tx, cloud: Cloud, row: Any, seen: Any, now: float) -> None:
    """Write down that the node is down. Where nobody looked for a while, its time begins anew: it was not heard."""
    if seen is None:
        _LOG.warning("node %s is down; it is fenced in %s s unless it is back", row.name, cloud.settings.ha_grace)
        tx.execute(outage.insert().values(node=row.name, state="noticed", noticed=now, checked=now, updated=now))
        return
    fresh = {"noticed": now} if now - seen.checked > _PAUSE and seen.state in ("noticed", "failed") else {}
    tx.execute(outage.update().where(outage.c.node == row.name).values(checked=now, **fresh))


def _go_on(tx: Tx, cloud: Cloud, row: Any, now: float) -> None:
    """The next step for a node that is down."""
    if now - row.checked > _PAUSE:
        return
    ripe = row.state == "noticed" and now - row.noticed >= cloud.settings.ha_grace
    if ripe or (row.state == "failed" and now - row.updated >= _RETRY):
        if tx.first(sa.select(server.c.id).where(server.c.host == row.node, server.c.deleted.is_(False)).limit(1)):
            _set(tx, row.node, "fencing", now)
            tasks.enqueue(tx, cloud, FENCE, resource=f"fence:{row.node}", arguments=Fence(row.node))
    elif row.state == "fenced":
        _clear(tx, cloud, row.node)
        _evacuate_all(tx, cloud, row.node, row.updated, now)
    elif row.state == "fencing" and now - row.updated > cloud.settings.build_timeout + _RETRY:
        _set(tx, row.node, "failed", now, "the fencing task was lost")


def _set(tx: Tx, name: str, state: str, now: float, error: str | None = None) -> None:
    tx.execute(outage.update().where(outage.c.node == name).values(state=state, updated=now, error=error))


# -- fencing


async def fence(cloud: Cloud, task: Task) -> str:
    """Run `fence_command` for a node. Raises NodeFault when it does not say that the node is off."""
    name = msgspec.json.decode(task.arguments, type=Fence).node
    found = await cloud.db.run(lambda tx: _where(tx, cloud, name), write=False)
    if found is None:
        return "up"
    _LOG.warning("node %s (%s) is fenced now", name, found or "no address known")
    code, said = await _run(cloud.settings.fence_command, {"PILEUS_NODE": name, "PILEUS_ADDRESS": found})
    if code != 0:
        raise NodeFault(f"fence_command ended with {code} for node {name}: {said or 'it said nothing'}")
    return "off"


def _where(tx: Tx, cloud: Cloud, name: str) -> str | None:
    """The node's address, "" when it is not known; None: the node is there again, or is no more."""
    row = nodes.by_name(tx, name)
    if row is None or nodes.is_up(row, moment(cloud)):
        return None
    return cluster.addresses(tx).get(name) or nodes.facts_of(row).host_ip


async def _run(command: str, variables: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of a shell command, which sees nothing of this process's environment but the path."""
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LANG": "C.UTF-8", **variables}
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=environment, start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _MOST_TIME)
    except TimeoutError:
        return -1, f"it did not end within {_MOST_TIME:.0f} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace").strip()[-500:]


def fenced(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """The node is off, so that its servers may run elsewhere; or it is not known to be."""
    name, now = msgspec.json.decode(task.arguments, type=Fence).node, cloud.world.now()
    if not result.ok:
        _LOG.error("node %s could not be fenced, its servers stay where they are: %s", name, result.error)
        return _set(tx, name, "failed", now, result.error)
    if msgspec.json.decode(result.value) != "off":
        return _set(tx, name, "noticed", now)
    _LOG.warning("node %s is fenced; its servers are evacuated", name)
    tx.execute(node.update().where(node.c.name == name).values(forced_down=True, updated=now))
    if tx.first(sa.select(outage.c.node).where(outage.c.node == name)) is None:
        tx.execute(outage.insert().values(node=name, state="fenced", noticed=now, checked=now, updated=now))
    _set(tx, name, "fenced", now)
    _clear(tx, cloud, name)
    return _evacuate_all(tx, cloud, name, now, now)


# -- evacuating


def _clear(tx: Tx, cloud: Cloud, name: str) -> None:
    """What the node was asked for has failed: it is not waited for until its deadline. What it is to remove stays."""
    waiting = sa.select(task_table.c.id).where(
        task_table.c.node == name, task_table.c.state.in_(tasks.OPEN), task_table.c.kind.like("server.%"),
        task_table.c.kind != "server.destroy",
    )
    for task_id in tx.scalars(waiting.order_by(task_table.c.seq).limit(_BATCH)):
        error = f"node {name} is down, and was switched off"
        tasks.finish(tx, cloud, TaskResult(task_id=task_id, node=name, ok=False, error=error))


def _evacuate_all(tx: Tx, cloud: Cloud, name: str, since: float, now: float) -> None:
    """A task for each server that is on the node, which was fenced at `since`, and has none."""
    here = sa.select(server.c.id).where(
        server.c.host == name, server.c.deleted.is_(False), server.c.vm_state.in_((*_COMES_BACK, states.ERROR))
    )
    ids = tx.scalars(here.order_by(server.c.seq))
    if not ids:
        return
    names = {f"evacuate:{server_id}": server_id for server_id in ids}
    # An attempt that failed counts for a while too: there may be no room yet.
    recent = set(tx.scalars(sa.select(task_table.c.resource).where(
        task_table.c.kind == EVACUATE, task_table.c.created > max(since, now - _RETRY)
    ))) | set(tx.scalars(sa.select(task_table.c.resource).where(
        task_table.c.kind == EVACUATE, task_table.c.state.in_(tasks.OPEN)
    )))
    for resource, server_id in names.items():
        if resource not in recent:
            tasks.enqueue(tx, cloud, EVACUATE, resource=resource, arguments=Rescue(server_id, name))


async def rescue(cloud: Cloud, task: Task) -> str:
    """Evacuate one server of a fenced node. Raises NodeFault where it cannot be now."""
    asked = msgspec.json.decode(task.arguments, type=Rescue)
    reason = await cloud.db.run(lambda tx: _rescue(tx, cloud, asked))
    if reason:
        raise NodeFault(reason)
    return "evacuated"


def _rescue(tx: Tx, cloud: Cloud, asked: Rescue) -> str:
    row, where = servers.held(tx, asked.server_id), nodes.by_name(tx, asked.node)
    if row is None or row.deleted or row.host != asked.node or where is None or not where.forced_down:
        return ""  # it has gone already, or the node is back
    if row.task_state not in _ALONE:
        return f"server {row.id}: '{row.task_state}' goes on"
    again = _cut_off(tx, row)
    if row.vm_state == states.ERROR and not again:
        return f"server {row.id} was in error before its node went down"
    off = (row.old_vm_state if again else row.vm_state) == states.STOPPED
    by = actors.itself(tx, cloud, row)
    if row.vm_state == states.RESIZED:
        return _revert(by, row)
    try:
        evacuate.begin(by, row, off=off, purpose=PURPOSE)
    except scheduler.NoValidHost as reason:
        scheduler.keep(tx, cloud, row.id, reason)
        _note_once(tx, cloud, row, f"node {asked.node} is down, and no other can have the server: {reason}")
        return str(reason)
    return ""


def _cut_off(tx: Tx, row: Any) -> bool:
    """Whether the server was being evacuated to this node when that went down too."""
    move = migrations.newest(tx, row.id)
    return move is not None and (move.kind, move.purpose, move.status, move.dest) == (
        evacuate.KIND, PURPOSE, "error", row.host
    )


def _revert(by: actors.Actor, row: Any) -> str:
    """A resize or migration that waits to be confirmed: the node that it came from still has its disks."""
    if moves.undo_without(by, row):
        return ""
    return f"server {row.id} was resized on the node that is down: confirm it, then it can be evacuated"


def _note_once(tx: Tx, cloud: Cloud, row: Any, reason: str) -> None:
    """Tell it in the server's log, but not again as long as it is the last that happened to it."""
    if instance_actions.last_name(tx, row.id) != "evacuate":
        instance_actions.note(tx, cloud, row, "evacuate", "rebuild_server", reason, failed=True)


JOBS = {FENCE: fence, EVACUATE: rescue}
