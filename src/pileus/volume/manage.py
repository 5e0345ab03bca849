"""Volumes and snapshots that a node keeps, and that are taken out of the API's hands, or brought back into them.

What was taken out stays on its node as it is, under its old id, which is how it is named when it is brought back: a
volume then gets an id of its own, a snapshot has its old one again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.node.contract import Task, TaskResult, VolumeTask
from pileus.volume import (
    backends,
    messages,
    orders,
    placing,
    snapshots,
    states,
    usage,
    views,
    volume_types,
    volumes,
)
from pileus.volume.schemas_groups import ManageSnapshot, ManageVolume
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import unmanaged
from pileus.volume.type_encryption import refuse
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

MANAGING, ERROR_MANAGING = "managing", "error_managing"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a volume that was taken out."""

    bootable: bool = False
    image_metadata: dict[str, str] | None = None


# -- out


def unmanage(call: Call, found: Any, value: Any) -> None:
    """os-unmanage of a volume: 202. Its bytes stay where they are."""
    states.require(found, {states.AVAILABLE, states.ERROR}, "unmanage it")
    if call.tx.first(sa.select(snapshot.c.id).where(snapshot.c.volume_id == found.id).limit(1)) is not None:
        raise BadRequest(f"Invalid volume: Volume {found.id} has snapshots, and cannot be unmanaged.")
    if not found.node or found.group_id is not None:
        raise BadRequest(f"Invalid volume: Volume {found.id} is on no node, or is in a group; it cannot be unmanaged.")
    facts = Facts(bootable=found.bootable, image_metadata=found.image_metadata)
    call.tx.execute(unmanaged.insert().values(
        id=found.id, kind="volume", node=found.node, size=found.size, facts=msgspec.to_builtins(facts),
        created=call.now,
    ))
    volumes.remove(call.tx, call.cloud, found.id)


def unmanage_snapshot(call: Call, found: Any, value: Any) -> None:
    """os-unmanage of a snapshot: 202. It stays on its volume's node, and goes with the volume."""
    if found.status not in (states.AVAILABLE, states.ERROR) or found.group_snapshot_id is not None:
        raise BadRequest(f"Invalid snapshot: Snapshot {found.id} is {found.status} or of a group; it cannot be "
                         "unmanaged.")
    of = volumes.row(call.tx, found.volume_id)
    call.tx.execute(unmanaged.insert().values(
        id=found.id, kind="snapshot", node=of.node if of is not None and of.node else "", volume_id=found.volume_id,
        size=found.size, facts={}, created=call.now,
    ))
    snapshots.remove(call.tx, found.id)


# -- in


def manage(call: Call) -> dict[str, Any]:
    """POST /os-volume-manage: 202. Its node names it anew; the size is what it was."""
    body: ManageVolume = call.body.volume
    if body.cluster not in (UNSET, None) or not body.host:
        raise BadRequest("Invalid input received: name the 'host' that keeps the volume; there are no clusters.")
    place = place_of(call, body.host)
    old = _left(call, "volume", _reference(body.ref), place.node)
    kind = (
        volume_types.find(call.tx, call.context, body.volume_type) if body.volume_type
        else volume_types.default(call.tx, call.cloud, call.context)
    )
    refuse(kind)
    if kind is not None and not placing.suits(place, kind.extra_specs):
        raise BadRequest(f"Invalid volume type: node {place.node} is not as type {kind.name} wants it.")
    zone = placing.by_node(call.tx).get(place.node, call.cloud.settings.availability_zone)
    if body.availability_zone not in (None, zone):
        raise BadRequest(f"Invalid input received: node {place.node} is in zone {zone}.")
    project_id = call.context.project_id or ""
    usage.room(call.tx, call.cloud, project_id, kind.id if kind else None, volumes=1, gigabytes=old.size)
    facts = msgspec.convert(old.facts, Facts)
    volume_id = call.cloud.world.uuid()
    call.tx.execute(volume.insert().values(
        id=volume_id, project_id=project_id, user_id=call.context.user_id, name=body.name,
        description=body.description, size=old.size, status=MANAGING, node=place.node, backend=place.backend,
        zone=zone, type_id=kind.id if kind else None, bootable=facts.bootable or as_bool(body.bootable),
        multiattach=bool(kind and kind.multiattach), encrypted=False, metadata=body.metadata or {},
        image_metadata=facts.image_metadata, export_key="", drop_wanted=False, created=call.now, changed=call.now,
    ))
    call.tx.execute(unmanaged.delete().where(unmanaged.c.id == old.id))
    call.tx.execute(unmanaged.update().where(unmanaged.c.volume_id == old.id).values(volume_id=volume_id))
    orders.send(
        call.tx, call.cloud, place.node, "adopt", volume_id, request_id=call.request_id, source_volume_id=old.id,
        size_gib=old.size,
    )
    return views.volume(call, volumes.row(call.tx, volume_id), extended=False)


def adopted(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.adopt has ended: the volume is here under its new id, or still under the old one and nobody's."""
    args = msgspec.json.decode(task.arguments, type=VolumeTask)
    found = volumes.held(tx, args.volume_id)
    if result.ok:
        if found is not None and found.status == MANAGING:
            volumes.settle(tx, cloud, found.id, force=True, launched=cloud.world.now(), error=None)
        return
    error = result.error or "the node gave no reason"
    facts = Facts() if found is None else Facts(bootable=found.bootable, image_metadata=found.image_metadata)
    tx.execute(unmanaged.insert().values(
        id=args.source_volume_id, kind="volume", node=task.node, size=args.size_gib, facts=msgspec.to_builtins(facts),
        created=cloud.world.now(),
    ))
    tx.execute(unmanaged.update().where(unmanaged.c.volume_id == args.volume_id).values(
        volume_id=args.source_volume_id
    ))
    if found is not None and found.status == MANAGING:
        volumes.change(tx, cloud, found.id, status=ERROR_MANAGING, error=error)
        messages.record(
            tx, cloud, project_id=found.project_id, request_id=task.request_id, resource_type="VOLUME",
            resource_id=found.id, action="create volume from backend storage", detail=error,
        )


def manage_snapshot(call: Call) -> dict[str, Any]:
    """POST /os-snapshot-manage: 202."""
    body: ManageSnapshot = call.body.snapshot
    of = volumes.visible(call, body.volume_id, "snapshot_extension:snapshot_manage", hold=True)
    old = _left(call, "snapshot", _reference(body.ref), None)
    if old.volume_id != of.id:
        raise BadRequest(f"Invalid input received: {old.id} is no snapshot of volume {of.id}.")
    usage.room(call.tx, call.cloud, of.project_id, of.type_id, snapshots=1, gigabytes=old.size)
    call.tx.execute(unmanaged.delete().where(unmanaged.c.id == old.id))
    call.tx.execute(snapshot.insert().values(
        id=old.id, volume_id=of.id, project_id=of.project_id, user_id=call.context.user_id, name=body.name,
        description=body.description, size=old.size, status=states.AVAILABLE, progress="100%",
        metadata=body.metadata or {}, type_id=of.type_id, created=call.now, changed=call.now,
    ))
    return {"snapshot": views.SNAPSHOT_SHORT.render(snapshots.row(call.tx, old.id), call.version)}


def place_of(call: Call, host: str) -> Any:
    """The backend of a host that is up. Raises BadRequest."""
    found = backends.by_node(call.tx, backends.node_of(host))
    if found is None:
        raise BadRequest(f"Invalid host: no node {host} keeps volumes.")
    if not backends.is_up(found, moment(call.cloud)) or found.disabled:
        raise BadRequest(f"Invalid host: node {found.node} is down or disabled.")
    return found


def _reference(ref: Mapping[str, Any]) -> str:
    """The id in {"source-name": "volume-ID"} or {"source-id": "ID"}. Raises BadRequest."""
    text = ref.get("source-name", ref.get("source-id"))
    if not isinstance(text, str) or not text:
        raise BadRequest("Invalid input received: 'ref' must have a source-name or source-id.")
    return text.removeprefix("volume-").removeprefix("snapshot-").removeprefix("_snapshot-")


def _left(call: Call, kind: str, old_id: str, node: str | None) -> Any:
    """What was taken out under this id. Raises BadRequest."""
    here = [unmanaged.c.id == old_id, unmanaged.c.kind == kind]
    if node is not None:
        here.append(unmanaged.c.node == node)
    found = call.tx.first(sa.select(unmanaged).where(*here).with_for_update())
    if found is None:
        where = f"node {node} keeps" if node else "the volume's node keeps"
        raise BadRequest(f"Invalid input received: no {kind} {old_id} that is not managed is what {where}. "
                         "List what is with GET os-volume-manage or os-snapshot-manage.")
    return found


def purge(tx: Tx, cloud: Cloud) -> int:
    """Forget the snapshots that went with their volume; how many. Runs periodically."""
    there = sa.select(volume.c.id)
    left = sa.select(unmanaged.c.id).where(unmanaged.c.kind == "volume")
    gone = tx.scalars(sa.select(unmanaged.c.id).where(
        unmanaged.c.kind == "snapshot", unmanaged.c.volume_id.not_in(there), unmanaged.c.volume_id.not_in(left)
    ).limit(1000))
    if gone:
        tx.execute(unmanaged.delete().where(unmanaged.c.id.in_(gone)))
    return len(gone)
