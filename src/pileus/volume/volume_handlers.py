"""Volumes: the handlers of /volumes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import create as making
from pileus.volume import listing, snapshots, states, views, volume_types, volumes
from pileus.volume import schemas as s
from pileus.volume.tables import attachment, snapshot, volume
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

_REMOVED = (
    "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. Contact "
    "your administrator to create a multiattach enabled volume type and use it to create multiattach volumes."
)


def create(call: Call) -> dict[str, Any]:
    """POST /volumes: 202."""
    body: s.NewVolume = call.body.volume
    if body.multiattach is not None and as_bool(body.multiattach):
        raise BadRequest(_REMOVED)
    if body.consistencygroup_id is not None:
        raise BadRequest("Consistency groups have become groups: send group_id (from 3.13 on).")
    hints: s.Hints = call.body.hints or s.Hints()
    wish = making.Wish(
        name=body.name if body.name is not None else body.display_name,
        description=body.description if body.description is not None else body.display_description,
        size=s.gib(body.size) if body.size is not None else 0, image_id=_image_of(body),
        snapshot_id=body.snapshot_id, source_id=body.source_volid, backup_id=body.backup_id or None,
        volume_type=body.volume_type, zone=body.availability_zone or None, metadata=body.metadata or {},
        group_id=body.group_id or None, same_host=_several(hints.same_host),
        different_host=_several(hints.different_host), place_later=True,
    )
    if wish.image_id and (call.version or (3, 0)) >= (3, 46):
        wish = making.from_snapshot_of_image(call, wish)
    if wish.image_id:
        call.enforce("volume:create_from_image", project_id=call.context.project_id)
    found = volumes.row(call.tx, making.make(call, wish))
    return views.volume(call, found, extended=False)


def _image_of(body: s.NewVolume) -> str | None:
    reference = body.image_ref or body.image_id
    return reference.rstrip("/").rpartition("/")[2] if reference else None


def _several(value: str | list[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def show(call: Call) -> dict[str, Any]:
    """GET /volumes/{volume_id}: 200."""
    return views.volume(call, volumes.visible(call, call.params["volume_id"], "volume:get"))


def update(call: Call) -> dict[str, Any]:
    """PUT /volumes/{volume_id}: 200. Name, description and metadata; from 3.53 on at least one of them."""
    found = volumes.visible(call, call.params["volume_id"], "volume:update", hold=True)
    body: s.VolumeChange = call.body.volume
    values = {
        "name": s.pick(body.name, body.display_name),
        "description": s.pick(body.description, body.display_description), "metadata": body.metadata,
    }
    given = {name: value for name, value in values.items() if value is not UNSET}
    if not given and (call.version or (3, 0)) >= (3, 53):
        raise BadRequest("Invalid input received: Must specify 'name', 'description' or 'metadata' to be changed.")
    if given.get("metadata", "") is None:
        given["metadata"] = {}
    volumes.change(call.tx, call.cloud, found.id, **given)
    return views.volume(call, volumes.row(call.tx, found.id), extended=False)


def delete(call: Call) -> None:
    """DELETE /volumes/{volume_id}: 202. With `cascade` its snapshots go too; `force` is for administrators."""
    cascade = listing.flag(call.query.cascade or "false", "cascade")
    force = (call.version or (3, 0)) >= (3, 23) and listing.flag(call.query.force or "false", "force")
    rule = "volume:force_delete" if force else "volume:delete"
    found = volumes.visible(call, call.params["volume_id"], rule, hold=True)
    begin_delete(call, found, cascade=cascade, force=force)


def force_delete(call: Call, found: Any, value: Any) -> None:
    """os-force_delete: 202, whatever its status is."""
    begin_delete(call, found, cascade=False, force=True)


def begin_delete(call: Call, found: Any, *, cascade: bool, force: bool) -> None:
    """Delete a volume if that is possible now. Raises BadRequest, which says what is in the way."""
    if call.tx.first(sa.select(attachment.c.id).where(attachment.c.volume_id == found.id)) is not None:
        raise BadRequest(
            f"Invalid volume: Volume {found.id} is {found.status}: it cannot be deleted while it is attached or "
            "reserved. Detach it first."
        )
    if not force:
        states.require(found, states.DELETABLE, "delete it")
        if found.migration_status in ("migrating", "starting", "completing"):
            raise BadRequest(f"Invalid volume: Volume {found.id} is being migrated.")
    if found.group_id is not None and not force:
        raise BadRequest(f"Invalid volume: Volume {found.id} is part of group {found.group_id}; delete that.")
    of_it = call.tx.all(sa.select(snapshot).where(snapshot.c.volume_id == found.id))
    if of_it and not cascade:
        raise BadRequest(
            f"Invalid volume: Volume {found.id} still has {len(of_it)} dependent snapshots. Delete them first, or "
            "delete the volume with cascade=true."
        )
    for one in of_it:
        if one.status != states.DELETING:
            if not force:
                snapshots.require_deletable(one)
            snapshots.begin_delete(call.tx, call.cloud, one, call.request_id)
    volumes.begin_delete(call.tx, call.cloud, found, call.request_id)


# -- lists


def _type(call: Call, value: str) -> sa.ColumnElement[bool]:
    return volume.c.type_id == volume_types.find(call.tx, call.context, value).id


def _image(call: Call, value: str) -> sa.ColumnElement[bool]:
    return listing.pairs(volume.c.image_metadata)(call, value)


KIND = listing.Kind(
    plural="volumes", table=volume, all_tenants="volume:get_all:all_tenants",
    sort={
        "id": volume.c.id, "status": volume.c.status, "size": volume.c.size, "availability_zone": volume.c.zone,
        "name": volume.c.name, "display_name": volume.c.name, "bootable": volume.c.bootable,
        "created_at": volume.c.created, "updated_at": volume.c.updated, "host": volume.c.node,
        "group_id": volume.c.group_id, "user_id": volume.c.user_id, "project_id": volume.c.project_id,
    },
    filters={
        "name": listing.text(volume.c.name), "display_name": listing.text(volume.c.name),
        "status": listing.text(volume.c.status), "metadata": listing.pairs(volume.c.metadata),
        "bootable": listing.truth(volume.c.bootable), "migration_status": listing.text(volume.c.migration_status),
        "availability_zone": listing.text(volume.c.zone), "group_id": listing.text(volume.c.group_id),
        "size": listing.number(volume.c.size), "glance_metadata": _image, "volume_type": _type,
        "snapshot_id": listing.text(volume.c.snapshot_id), "source_volid": listing.text(volume.c.source_id),
        "id": listing.text(volume.c.id), "user_id": listing.text(volume.c.user_id),
        "description": listing.text(volume.c.description), "multiattach": listing.truth(volume.c.multiattach),
        "consumes_quota": listing.consuming,
        "created_at": listing.time(volume.c.created), "updated_at": listing.time(volume.c.updated),
    },
    alike={
        "name": volume.c.name, "display_name": volume.c.name, "status": volume.c.status,
        "description": volume.c.description, "availability_zone": volume.c.zone,
        "migration_status": volume.c.migration_status,
    },
    came={
        "glance_metadata": (3, 4), "group_id": (3, 10), "created_at": (3, 60), "updated_at": (3, 60),
        "consumes_quota": (3, 65),
    },
)


def index(call: Call) -> dict[str, Any]:
    """GET /volumes: 200, ids and names."""
    found = listing.pages(call, KIND, "/v3/volumes")
    shown = [{"id": row.id, "name": row.name, "links": views.links(call, "volumes", row.id)} for row in found.rows]
    return {"volumes": shown, **found.beside}


def detail(call: Call) -> dict[str, Any]:
    """GET /volumes/detail: 200, whole volumes."""
    found = listing.pages(call, KIND, "/v3/volumes/detail")
    return {"volumes": views.volumes_of(call, found.rows), **found.beside}


def summary(call: Call) -> dict[str, Any]:
    """GET /volumes/summary: 200, how many volumes and how much; from 3.36 on also their metadata's values."""
    clauses = listing.clauses(call, KIND)
    total = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(volume.c.size), 0)).where(*clauses)
    sums: Any = call.tx.first(total)
    found: dict[str, Any] = {"total_count": int(sums[0]), "total_size": int(sums[1])}
    if (call.version or (3, 0)) >= (3, 36):
        values: dict[str, dict[str, None]] = {}
        for metadata in call.tx.scalars(sa.select(volume.c.metadata).where(*clauses)):
            for key, value in metadata.items():
                values.setdefault(key, {})[value] = None
        found["metadata"] = {key: list(texts) for key, texts in values.items()}
    return {"volume-summary": found}
