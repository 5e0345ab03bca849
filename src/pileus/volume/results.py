"""What a node's results change: the end of everything that is done about a volume, by the kind of its task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.image import images
from pileus.node.contract import Task, TaskResult, VolumeDone, VolumeTask
from pileus.volume import attachments, groups, messages, migrate, orders, snapshots, states, volumes

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.volume")


class End:
    """One task that has ended, and the volume that it was about; `row` is None when that is no more."""

    __slots__ = ("args", "cloud", "done", "error", "now", "row", "task", "tx")

    def __init__(self, tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
        self.tx, self.cloud, self.task = tx, cloud, task
        self.args = msgspec.json.decode(task.arguments, type=VolumeTask)
        self.error = "" if result.ok else (result.error or "the node gave no reason")
        self.done = (msgspec.json.decode(result.value, type=VolumeDone | None) if result.ok else None) or VolumeDone()
        self.now = cloud.world.now()
        self.row: Any = volumes.held(tx, self.args.volume_id)

    def write(self, **values: Any) -> None:
        """Columns of the volume."""
        volumes.change(self.tx, self.cloud, self.args.volume_id, **values)

    def tell(self, action: str, kind: str = "VOLUME", resource_id: str | None = None) -> None:
        """Keep the error for the volume's owner."""
        messages.record(
            self.tx, self.cloud, project_id=self.row.project_id, request_id=self.task.request_id, resource_type=kind,
            resource_id=resource_id or self.args.volume_id, action=action, detail=self.error,
        )


Handler = Callable[[End], None]


def handle(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """The result of any `volume.…` task that this module knows, in the transaction that finishes it."""
    end = End(tx, cloud, task, result)
    if end.error:
        _LOG.warning("%s of volume %s failed: %s", task.kind, end.args.volume_id, end.error)
    _HANDLERS[task.kind](end)
    if end.row is not None:
        groups.settle(tx, cloud, end.row.group_id)


def _made(end: End) -> None:
    """create: the volume is there. One that nobody knows any more is deleted again."""
    from pileus.compute import block_devices

    if end.row is None:
        orders.send(
            end.tx, end.cloud, end.task.node, "delete", end.args.volume_id, request_id=end.task.request_id,
            timeout=orders.UNTIL_BACK,
        )
    elif end.row.status == states.CREATING:
        if end.error:
            end.write(status=states.ERROR, error=end.error)
            end.tell("create volume")
        else:
            volumes.settle(
                end.tx, end.cloud, end.row.id, force=True, launched=end.now, migration_status=None, error=None
            )
        block_devices.volume_made(end.tx, end.cloud, end.row.id, end.error)
    _go_on(end)


def _go_on(end: End) -> None:
    """What waited to be deleted until the copy was made."""
    source = end.args.source_volume_id or end.args.snapshot_of
    if source is None:
        return
    if end.args.snapshot_id is not None:
        found = snapshots.held(end.tx, end.args.snapshot_id)
        of = volumes.row(end.tx, source)
        waits = found is not None and found.status == states.DELETING and of is not None and of.node
        if waits and not snapshots.is_copied(end.tx, end.args.snapshot_id):
            snapshots.send_delete(end.tx, end.cloud, of, found, end.task.request_id)
    whole = volumes.held(end.tx, source)
    if whole is not None and whole.status == states.DELETING and not volumes.is_copied(end.tx, source):
        volumes.send_delete(end.tx, end.cloud, whole, end.task.request_id)


def _deleted(end: End) -> None:
    """delete: the volume is no more."""
    if end.row is None or end.row.status != states.DELETING or end.row.node != end.task.node:
        return
    if end.error:
        end.write(status=states.ERROR_DELETING, error=end.error)
        return end.tell("delete volume")
    volumes.remove(end.tx, end.cloud, end.row.id)
    return None


def _extended(end: End) -> None:
    """extend: the volume has its new size; a server that has it is told."""
    from pileus.compute import block_devices

    if end.row is None or end.row.status != states.EXTENDING:
        return
    if end.error:
        end.write(status=states.ERROR_EXTENDING, new_size=None, error=end.error)
        return end.tell("extend volume")
    status = volumes.settle(
        end.tx, end.cloud, end.row.id, force=True, size=end.args.size_gib, new_size=None, error=None
    )
    if status == states.IN_USE:
        block_devices.extended(end.tx, end.cloud, end.row.id)
    return None


def _snapped(end: End) -> None:
    """snapshot: it is there."""
    found = snapshots.held(end.tx, end.args.snapshot_id or "")
    if found is None or found.status != states.CREATING:
        return
    if end.error:
        snapshots.change(end.tx, end.cloud, found.id, status=states.ERROR, error=end.error)
        if end.row is not None:
            end.tell("create snapshot", "VOLUME_SNAPSHOT", found.id)
    else:
        snapshots.change(end.tx, end.cloud, found.id, status=states.AVAILABLE, progress="100%")
    groups.settle_snapshot(end.tx, end.cloud, found.group_snapshot_id)


def _unsnapped(end: End) -> None:
    """delete_snapshot: it is no more."""
    found = snapshots.held(end.tx, end.args.snapshot_id or "")
    if found is None or found.status != states.DELETING:
        return
    if end.error:
        snapshots.change(end.tx, end.cloud, found.id, status=states.ERROR_DELETING, error=end.error)
        if end.row is not None:
            end.tell("delete snapshot", "VOLUME_SNAPSHOT", found.id)
    else:
        snapshots.remove(end.tx, found.id)
    groups.settle_snapshot(end.tx, end.cloud, found.group_snapshot_id)


def _reverted(end: End) -> None:
    """revert: the volume's bytes are the snapshot's."""
    found = snapshots.held(end.tx, end.args.snapshot_id or "")
    if found is not None and found.status == "restoring":
        snapshots.change(end.tx, end.cloud, found.id, status=states.AVAILABLE)
    if end.row is None or end.row.status != states.REVERTING:
        return
    if end.error:
        end.write(status=states.ERROR, error=end.error)
        end.tell("revert volume")
    else:
        size = found.size if found is not None else end.row.size
        volumes.settle(end.tx, end.cloud, end.row.id, force=True, size=size, error=None)


def _given_out(end: End) -> None:
    """export: those who wait for the volume can have it."""
    if migrate.exported(end.tx, end.cloud, end.task, end.done.export, end.error):
        return
    attachments.exported(
        end.tx, end.cloud, end.args.volume_id, end.task.id, end.done.export, end.error or
        ("" if end.done.export is not None else "the node did not say where it gives the volume out")
    )


def _taken_back(end: End) -> None:
    """unexport: nothing else waits for it. A node that could not is told again by the reconciler."""
    if end.row is not None and not end.error and not end.row.export_key:
        end.write(export=None)


def _uploaded(end: End) -> None:
    """upload: the image has its data, or is given up."""
    if end.error and end.args.image_id is not None:
        images.fail(end.tx, end.cloud, end.args.image_id, end.error)
    if end.row is None or end.row.status != states.UPLOADING:
        return
    volumes.settle(end.tx, end.cloud, end.row.id, force=True, error=end.error or None)
    if end.error:
        end.tell("copy volume to image")


_HANDLERS: Mapping[str, Handler] = {
    "volume.create": _made,
    "volume.delete": _deleted,
    "volume.extend": _extended,
    "volume.snapshot": _snapped,
    "volume.delete_snapshot": _unsnapped,
    "volume.revert": _reverted,
    "volume.export": _given_out,
    "volume.unexport": _taken_back,
    "volume.upload": _uploaded,
}

RESULTS = dict.fromkeys(_HANDLERS, handle)

