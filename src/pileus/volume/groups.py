"""Groups of volumes: what is in them, and how they come and go with their volumes. `group_handlers` has the HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.volume import states, volumes
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import group, group_snapshot
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_BY_ID = sa.select(group).where(group.c.id == sa.bindparam("i"))
_HELD = _BY_ID.with_for_update()

# -- for other modules


def admit(tx: Tx, context: Context, group_id: str, type_id: str | None) -> None:
    """Make sure that a new volume of this type may be in a group of the caller's. Raises NotFound, BadRequest."""
    found = held(tx, group_id)
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(group_id)
    if found.status != states.AVAILABLE and found.status != states.CREATING:
        raise BadRequest(f"Invalid group: Group {group_id} is {found.status}; it must be available.")
    if type_id not in found.volume_types:
        raise BadRequest(f"Invalid input received: the volume's type is none of those of group {group_id}.")


def row(tx: Tx, group_id: str) -> sa.Row[Any] | None:
    """A group's row, whoever owns it."""
    return tx.first(_BY_ID, {"i": group_id})


def held(tx: Tx, group_id: str) -> sa.Row[Any] | None:
    """The same, which nobody else changes until this transaction ends."""
    return tx.first(_HELD, {"i": group_id})


def missing(group_id: str) -> NotFound:
    """What is said of a group that does not exist for the caller."""
    return NotFound(f"Group {group_id} could not be found.")


def members(tx: Tx, group_id: str) -> list[Any]:
    """The rows of the volumes in a group, the oldest first."""
    return list(tx.all(sa.select(volume).where(volume.c.group_id == group_id).order_by(volume.c.seq)))


def begin_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Delete a group with its volumes; it is gone when they are."""
    inside = members(tx, found.id)
    change(tx, cloud, found.id, status=states.DELETING, waits=True)
    for one in inside:
        if one.status != states.DELETING:
            volumes.begin_delete(tx, cloud, one, request_id)
    settle(tx, cloud, found.id)


def change(tx: Tx, cloud: Cloud, group_id: str, **values: Any) -> None:
    """Write columns of a group."""
    tx.execute(group.update().where(group.c.id == group_id).values(updated=cloud.world.now(), **values))


def change_snapshot(tx: Tx, cloud: Cloud, group_snapshot_id: str, **values: Any) -> None:
    """Write columns of a group's snapshot."""
    tx.execute(group_snapshot.update().where(group_snapshot.c.id == group_snapshot_id).values(
        updated=cloud.world.now(), **values
    ))


# -- waiting for their members


def settle(tx: Tx, cloud: Cloud, group_id: str | None) -> None:
    """A volume of this group has been made, or is gone: the group is what its volumes let it be."""
    found = held(tx, group_id) if group_id else None
    if found is None or not found.waits:
        return
    inside = {one.status for one in members(tx, found.id)}
    if found.status == states.DELETING:
        if not inside:
            tx.execute(group.delete().where(group.c.id == found.id))
        elif inside & {states.ERROR_DELETING, states.ERROR} and states.DELETING not in inside:
            change(tx, cloud, found.id, status=states.ERROR_DELETING, waits=False)
    elif states.CREATING not in inside:
        status = states.ERROR if states.ERROR in inside else states.AVAILABLE
        change(tx, cloud, found.id, status=status, waits=False)


def settle_snapshot(tx: Tx, cloud: Cloud, group_snapshot_id: str | None) -> None:
    """A snapshot of this group's snapshot has been made, or is gone."""
    if not group_snapshot_id:
        return
    found = tx.first(sa.select(group_snapshot).where(group_snapshot.c.id == group_snapshot_id).with_for_update())
    if found is None or not found.waits:
        return
    inside = set(tx.scalars(sa.select(snapshot.c.status).where(snapshot.c.group_snapshot_id == found.id)))
    if found.status == states.DELETING:
        if not inside:
            tx.execute(group_snapshot.delete().where(group_snapshot.c.id == found.id))
        elif states.DELETING not in inside:
            change_snapshot(tx, cloud, found.id, status=states.ERROR_DELETING, waits=False)
    elif states.CREATING not in inside:
        status = states.ERROR if states.ERROR in inside or not inside else states.AVAILABLE
        change_snapshot(tx, cloud, found.id, status=status, waits=False)


def settle_all(tx: Tx, cloud: Cloud) -> int:
    """Look at every group and group snapshot that waits; how many. Runs periodically: volumes may also have gone in
    ways that tell nobody."""
    waiting = tx.scalars(sa.select(group.c.id).where(group.c.waits.is_(True)).order_by(group.c.id).limit(200))
    taken = tx.scalars(
        sa.select(group_snapshot.c.id).where(group_snapshot.c.waits.is_(True)).order_by(group_snapshot.c.id).limit(200)
    )
    for group_id in waiting:
        settle(tx, cloud, group_id)
    for group_snapshot_id in taken:
        settle_snapshot(tx, cloud, group_snapshot_id)
    return len(waiting) + len(taken)
