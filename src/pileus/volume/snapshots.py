"""Snapshots of volumes: what other modules and rooms ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.volume import orders, states, usage, volumes
from pileus.volume.tables import snapshot, volume
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.compute.actors import Actor
    from pileus.db.engine import Tx
    from pileus.web.call import Call


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a volume, which is on the volume's node."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size_gib: int
    status: str
    metadata: dict[str, str] = {}
    type_id: str | None = None
    group_snapshot_id: str | None = None
    created: float = 0.0


_BY_ID = sa.select(snapshot).where(snapshot.c.id == sa.bindparam("i"))
_HELD = _BY_ID.with_for_update()


# -- for other rooms


def info(tx: Tx, snapshot_id: str) -> SnapshotInfo | None:
    """One snapshot, whoever owns it; None when there is none."""
    found = row(tx, snapshot_id)
    return None if found is None else describe(found)


def get_visible(tx: Tx, context: Context, snapshot_id: str) -> SnapshotInfo:
    """One snapshot that exists for the caller. Raises NotFound."""
    found = row(tx, snapshot_id)
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(snapshot_id)
    return describe(found)


def make(
    by: Actor, volume_id: str, *, name: str | None, force: bool = True, description: str | None = None,
    metadata: Mapping[str, str] | None = None, group_snapshot_id: str | None = None,
) -> SnapshotInfo:
    """A snapshot of a volume, which its node has been told to make when this transaction commits.

    `force`: also while it is in use. Raises NotFound, BadRequest, OverLimit, Conflict (the node is down)."""
    of = volumes.held(by.tx, volume_id)
    if of is None or not (by.context.is_admin or of.project_id == by.context.project_id):
        raise volumes.missing(volume_id)
    allowed = {states.AVAILABLE, states.IN_USE, states.RESERVED, states.ATTACHING, states.DETACHING}
    states.require(of, allowed if force else {states.AVAILABLE}, "make a snapshot of it")
    node = orders.check_up(by.tx, by.cloud, of)
    usage.room(by.tx, by.cloud, of.project_id, of.type_id, snapshots=1, gigabytes=of.size)
    snapshot_id = by.cloud.world.uuid()
    by.tx.execute(snapshot.insert().values(
        id=snapshot_id, volume_id=volume_id, project_id=of.project_id, user_id=by.context.user_id, name=name,
        description=description, size=of.size, status=states.CREATING, progress="0%", metadata=dict(metadata or {}),
        type_id=of.type_id, group_snapshot_id=group_snapshot_id, created=by.now, changed=by.now,
    ))
    orders.send(by.tx, by.cloud, node, "snapshot", volume_id, request_id=by.request_id, snapshot_id=snapshot_id)
    found = row(by.tx, snapshot_id)
    assert found is not None
    return describe(found)


# -- for this room


def missing(snapshot_id: str) -> NotFound:
    """What is said of a snapshot that does not exist for the caller."""
    return NotFound(f"Snapshot {snapshot_id} could not be found.")


def row(tx: Tx, snapshot_id: str) -> sa.Row[Any] | None:
    """A snapshot's row, whoever owns it."""
    return tx.first(_BY_ID, {"i": snapshot_id})


def held(tx: Tx, snapshot_id: str) -> sa.Row[Any] | None:
    """The same, which nobody else changes until this transaction ends."""
    return tx.first(_HELD, {"i": snapshot_id})


def visible(call: Call, snapshot_id: str, rule: str, *, hold: bool = False) -> sa.Row[Any]:
    """The row of a snapshot that exists for the caller, who passes the rule. Raises NotFound, Forbidden."""
    found = (held if hold else row)(call.tx, snapshot_id)
    context = call.context
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(snapshot_id)
    call.enforce(rule, project_id=found.project_id, user_id=found.user_id)
    return found


def change(tx: Tx, cloud: Cloud, snapshot_id: str, **values: Any) -> None:
    """Write columns of a snapshot; a new status counts from now."""
    now = cloud.world.now()
    if "status" in values:
        values.setdefault("changed", now)
    tx.execute(snapshot.update().where(snapshot.c.id == snapshot_id).values(updated=now, **values))


def begin_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Have the volume's node delete a snapshot, when it is back if it is down, and when no volume is made from it."""
    of = volumes.row(tx, found.volume_id)
    if of is None or not of.node:
        return remove(tx, found.id)
    change(tx, cloud, found.id, status=states.DELETING)
    if not is_copied(tx, found.id):
        send_delete(tx, cloud, of, found, request_id)


def is_copied(tx: Tx, snapshot_id: str) -> bool:
    """Whether a volume is being made from the snapshot."""
    copies = sa.select(volume.c.id).where(volume.c.status == states.CREATING, volume.c.snapshot_id == snapshot_id)
    return tx.first(copies) is not None


def send_delete(tx: Tx, cloud: Cloud, of: Any, found: Any, request_id: str) -> None:
    """Tell the node of the volume `of` to delete its snapshot."""
    orders.send(
        tx, cloud, of.node, "delete_snapshot", of.id, request_id=request_id, snapshot_id=found.id,
        timeout=orders.UNTIL_BACK,
    )


def require_deletable(found: Any) -> None:
    """Raises BadRequest unless a snapshot can be deleted as it is."""
    if found.group_snapshot_id is not None:
        raise BadRequest(f"Invalid snapshot: Snapshot {found.id} is part of a group snapshot; delete that.")
    if found.status not in (states.AVAILABLE, states.ERROR, states.ERROR_DELETING):
        raise BadRequest(
            f"Invalid snapshot: Snapshot status must be available or error to be deleted, but is {found.status}."
        )


def remove(tx: Tx, snapshot_id: str) -> None:
    """A snapshot is no more."""
    tx.execute(snapshot.delete().where(snapshot.c.id == snapshot_id))


def describe(found: Any) -> SnapshotInfo:
    """A row as a struct."""
    return SnapshotInfo(
        id=found.id, volume_id=found.volume_id, project_id=found.project_id, user_id=found.user_id, name=found.name,
        description=found.description, size_gib=found.size, status=found.status, metadata=found.metadata,
        type_id=found.type_id, group_snapshot_id=found.group_snapshot_id, created=found.created,
    )
