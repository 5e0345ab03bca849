"""Snapshots: the handlers of /snapshots."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import listing, snapshots, states, views, volumes
from pileus.volume import schemas as s
from pileus.volume.actions_rest import SNAPSHOT_ACTIONS
from pileus.volume.tables import snapshot, volume
from pileus.web import actions
from pileus.web.actions import Action
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

_SHORT = views.SNAPSHOT_SHORT
_ADMIN = "volume_extension:snapshot_admin_actions:"


def create(call: Call) -> dict[str, Any]:
    """POST /snapshots: 202. Of a volume that is in use only with `force`; from 3.66 on always."""
    body: s.NewSnapshot = call.body.snapshot
    if body.volume_id is None:
        raise volumes.missing("null")
    force = (call.version or (3, 0)) >= (3, 66)
    if body.force is not None:
        if force and not as_bool(body.force):
            raise BadRequest("Invalid input received: 'force' may only be true from 3.66 on: leave it out.")
        force = force or as_bool(body.force)
    made = snapshots.make(
        call, body.volume_id, name=body.name if body.name is not None else body.display_name,
        description=body.description if body.description is not None else body.display_description, force=force,
        metadata=body.metadata,
    )
    return {"snapshot": _SHORT.render(snapshots.row(call.tx, made.id), call.version)}


def show(call: Call) -> dict[str, Any]:
    """GET /snapshots/{snapshot_id}: 200."""
    return {"snapshot": views.SNAPSHOT.render(_row(call, "volume:get_snapshot"), call.version)}


def update(call: Call) -> dict[str, Any]:
    """PUT /snapshots/{snapshot_id}: 200. Name and description."""
    found = _row(call, "volume:update_snapshot", hold=True)
    body: s.SnapshotChange = call.body.snapshot
    values = {
        "name": s.pick(body.name, body.display_name),
        "description": s.pick(body.description, body.display_description),
    }
    given = {name: value for name, value in values.items() if value is not UNSET}
    if not given:
        raise BadRequest("Invalid input received: Must specify 'name' or 'description' to be changed.")
    snapshots.change(call.tx, call.cloud, found.id, **given)
    return {"snapshot": _SHORT.render(snapshots.row(call.tx, found.id), call.version)}


def delete(call: Call) -> None:
    """DELETE /snapshots/{snapshot_id}: 202."""
    found = _row(call, "volume:delete_snapshot", hold=True)
    snapshots.require_deletable(found)
    snapshots.begin_delete(call.tx, call.cloud, found, call.request_id)


def _row(call: Call, rule: str, *, hold: bool = False) -> Any:
    return snapshots.visible(call, call.params["snapshot_id"], rule, hold=hold)


# -- lists


def _zone(call: Call, value: str) -> sa.ColumnElement[bool]:
    """Snapshots are where their volume is."""
    return snapshot.c.volume_id.in_(sa.select(volume.c.id).where(volume.c.zone == value))


KIND = listing.Kind(
    plural="snapshots", table=snapshot, all_tenants="volume:get_all:all_tenants",
    sort={
        "id": snapshot.c.id, "status": snapshot.c.status, "name": snapshot.c.name, "display_name": snapshot.c.name,
        "volume_id": snapshot.c.volume_id, "created_at": snapshot.c.created, "updated_at": snapshot.c.updated,
        "size": snapshot.c.size, "volume_size": snapshot.c.size, "user_id": snapshot.c.user_id,
        "project_id": snapshot.c.project_id,
    },
    filters={
        "name": listing.text(snapshot.c.name), "display_name": listing.text(snapshot.c.name),
        "status": listing.text(snapshot.c.status), "volume_id": listing.text(snapshot.c.volume_id),
        "metadata": listing.pairs(snapshot.c.metadata), "id": listing.text(snapshot.c.id),
        "size": listing.number(snapshot.c.size), "volume_size": listing.number(snapshot.c.size),
        "user_id": listing.text(snapshot.c.user_id), "group_snapshot_id": listing.text(snapshot.c.group_snapshot_id),
        "availability_zone": _zone, "consumes_quota": listing.consuming,
    },
    alike={"name": snapshot.c.name, "status": snapshot.c.status, "description": snapshot.c.description},
    came={"metadata": (3, 22), "consumes_quota": (3, 65)}, sort_came={"name": (3, 30)},
)


def index(call: Call) -> dict[str, Any]:
    """GET /snapshots: 200."""
    found = listing.pages(call, KIND, "/v3/snapshots")
    return {"snapshots": _SHORT.render_all(found.rows, call.version), **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /snapshots/detail: 200, with progress and project."""
    found = listing.pages(call, KIND, "/v3/snapshots/detail")
    return {"snapshots": views.SNAPSHOT.render_all(found.rows, call.version), **found.beside}


# -- actions


def reset_status(call: Call, found: Any, value: s.ResetStatus) -> None:
    """os-reset_status: 202, what an operator says; nothing is done."""
    if value.status not in states.SNAPSHOT_STATES:
        raise BadRequest(f"Invalid input received: '{value.status}' is no status of a snapshot.")
    snapshots.change(call.tx, call.cloud, found.id, status=value.status)


def force_delete(call: Call, found: Any, value: Any) -> None:
    """os-force_delete: 202, whatever its status is."""
    if found.status != states.DELETING:
        snapshots.begin_delete(call.tx, call.cloud, found, call.request_id)


_TURNS = {
    states.CREATING: (states.CREATING, states.AVAILABLE, states.ERROR),
    states.DELETING: (states.DELETING, states.ERROR, states.ERROR_DELETING),
}


def update_status(call: Call, found: Any, value: s.SnapshotStatus) -> None:
    """os-update_snapshot_status: 202. What one who makes snapshots by other means says of them."""
    if value.status not in _TURNS.get(found.status, ()):
        raise BadRequest(
            f"Invalid snapshot: Provided snapshot status {value.status} not allowed for snapshot with status "
            f"{found.status}."
        )
    values: dict[str, Any] = {"status": value.status}
    if value.progress is not None or value.status == states.AVAILABLE:
        values["progress"] = value.progress or "100%"
    snapshots.change(call.tx, call.cloud, found.id, **values)


ACTIONS: dict[str, Action] = {
    "os-reset_status": Action(_ADMIN + "reset_status", reset_status, body=s.ResetStatus),
    "os-force_delete": Action(_ADMIN + "force_delete", force_delete),
    "os-update_snapshot_status": Action(
        "snapshot_extension:snapshot_actions:update_snapshot_status", update_status, body=s.SnapshotStatus
    ),
    **SNAPSHOT_ACTIONS,
}


async def act(call: Call) -> Reply:
    """POST /snapshots/{snapshot_id}/action: 202, or as the action has it."""
    return await actions.perform(call, ACTIONS, snapshots.visible, call.params["snapshot_id"])
