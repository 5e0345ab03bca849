"""Backups: copies of volumes, which outlive them, on the node that kept the volume.

An incremental one holds the difference to the one before, where the node's storage can do that; where it cannot, it is
a complete copy, and says so. `backup_handlers` has the HTTP."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.node.contract import Task, TaskResult, VolumeDone, VolumeTask
from pileus.volume import messages, orders, snapshots, states, volumes
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import backup
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.volume")

BACKING_UP, RESTORING_TO = "backing-up", "restoring-backup"
"""What a volume is meanwhile."""

RESTORING = "restoring"
"""What a backup is while a volume that there is becomes like it."""

_KIND = "VOLUME_BACKUP"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a volume was, beside its bytes, when it was backed up."""

    bootable: bool = False
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] | None = None


class BackupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A backup as a volume that is made from it needs it."""

    id: str
    status: str
    size_gib: int
    node: str
    stored_as: str  # the backup by whose id the node knows it
    origin: Origin


_BY_ID = sa.select(backup).where(backup.c.id == sa.bindparam("i"))
_HELD = _BY_ID.with_for_update()


def get_visible(tx: Tx, context: Context, backup_id: str) -> BackupInfo:
    """One backup that exists for the caller. Raises NotFound."""
    found = tx.first(_BY_ID, {"i": backup_id})
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(backup_id)
    return BackupInfo(
        id=found.id, status=found.status, size_gib=found.size, node=found.node, stored_as=found.stored_as,
        origin=origin(found),
    )


def missing(backup_id: str) -> NotFound:
    """What is said of a backup that does not exist for the caller."""
    return NotFound(f"Backup {backup_id} could not be found.")


def row(tx: Tx, backup_id: str) -> sa.Row[Any] | None:
    """A backup's row, whoever owns it."""
    return tx.first(_BY_ID, {"i": backup_id})


def held(tx: Tx, backup_id: str) -> sa.Row[Any] | None:
    """The same, which nobody else changes until this transaction ends."""
    return tx.first(_HELD, {"i": backup_id})


def origin(found: Any) -> Origin:
    """What the volume of a backup's row was."""
    return msgspec.convert(found.volume_facts, Origin)


def change(tx: Tx, cloud: Cloud, backup_id: str, **values: Any) -> None:
    """Write columns of a backup; a new status counts from now."""
    now = cloud.world.now()
    if "status" in values:
        values["changed"] = now
    tx.execute(backup.update().where(backup.c.id == backup_id).values(updated=now, **values))


def latest(tx: Tx, volume_id: str, node: str) -> sa.Row[Any] | None:
    """The newest backup of a volume that is complete, on this node; it is not deleted until this transaction ends."""
    return tx.first(
        sa.select(backup).where(
            backup.c.volume_id == volume_id, backup.c.node == node, backup.c.status == states.AVAILABLE
        ).order_by(backup.c.created.desc(), backup.c.id).limit(1).with_for_update()
    )


def parents(tx: Tx, rows: Iterable[Any]) -> set[tuple[str, str]]:
    """The node and the name there of those copies of these rows on which others stand."""
    ids = {one.stored_as for one in rows}
    if not ids:
        return set()
    found = tx.all(sa.select(backup.c.node, backup.c.parent_id).where(backup.c.parent_id.in_(ids)).distinct())
    return {(one.node, one.parent_id) for one in found}


def check_unused(tx: Tx, found: Any) -> None:
    """Raises BadRequest while a volume is being made from a backup, or another backup stands on its copy."""
    making = sa.select(volume.c.id).where(volume.c.backup_id == found.id, volume.c.status == states.CREATING).limit(1)
    if found.status == RESTORING or tx.first(making) is not None:
        raise BadRequest(f"Invalid backup: Backup {found.id} is being restored; delete it when that has ended.")
    if is_needed(tx, found):
        raise BadRequest(f"Invalid backup: Incremental backups exist for backup {found.id}; delete those first.")


def is_needed(tx: Tx, found: Any) -> bool:
    """Whether a backup stands on the copy of this one, which no other record has."""
    return (found.node, found.stored_as) in parents(tx, [found]) and not _is_shared(tx, found)


def _is_shared(tx: Tx, found: Any) -> bool:
    others = sa.select(backup.c.id).where(
        backup.c.stored_as == found.stored_as, backup.c.node == found.node, backup.c.id != found.id
    ).limit(1)
    return tx.first(others) is not None


def begin_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Have a backup's node delete it, when it is back if it is down. One record of several of one copy just goes."""
    if _is_shared(tx, found):
        tx.execute(backup.delete().where(backup.c.id == found.id))
        return
    change(tx, cloud, found.id, status=states.DELETING)
    send_delete(tx, cloud, found, request_id)


def send_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Tell a backup's node to delete it."""
    orders.send(
        tx, cloud, found.node, "delete_backup", found.volume_id, request_id=request_id, backup_id=found.stored_as,
        timeout=orders.UNTIL_BACK,
    )


# -- what nodes' results change


class _End:
    """A task about a backup that has ended. `found` is None when its record is gone."""

    def __init__(self, tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        self.tx, self.cloud, self.task = tx, cloud, task
        self.args = msgspec.json.decode(task.arguments, type=VolumeTask)
        self.error = "" if result.ok else (result.error or "the node gave no reason")
        self.done = (msgspec.json.decode(result.value, type=VolumeDone | None) if result.ok else None) or VolumeDone()
        self.found: Any = self._record()
        if self.error:
            _LOG.warning("%s of backup %s failed: %s", task.kind, self.args.backup_id, self.error)

    def _record(self) -> Any:
        rows = self.tx.all(
            sa.select(backup).where(backup.c.stored_as == (self.args.backup_id or ""), backup.c.node == self.task.node)
            .with_for_update()
        )
        restored = [one for one in rows if one.restoring == self.args.volume_id]
        return next(iter(restored or rows), None)

    def tell(self, action: str) -> None:
        messages.record(
            self.tx, self.cloud, project_id=self.found.project_id, request_id=self.task.request_id,
            resource_type=_KIND, resource_id=self.found.id, action=action, detail=self.error,
        )


def made(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.backup has ended: the volume, or the snapshot, is as before."""
    end = _End(tx, cloud, task, result)
    if end.args.snapshot_id:
        release_snapshot(tx, cloud, end.args.snapshot_id)
    else:
        release_volume(tx, cloud, end.args.volume_id)
    if end.found is None or end.found.status == states.DELETING:
        # It was deleted by force meanwhile: what the node has made of it goes too.
        orders.send(
            tx, cloud, task.node, "delete_backup", end.args.volume_id, request_id=task.request_id,
            backup_id=end.args.backup_id, timeout=orders.UNTIL_BACK,
        )
    elif end.found.status == states.CREATING:
        if end.error:
            change(tx, cloud, end.found.id, status=states.ERROR, error=end.error)
            end.tell("create backup")
        else:
            stands_on = end.args.parent_id if end.done.incremental else None
            change(
                tx, cloud, end.found.id, status=states.AVAILABLE, bytes=end.done.bytes_stored, parent_id=stands_on,
                error=None,
            )


def release_volume(tx: Tx, cloud: Cloud, volume_id: str) -> None:
    """A volume is not being backed up any more."""
    found = volumes.held(tx, volume_id)
    if found is not None and found.status == BACKING_UP:
        volumes.settle(tx, cloud, volume_id, force=True)


def release_snapshot(tx: Tx, cloud: Cloud, snapshot_id: str) -> None:
    """A snapshot is not being backed up any more."""
    found = snapshots.held(tx, snapshot_id)
    if found is not None and found.status == BACKING_UP:
        snapshots.change(tx, cloud, snapshot_id, status=states.AVAILABLE)


def restored(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.restore has ended: the volume is like the backup, or of no use."""
    end = _End(tx, cloud, task, result)
    if end.found is not None and end.found.status == RESTORING:
        change(tx, cloud, end.found.id, status=states.AVAILABLE, restoring=None)
    into = volumes.held(tx, end.args.volume_id)
    if into is None or into.status != RESTORING_TO:
        return
    if end.error:
        volumes.change(tx, cloud, into.id, status="error_restoring", error=end.error)
        if end.found is not None:
            end.tell("restore backup")
        return
    values: dict[str, Any] = {"error": None}
    if end.found is not None:
        was = origin(end.found)
        values.update(
            bootable=was.bootable, metadata={**into.metadata, **was.metadata}, image_metadata=was.image_metadata
        )
    volumes.settle(tx, cloud, into.id, force=True, **values)


def deleted(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.delete_backup has ended: the backup is no more."""
    end = _End(tx, cloud, task, result)
    if end.found is None or end.found.status != states.DELETING:
        return
    if end.error:
        change(tx, cloud, end.found.id, status=states.ERROR, error=end.error)
        end.tell("delete backup")
    else:
        tx.execute(backup.delete().where(backup.c.id == end.found.id))


# -- nothing stays stuck


def repair(tx: Tx, cloud: Cloud, before: float, lost: str) -> int:
    """Put right the backups on which something goes on since `before`, but for which no task is left; how many."""
    waiting = sa.select(backup).where(
        backup.c.status.in_((states.CREATING, states.DELETING, RESTORING)), backup.c.changed < before
    )
    rows = list(tx.all(waiting.order_by(backup.c.changed).limit(200)))
    names = {one: orders.resource(one) for row in rows for one in (row.volume_id, row.restoring) if one}
    busy = orders.busy(tx, list(names.values()))
    stuck = [row for row in rows if not {names[row.volume_id], names.get(row.restoring or "", "")} & busy]
    for one in stuck:
        if one.status == states.DELETING:
            send_delete(tx, cloud, one, "")
        elif one.status == RESTORING:
            change(tx, cloud, one.id, status=states.AVAILABLE, restoring=None)
        else:
            change(tx, cloud, one.id, status=states.ERROR, error=lost)
    loose = sa.select(snapshot).where(snapshot.c.status == BACKING_UP, snapshot.c.changed < before).limit(200)
    for taken in tx.all(loose):
        if orders.resource(taken.volume_id) not in orders.busy(tx, [orders.resource(taken.volume_id)]):
            release_snapshot(tx, cloud, taken.id)
    return len(stuck)
