"""Nothing stays stuck: volumes, snapshots and attachments on which something goes on, but for which no task is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.volume import attachments, orders, snapshots, states, volumes
from pileus.volume.tables import attachment, snapshot, volume
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.volume")
_GRACE = 10.0
_BATCH = 200
_LOST = "the task for it was lost"
_BECOMES = {
    states.CREATING: states.ERROR, states.EXTENDING: states.ERROR_EXTENDING, states.REVERTING: states.ERROR,
    states.UPLOADING: "", states.DELETING: states.DELETING, states.DOWNLOADING: states.ERROR,
}
"""What a volume is without a task; "": as its attachments say."""


def reconcile(tx: Tx, cloud: Cloud) -> int:
    """Put right what no task will; how many. Runs periodically."""
    before = cloud.world.now() - _GRACE
    done = _volumes(tx, cloud, before) + _snapshots(tx, cloud, before) + _attachments(tx, cloud, before)
    return done + _exports(tx, cloud)


def _busy(tx: Tx, volume_ids: Iterable[str]) -> set[str]:
    """The volumes for which a task is open."""
    names = {orders.resource(one): one for one in volume_ids}
    wanted = sa.select(task.c.resource).where(task.c.resource.in_(list(names)), task.c.state.in_(tasks.OPEN))
    return {names[name] for name in tx.scalars(wanted)} if names else set()


def _volumes(tx: Tx, cloud: Cloud, before: float) -> int:
    waiting = sa.select(volume).where(volume.c.status.in_(list(_BECOMES)), volume.c.changed < before)
    rows = list(tx.all(waiting.order_by(volume.c.changed).limit(_BATCH)))
    busy = _busy(tx, [row.id for row in rows])
    stuck = [row for row in rows if row.id not in busy]
    for row in stuck:
        _repair(tx, cloud, row)
    return len(stuck)


def _repair(tx: Tx, cloud: Cloud, row: Any) -> None:
    from pileus.compute import block_devices

    if row.status == states.DELETING:
        if not volumes.is_copied(tx, row.id):
            volumes.send_delete(tx, cloud, row, "")
        return
    _LOG.warning("volume %s is %s, but no task is left; repairing", row.id, row.status)
    status = _BECOMES[row.status]
    if status:
        volumes.change(tx, cloud, row.id, status=status, new_size=None, error=_LOST)
    else:
        volumes.settle(tx, cloud, row.id, force=True, error=_LOST)
    if row.status == states.DOWNLOADING:
        block_devices.reimaged(tx, cloud, row.id, _LOST)
    if row.status == states.CREATING:
        block_devices.volume_made(tx, cloud, row.id, _LOST)


def _snapshots(tx: Tx, cloud: Cloud, before: float) -> int:
    waiting = sa.select(snapshot).where(
        snapshot.c.status.in_((states.CREATING, states.DELETING, "restoring")), snapshot.c.changed < before
    )
    rows = list(tx.all(waiting.order_by(snapshot.c.changed).limit(_BATCH)))
    busy = _busy(tx, {row.volume_id for row in rows})
    stuck = [row for row in rows if row.volume_id not in busy]
    for row in stuck:
        if row.status == states.CREATING:
            snapshots.change(tx, cloud, row.id, status=states.ERROR, error=_LOST)
        elif row.status == "restoring":
            snapshots.change(tx, cloud, row.id, status=states.AVAILABLE)
        elif not snapshots.is_copied(tx, row.id):
            snapshots.begin_delete(tx, cloud, row, "")
    return len(stuck)


def _attachments(tx: Tx, cloud: Cloud, before: float) -> int:
    """Attachments that wait for an export whose task is gone."""
    waiting = sa.select(attachment).where(attachment.c.waits_for.is_not(None), attachment.c.changed < before)
    rows = list(tx.all(waiting.order_by(attachment.c.changed).limit(_BATCH)))
    there = set(tx.scalars(
        sa.select(task.c.id).where(task.c.id.in_([row.waits_for for row in rows]), task.c.state.in_(tasks.OPEN))
    )) if rows else set()
    stuck = [row for row in rows if row.waits_for not in there]
    for row in stuck:
        attachments.exported(tx, cloud, row.volume_id, row.waits_for, None, _LOST)
    return len(stuck)


def _exports(tx: Tx, cloud: Cloud) -> int:
    """Volumes that nobody has, but that their nodes could not stop to give out."""
    waiting = sa.select(volume).where(
        volume.c.export_key == "", volume.c.export.is_not(None), volume.c.status != states.DELETING
    )
    rows = list(tx.all(waiting.order_by(volume.c.seq).limit(_BATCH)))
    busy = _busy(tx, [row.id for row in rows])
    stuck = [row for row in rows if row.id not in busy]
    for row in stuck:
        attachments.unexport(tx, cloud, row, "")
    return len(stuck)
