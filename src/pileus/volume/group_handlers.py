"""The HTTP of groups of volumes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import create, group_types, groups, listing, placing, states, usage, volume_types, volumes
from pileus.volume.schemas_groups import GroupAction, GroupChange, GroupDelete, GroupFrom, GroupNew
from pileus.volume.tables import snapshot
from pileus.volume.tables_rest import group, group_snapshot
from pileus.volume.views_rest import GROUP, GROUP_SHORT
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool

_STATES = frozenset({"creating", "available", "error", "deleting", "error_deleting", "updating", "in-use"})
_KIND = listing.Kind(
    plural="groups", table=group, unique="id", all_tenants="group:get_all:all_tenants",
    beside=frozenset({"list_volume"}),
    sort={"id": group.c.id, "name": group.c.name, "created_at": group.c.created, "updated_at": group.c.updated,
          "status": group.c.status},
    filters={"name": listing.text(group.c.name), "status": listing.text(group.c.status),
             "id": listing.text(group.c.id), "availability_zone": listing.text(group.c.zone),
             "group_type": listing.text(group.c.type_id)},
    alike={"name": group.c.name, "status": group.c.status},
)


def index(call: Call) -> dict[str, Any]:
    """GET /groups: 200."""
    found = listing.pages(call, _KIND, "/v3/groups")
    return {"groups": GROUP_SHORT.render_all(found.rows, call.version), **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /groups/detail: 200; from 3.25 on with the volumes' ids where list_volume asks for them."""
    found = listing.pages(call, _KIND, "/v3/groups/detail")
    return {"groups": [_shown(call, one) for one in found.rows], **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /groups/{group_id}: 200. Members of its project may look."""
    return {"group": _shown(call, _of(call, "group:get"))}


def make(call: Call) -> dict[str, Any]:
    """POST /groups: 202. It is available at once, as nothing is in it."""
    body: GroupNew = call.body.group
    kind = group_types.find(call, body.group_type)
    if group_types.is_consistent(kind):
        raise BadRequest(f"Invalid input received: group type {kind.name} wants snapshots of one moment over all "
                         "volumes, which no backend here can make. Use another group type.")
    types = [volume_types.row(call.tx, call.context, one).id for one in body.volume_types]
    zone = body.availability_zone or call.cloud.settings.availability_zone
    if not placing.zone_exists(call.tx, call.cloud, zone):
        raise BadRequest(f"Invalid input received: Availability zone '{zone}' is invalid.")
    group_id = _insert(call, name=body.name, description=body.description, type_id=kind.id, zone=zone,
                       volume_types=list(dict.fromkeys(types)), status=states.AVAILABLE, waits=False)
    return {"group": GROUP_SHORT.render(groups.row(call.tx, group_id), call.version)}


def make_from(call: Call) -> dict[str, Any]:
    """POST /groups/action: 202. A group of copies of another group's volumes, or of those of a group snapshot."""
    body: GroupFrom = call.body.source
    if (body.group_snapshot_id is None) == (body.source_group_id is None):
        raise BadRequest("Either 'group_snapshot_id' or 'source_group_id' must be provided, and not both.")
    if body.group_snapshot_id is not None:
        of, wishes = _of_snapshot(call, body.group_snapshot_id)
    else:
        of, wishes = _of_group(call, str(body.source_group_id))
    if not wishes:
        raise BadRequest("Invalid group: the source is empty; no group will be created.")
    group_id = _insert(
        call, name=body.name, description=body.description, type_id=of.type_id, zone=of.zone,
        volume_types=of.volume_types, status=states.CREATING, waits=True, group_snapshot_id=body.group_snapshot_id,
        source_id=body.source_group_id,
    )
    for wish in wishes:
        wish.group_id = group_id
        create.make(call, wish)
    groups.settle(call.tx, call.cloud, group_id)
    return {"group": GROUP_SHORT.render(groups.row(call.tx, group_id), call.version)}


def _of_snapshot(call: Call, group_snapshot_id: str) -> tuple[Any, list[create.Wish]]:
    taken = call.tx.first(sa.select(group_snapshot).where(group_snapshot.c.id == group_snapshot_id))
    if taken is None or not (call.context.is_admin or taken.project_id == call.context.project_id):
        raise NotFound(f"GroupSnapshot {group_snapshot_id} could not be found.")
    of = groups.held(call.tx, taken.group_id)
    if taken.status != states.AVAILABLE or of is None:
        raise BadRequest(f"Invalid group snapshot: {group_snapshot_id} is {taken.status}; it must be available.")
    inside = call.tx.all(
        sa.select(snapshot).where(snapshot.c.group_snapshot_id == taken.id).order_by(snapshot.c.seq)
    )
    return of, [create.Wish(name=one.name, size=one.size, snapshot_id=one.id) for one in inside]


def _of_group(call: Call, group_id: str) -> tuple[Any, list[create.Wish]]:
    of = groups.held(call.tx, group_id)
    if of is None or not (call.context.is_admin or of.project_id == call.context.project_id):
        raise groups.missing(group_id)
    if of.status != states.AVAILABLE:
        raise BadRequest(f"Invalid group: Group {group_id} is {of.status}; it must be available.")
    return of, [
        create.Wish(name=one.name, description=one.description, size=one.size, source_id=one.id)
        for one in groups.members(call.tx, of.id)
    ]


def _insert(call: Call, **values: Any) -> str:
    project_id = call.context.project_id or ""
    usage.room_beside(call.tx, call.cloud, project_id, groups=1)
    group_id = call.cloud.world.uuid()
    call.tx.execute(group.insert().values(
        id=group_id, project_id=project_id, user_id=call.context.user_id, created=call.now, **values
    ))
    return group_id


def update(call: Call) -> None:
    """PUT /groups/{group_id}: 202. Name, description, and volumes that come in or go out, separated by commas."""
    body: GroupChange = call.body.group
    found = _of(call, "group:update", hold=True)
    if found.status != states.AVAILABLE:
        raise BadRequest(f"Invalid group: Group {found.id} is {found.status}; it must be available.")
    added, removed = _ids(body.add_volumes), _ids(body.remove_volumes)
    values = {name: value for name in ("name", "description") if (value := getattr(body, name)) not in (UNSET, None)}
    if not values and not added and not removed:
        raise BadRequest("Invalid input received: Must specify 'name', 'description', 'add_volumes' or "
                         "'remove_volumes'.")
    if both := set(added) & set(removed):
        raise BadRequest(f"Invalid volume: {', '.join(sorted(both))} cannot be added and removed at once.")
    for volume_id in removed:
        one = volumes.held(call.tx, volume_id)
        if one is None or one.group_id != found.id:
            raise BadRequest(f"Invalid volume: Cannot remove volume {volume_id}, as it is not in group {found.id}.")
        volumes.change(call.tx, call.cloud, volume_id, group_id=None)
    for volume_id in added:
        _add(call, found, volume_id)
    groups.change(call.tx, call.cloud, found.id, **values)


def _ids(text: Any) -> list[str]:
    return [] if text in (UNSET, None) else [part for raw in str(text).split(",") if (part := raw.strip())]


def _add(call: Call, found: Any, volume_id: str) -> None:
    one = volumes.held(call.tx, volume_id)
    if one is None or one.project_id != found.project_id:
        raise BadRequest(f"Invalid volume: Cannot add volume {volume_id} to group {found.id}: it cannot be found.")
    if one.group_id not in (None, found.id):
        raise BadRequest(f"Invalid volume: Volume {volume_id} is in group {one.group_id} already.")
    if one.type_id not in found.volume_types:
        raise BadRequest(f"Invalid volume: the type of volume {volume_id} is none of those of group {found.id}.")
    states.require(one, {states.AVAILABLE, states.IN_USE}, "add it to a group")
    volumes.change(call.tx, call.cloud, volume_id, group_id=found.id)


def act(call: Call) -> None:
    """POST /groups/{group_id}/action: 202. delete, and from 3.20 on reset_status. Nothing here is replicated."""
    body: GroupAction = call.body
    given = [name for name in body.__struct_fields__ if getattr(body, name) is not UNSET]
    if len(given) != 1:
        raise BadRequest("There must be one action: delete or reset_status.")
    if body.delete is not UNSET:
        _delete(call, body.delete)
    elif body.reset_status is not UNSET:
        found = _of(call, "group:reset_status", hold=True)
        if body.reset_status.status not in _STATES:
            raise BadRequest(f"Invalid input received: '{body.reset_status.status}' is no status of a group.")
        groups.change(call.tx, call.cloud, found.id, status=body.reset_status.status, waits=False)
    else:
        found = _of(call, "group:update")
        raise BadRequest(f"Invalid group type: group {found.id} is not replicated: no backend here replicates volumes.")


def _delete(call: Call, body: GroupDelete) -> None:
    found = _of(call, "group:delete", hold=True)
    if found.status not in (states.AVAILABLE, states.ERROR, states.ERROR_DELETING):
        raise BadRequest(f"Invalid group: Group {found.id} is {found.status}; it must be available or error.")
    if call.tx.first(sa.select(group_snapshot.c.id).where(group_snapshot.c.group_id == found.id).limit(1)) is not None:
        raise BadRequest(f"Invalid group: Group {found.id} has snapshots; delete those first.")
    inside = groups.members(call.tx, found.id)
    if inside and not as_bool(body.volumes):
        raise BadRequest(f"Invalid group: Group {found.id} is not empty: ask for 'delete-volumes', or take its volumes "
                         "out first.")
    for one in inside:
        states.require(volumes.held(call.tx, one.id) or one, states.DELETABLE, "delete it with its group")
        if call.tx.first(sa.select(snapshot.c.id).where(snapshot.c.volume_id == one.id).limit(1)) is not None:
            raise BadRequest(f"Invalid volume: Volume {one.id} has snapshots; delete those first.")
    groups.begin_delete(call.tx, call.cloud, found, call.request_id)


def _of(call: Call, rule: str, *, hold: bool = False) -> Any:
    group_id = call.params["group_id"]
    found = (groups.held if hold else groups.row)(call.tx, group_id)
    if found is None or not (call.context.is_admin or found.project_id == call.context.project_id):
        raise groups.missing(group_id)
    call.enforce(rule, project_id=found.project_id, user_id=found.user_id)
    return found


def _shown(call: Call, found: Any) -> dict[str, Any]:
    shown = GROUP.render(found, call.version)
    asked = dict(call.query_pairs).get("list_volume", "false")
    if (call.version or (3, 0)) >= (3, 25) and listing.flag(asked, "list_volume"):
        shown["volumes"] = [one.id for one in groups.members(call.tx, found.id)]
    if (call.version or (3, 0)) >= (3, 58) and call.allows("group:group_project_attribute"):
        shown["project_id"] = found.project_id
    return shown
