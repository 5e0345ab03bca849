"""The HTTP of backups."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from pileus.volume import backends, backups, create, listing, orders, snapshots, states, usage, volumes
from pileus.volume.backups import BACKING_UP, RESTORING, RESTORING_TO, Origin
from pileus.volume.schemas_rest import BackupAction, BackupChange, BackupNew, BackupRecord, Restore
from pileus.volume.tables_rest import backup
from pileus.volume.views import links
from pileus.volume.views_rest import BACKUP, BACKUP_NEW, BACKUP_SHORT
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

_SERVICE = "cinder.backup.drivers.pileus"
"""What an exported record names as the driver that can read the copy."""

_KIND = listing.Kind(
    plural="backups", table=backup, unique="id", all_tenants="backup:get_all:all_tenants",
    sort={"id": backup.c.id, "name": backup.c.name, "created_at": backup.c.created, "updated_at": backup.c.updated,
          "status": backup.c.status, "size": backup.c.size, "volume_id": backup.c.volume_id},
    filters={"name": listing.text(backup.c.name), "status": listing.text(backup.c.status),
             "volume_id": listing.text(backup.c.volume_id), "snapshot_id": listing.text(backup.c.snapshot_id),
             "size": listing.number(backup.c.size), "id": listing.text(backup.c.id),
             "metadata": listing.pairs(backup.c.metadata)},
    alike={"name": backup.c.name, "status": backup.c.status, "volume_id": backup.c.volume_id},
    came={"metadata": (3, 43)}, sort_came={"name": (3, 37)},
)


class Record(msgspec.Struct, kw_only=True):
    """What an exported record holds. The copy itself stays where it is."""

    id: str
    volume_id: str
    size: int  # GiB
    node: str
    stored_as: str
    created: float
    name: str | None = None
    description: str | None = None
    snapshot_id: str | None = None
    zone: str | None = None
    of: float | None = None
    parent_id: str | None = None
    bytes: int = 0
    metadata: dict[str, str] = {}
    origin: Origin = Origin()


def index(call: Call) -> dict[str, Any]:
    """GET /backups: 200."""
    found = listing.pages(call, _KIND, "/v3/backups")
    return {"backups": [_short(call, one) for one in found.rows], **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /backups/detail: 200."""
    found = listing.pages(call, _KIND, "/v3/backups/detail")
    return {"backups": _whole(call, found.rows), **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /backups/{backup_id}: 200. Members of its project may look."""
    return {"backup": _whole(call, [_of(call, "backup:get")])[0]}


def make(call: Call) -> dict[str, Any]:
    """POST /backups: 202. Of a volume that is in use only with `force`, of a snapshot at any time."""
    body: BackupNew = call.body.backup
    of = volumes.visible(call, body.volume_id, "backup:create", hold=True)
    if body.container:
        raise BadRequest("Invalid backup: backups are kept by the volume's node, which has no containers. "
                         "Leave out 'container'.")
    taken = _snapshot(call, body, of)
    if taken is None:
        allowed = {states.AVAILABLE, states.IN_USE} if as_bool(body.force or False) else {states.AVAILABLE}
        states.require(of, allowed, "back it up (one that is in use with force)")
    node = orders.check_up(call.tx, call.cloud, of)
    parent = _parent(call, of.id, node) if as_bool(body.incremental or False) else None
    usage.room_beside(call.tx, call.cloud, of.project_id, backups=1, backup_gigabytes=of.size)
    backup_id = call.cloud.world.uuid()
    was = Origin(bootable=of.bootable, metadata=of.metadata, image_metadata=of.image_metadata)
    call.tx.execute(backup.insert().values(
        id=backup_id, project_id=of.project_id, user_id=call.context.user_id, volume_id=of.id,
        snapshot_id=body.snapshot_id, name=body.name, description=body.description, status=states.CREATING,
        size=of.size if taken is None else taken.size, bytes=0, node=node, stored_as=backup_id, zone=of.zone,
        parent_id=parent, metadata=body.metadata or {}, volume_facts=msgspec.to_builtins(was),
        of=None if taken is None else taken.created, created=call.now, changed=call.now,
    ))
    if taken is None:
        volumes.change(call.tx, call.cloud, of.id, status=BACKING_UP, previous_status=of.status)
    else:
        snapshots.change(call.tx, call.cloud, taken.id, status=BACKING_UP)
    orders.send(
        call.tx, call.cloud, node, "backup", of.id, request_id=call.request_id, backup_id=backup_id,
        snapshot_id=body.snapshot_id, parent_id=parent, timeout=orders.patience(call.cloud, of.size),
    )
    return {"backup": _new(call, backup_id)}


def _parent(call: Call, volume_id: str, node: str) -> str:
    """The copy to which an incremental backup is to hold the difference. Raises BadRequest."""
    found = backups.latest(call.tx, volume_id, node)
    if found is None:
        raise BadRequest("Invalid backup: No backups available to do an incremental backup: make a full one of this "
                         "volume first.")
    parent: str = found.stored_as
    return parent


def _snapshot(call: Call, body: BackupNew, of: Any) -> Any:
    """The snapshot to back up, None for the volume itself. Raises NotFound, BadRequest."""
    if body.availability_zone not in (UNSET, None, "", of.zone):
        raise BadRequest(f"Invalid backup: the backup is kept where volume {of.id} is, in zone {of.zone}.")
    if body.snapshot_id is None:
        return None
    found = snapshots.visible(call, body.snapshot_id, "backup:create", hold=True)
    if found.volume_id != of.id:
        raise BadRequest(f"Invalid snapshot: Snapshot {found.id} is not of volume {of.id}.")
    if found.status != states.AVAILABLE:
        raise BadRequest(f"Invalid snapshot: Snapshot {found.id} is {found.status}; it must be available.")
    return found


def update(call: Call) -> dict[str, Any]:
    """PUT /backups/{backup_id}: 200, from 3.9 on."""
    body: BackupChange = call.body.backup
    found = _of(call, "backup:update")
    given = {
        name: value for name in ("name", "description", "metadata") if (value := getattr(body, name)) is not UNSET
    }
    if not given:
        raise BadRequest("Must specify 'name', 'description' or 'metadata'.")
    if "metadata" in given:
        given["metadata"] = given["metadata"] or {}
    backups.change(call.tx, call.cloud, found.id, **given)
    return {"backup": _new(call, found.id)}


def delete(call: Call) -> None:
    """DELETE /backups/{backup_id}: 202."""
    found = _of(call, "backup:delete", hold=True)
    if found.status not in (states.AVAILABLE, states.ERROR):
        raise BadRequest(f"Invalid backup: Backup status must be available or error, but is {found.status}.")
    backups.check_unused(call.tx, found)
    backups.begin_delete(call.tx, call.cloud, found, call.request_id)


def restore(call: Call) -> dict[str, Any]:
    """POST /backups/{backup_id}/restore: 202. Into a new volume, or into one that is as large and on the same node."""
    body: Restore = call.body.restore
    found = _of(call, "backup:restore", hold=True)
    if found.status != states.AVAILABLE:
        raise BadRequest(f"Invalid backup: Backup status must be available, but is {found.status}.")
    if body.volume_id is not None:
        into = _over(call, found, body.volume_id)
        return {"restore": {"backup_id": found.id, "volume_id": into.id, "volume_name": into.name}}
    name = body.name or f"restore_backup_{found.id}"
    volume_id = create.make(call, create.Wish(
        name=name, description="", size=found.size, backup_id=found.id, metadata=backups.origin(found).metadata,
    ))
    return {"restore": {"backup_id": found.id, "volume_id": volume_id, "volume_name": name}}


def _over(call: Call, found: Any, volume_id: str) -> Any:
    into = volumes.visible(call, volume_id, "backup:restore", hold=True)
    states.require(into, {states.AVAILABLE}, "restore a backup into it")
    if into.size < found.size:
        raise BadRequest(f"Invalid volume: volume {into.id} has {into.size} GiB, the backup needs {found.size}.")
    node = orders.check_up(call.tx, call.cloud, into)
    if node != found.node:
        raise BadRequest(f"Invalid volume: backup {found.id} is on node {found.node} and volume {into.id} on {node}. "
                         "Restore it into a new volume.")
    volumes.change(call.tx, call.cloud, into.id, status=RESTORING_TO)
    backups.change(call.tx, call.cloud, found.id, status=RESTORING, restoring=into.id)
    orders.send(
        call.tx, call.cloud, node, "restore", into.id, request_id=call.request_id, backup_id=found.stored_as,
        size_gib=into.size, timeout=orders.patience(call.cloud, into.size),
    )
    return into


def act(call: Call) -> None:
    """POST /backups/{backup_id}/action: 202. os-reset_status, os-force_delete."""
    body: BackupAction = call.body
    if (body.reset_status is UNSET) == (body.force_delete is UNSET):
        raise BadRequest("There must be one action: os-reset_status or os-force_delete.")
    rule = "volume_extension:backup_admin_actions:"
    if body.reset_status is not UNSET:
        found = _of(call, rule + "reset_status", hold=True)
        if body.reset_status.status not in (states.AVAILABLE, states.ERROR):
            raise BadRequest(f"Invalid input received: a backup can be reset to available or error, not to "
                             f"'{body.reset_status.status}'.")
        backups.change(call.tx, call.cloud, found.id, status=body.reset_status.status)
    else:
        found = _of(call, rule + "force_delete", hold=True)
        backups.check_unused(call.tx, found)
        backups.begin_delete(call.tx, call.cloud, found, call.request_id)


# -- records


def export(call: Call) -> dict[str, Any]:
    """GET /backups/{backup_id}/export_record: 200, what another database needs to know of the copy."""
    found = _of(call, "backup:export-import")
    if found.status != states.AVAILABLE:
        raise BadRequest(f"Invalid backup: Backup status must be available, but is {found.status}.")
    record = Record(
        id=found.id, volume_id=found.volume_id, size=found.size, node=found.node, stored_as=found.stored_as,
        created=found.created, name=found.name, description=found.description, snapshot_id=found.snapshot_id,
        zone=found.zone, of=found.of, parent_id=found.parent_id, bytes=found.bytes, metadata=found.metadata,
        origin=backups.origin(found),
    )
    url = base64.b64encode(msgspec.json.encode(record)).decode()
    return {"backup-record": {"backup_service": _SERVICE, "backup_url": url}}


def take_in(call: Call) -> dict[str, Any]:
    """POST /backups/import_record: 201. The copy must be on a node of this cloud."""
    body: BackupRecord = call.body.record
    if body.backup_service != _SERVICE:
        raise BadRequest(f"Invalid backup: a record of {body.backup_service} cannot be read here, only of {_SERVICE}.")
    try:
        record = msgspec.json.decode(base64.b64decode(body.backup_url, validate=True), type=Record)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise BadRequest(f"Invalid input received: the record cannot be read: {error}") from None
    if not 0 < len(record.id) <= 64 or not 0 < record.size < 1 << 31 or len(record.name or "") > 255:
        raise BadRequest("Invalid input received: the record's id, size or name is not one of a backup.")
    if backups.row(call.tx, record.id) is not None:
        raise BadRequest(f"Invalid backup: Backup {record.id} is here already.")
    if backends.by_node(call.tx, record.node) is None:
        raise BadRequest(f"Invalid backup: no node {record.node} keeps volumes in this cloud.")
    call.tx.execute(backup.insert().values(
        id=record.id, project_id=call.context.project_id, user_id=call.context.user_id, volume_id=record.volume_id,
        snapshot_id=record.snapshot_id, name=record.name, description=record.description, status=states.AVAILABLE,
        size=record.size, bytes=record.bytes, node=record.node, stored_as=record.stored_as, zone=record.zone,
        parent_id=record.parent_id, metadata=record.metadata, volume_facts=msgspec.to_builtins(record.origin),
        of=record.of, created=record.created, updated=call.now, changed=call.now,
    ))
    return {"backup": _short(call, backups.row(call.tx, record.id))}


# -- one


def _of(call: Call, rule: str, *, hold: bool = False) -> Any:
    backup_id = call.params["backup_id"]
    found = (backups.held if hold else backups.row)(call.tx, backup_id)
    if found is None or not (call.context.is_admin or found.project_id == call.context.project_id):
        raise backups.missing(backup_id)
    call.enforce(rule, project_id=found.project_id, user_id=found.user_id)
    return found


def _new(call: Call, backup_id: str) -> dict[str, Any]:
    found = backups.row(call.tx, backup_id)
    return {**BACKUP_NEW.render(found, call.version), "links": links(call, "backups", backup_id)}


def _short(call: Call, found: Any) -> dict[str, Any]:
    return {**BACKUP_SHORT.render(found, call.version), "links": links(call, "backups", found.id)}


def _whole(call: Call, rows: Sequence[Any]) -> list[dict[str, Any]]:
    needed = backups.parents(call.tx, rows)
    with_project = (call.version or (3, 0)) >= (3, 18) and call.allows("backup:backup_project_attribute")
    found = []
    for one in rows:
        shown = {**BACKUP.render(one, call.version), "links": links(call, "backups", one.id)}
        shown["has_dependent_backups"] = (one.node, one.stored_as) in needed
        if with_project:
            shown["os-backup-project-attr:project_id"] = one.project_id
        found.append(shown)
    return found
