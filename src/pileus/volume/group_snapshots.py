"""Snapshots of groups: one of each volume, taken one after the other."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.volume import groups, listing, snapshots, states
from pileus.volume.schemas_groups import GroupSnapshotNew
from pileus.volume.tables import snapshot
from pileus.volume.tables_rest import group_snapshot
from pileus.volume.views_rest import GROUP_SNAPSHOT, GROUP_SNAPSHOT_NEW, GROUP_SNAPSHOT_SHORT
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

_STATES = frozenset({"creating", "available", "error", "deleting", "error_deleting"})
_KIND = listing.Kind(
    plural="group_snapshots", table=group_snapshot, unique="id",
    all_tenants="group:get_all_group_snapshots:all_tenants",
    sort={"id": group_snapshot.c.id, "name": group_snapshot.c.name, "created_at": group_snapshot.c.created,
          "updated_at": group_snapshot.c.updated, "status": group_snapshot.c.status,
          "group_id": group_snapshot.c.group_id, "group_type_id": group_snapshot.c.group_type_id},
    filters={"name": listing.text(group_snapshot.c.name), "status": listing.text(group_snapshot.c.status),
             "group_id": listing.text(group_snapshot.c.group_id), "id": listing.text(group_snapshot.c.id)},
    alike={"name": group_snapshot.c.name, "status": group_snapshot.c.status, "group_id": group_snapshot.c.group_id},
)


def index(call: Call) -> dict[str, Any]:
    """GET /group_snapshots: 200."""
    found = listing.pages(call, _KIND, "/v3/group_snapshots")
    return {"group_snapshots": GROUP_SNAPSHOT_SHORT.render_all(found.rows, call.version), **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /group_snapshots/detail: 200."""
    found = listing.pages(call, _KIND, "/v3/group_snapshots/detail")
    return {"group_snapshots": [_shown(call, one) for one in found.rows], **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /group_snapshots/{group_snapshot_id}: 200. Members of its project may look."""
    return {"group_snapshot": _shown(call, _of(call, "group:get_group_snapshot"))}


def _shown(call: Call, found: Any) -> dict[str, Any]:
    shown = GROUP_SNAPSHOT.render(found, call.version)
    if (call.version or (3, 0)) >= (3, 58) and call.allows("group:group_snapshot_project_attribute"):
        shown["project_id"] = found.project_id
    return shown


def make(call: Call) -> dict[str, Any]:
    """POST /group_snapshots: 202. A snapshot of each volume of the group, all in one transaction."""
    body: GroupSnapshotNew = call.body.group_snapshot
    of = groups.held(call.tx, body.group_id)
    if of is None or not (call.context.is_admin or of.project_id == call.context.project_id):
        raise groups.missing(body.group_id)
    call.enforce("group:create_group_snapshot", project_id=of.project_id, user_id=of.user_id)
    if of.status != states.AVAILABLE:
        raise BadRequest(f"Invalid group: Group {of.id} is {of.status}; it must be available.")
    inside = groups.members(call.tx, of.id)
    if not inside:
        raise BadRequest("Invalid group: Group is empty. No group snapshot will be created.")
    made = call.cloud.world.uuid()
    call.tx.execute(group_snapshot.insert().values(
        id=made, group_id=of.id, group_type_id=of.type_id, project_id=of.project_id, user_id=call.context.user_id,
        name=body.name, description=body.description, status=states.CREATING, waits=True, created=call.now,
    ))
    for one in inside:
        snapshots.make(call, one.id, name=body.name, description=body.description, group_snapshot_id=made)
    found = call.tx.first(sa.select(group_snapshot).where(group_snapshot.c.id == made))
    return {"group_snapshot": GROUP_SNAPSHOT_NEW.render(found, call.version)}


def delete(call: Call) -> None:
    """DELETE /group_snapshots/{group_snapshot_id}: 202. It is gone when its snapshots are."""
    found = _of(call, "group:delete_group_snapshot", hold=True)
    if found.status not in (states.AVAILABLE, states.ERROR, states.ERROR_DELETING):
        raise BadRequest(f"Invalid group snapshot: {found.id} is {found.status}; it must be available or error.")
    inside = call.tx.all(sa.select(snapshot).where(snapshot.c.group_snapshot_id == found.id).order_by(snapshot.c.seq))
    for one in inside:
        if one.status not in (states.AVAILABLE, states.ERROR, states.ERROR_DELETING, states.DELETING):
            raise BadRequest(f"Invalid group snapshot: its snapshot {one.id} is {one.status}; it must be available.")
    groups.change_snapshot(call.tx, call.cloud, found.id, status=states.DELETING, waits=True)
    for one in inside:
        if one.status != states.DELETING:
            snapshots.begin_delete(call.tx, call.cloud, one, call.request_id)
    groups.settle_snapshot(call.tx, call.cloud, found.id)


def act(call: Call) -> None:
    """POST /group_snapshots/{group_snapshot_id}/action: 202. reset_status, from 3.19 on."""
    found = _of(call, "group:reset_group_snapshot_status", hold=True)
    status = call.body.reset_status.status
    if status not in _STATES:
        raise BadRequest(f"Invalid input received: '{status}' is no status of a group snapshot.")
    groups.change_snapshot(call.tx, call.cloud, found.id, status=status, waits=False)


def _of(call: Call, rule: str, *, hold: bool = False) -> Any:
    wanted = sa.select(group_snapshot).where(group_snapshot.c.id == call.params["group_snapshot_id"])
    found = call.tx.first(wanted.with_for_update() if hold else wanted)
    if found is None or not (call.context.is_admin or found.project_id == call.context.project_id):
        raise NotFound(f"GroupSnapshot {call.params['group_snapshot_id']} could not be found.")
    call.enforce(rule, project_id=found.project_id, user_id=found.user_id)
    return found
