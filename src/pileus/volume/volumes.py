"""Volumes: what other modules and rooms ask of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.volume import backends, orders, states
from pileus.volume.tables import attachment, snapshot, volume
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.compute.actors import Actor
    from pileus.db.engine import Tx
    from pileus.web.call import Call

_LOG = logging.getLogger("pileus.volume")


class AttachmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a volume is attached. `server_id` is None for one that no server of this cloud has."""

    id: str
    volume_id: str
    server_id: str | None
    status: str  # reserved, attaching, attached, detaching, error_attaching
    mode: str  # rw, ro
    host: str | None  # node of the guest
    device: str | None


class VolumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A volume with its attachments."""

    id: str
    project_id: str
    user_id: str
    status: str
    size_gib: int
    name: str | None
    description: str | None
    bootable: bool
    multiattach: bool
    encrypted: bool
    encryption_key_id: str | None
    volume_type_id: str | None
    node: str | None  # that keeps it
    host: str | None  # the same as Cinder names it: node@file#file
    zone: str | None
    metadata: dict[str, str]
    image_metadata: dict[str, str]
    snapshot_id: str | None
    source_volume_id: str | None
    image_id: str | None
    read_only: bool
    error: str  # why the last thing done to it failed
    attachments: tuple[AttachmentInfo, ...] = ()


_BY_ID = sa.select(volume).where(volume.c.id == sa.bindparam("i"))
_HELD = _BY_ID.with_for_update()
_ATTACHMENTS = (
    sa.select(attachment).where(attachment.c.volume_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(attachment.c.seq)
)


# -- for other rooms


def info(tx: Tx, volume_id: str) -> VolumeInfo | None:
    """One volume, whoever owns it; None when there is none."""
    found = row(tx, volume_id)
    return None if found is None else describe(tx, [found])[0]


def infos(tx: Tx, volume_ids: Iterable[str]) -> dict[str, VolumeInfo]:
    """Many, by id, in two statements; those that are not there are left out."""
    wanted = sa.select(volume).where(volume.c.id.in_(list(volume_ids)))
    return {one.id: one for one in describe(tx, tx.all(wanted))}


def get_visible(tx: Tx, context: Context, volume_id: str) -> VolumeInfo:
    """One volume that exists for the caller. Raises NotFound."""
    found = row(tx, volume_id)
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(volume_id)
    return describe(tx, [found])[0]


def make(
    by: Actor, *, name: str | None, size_gib: int, image_id: str | None = None, snapshot_id: str | None = None,
    source_volume_id: str | None = None, volume_type: str | None = None, zone: str | None = None,
    metadata: Mapping[str, str] | None = None, description: str | None = None,
) -> VolumeInfo:
    """A new volume of the caller's project, whose node has been told to make it when this transaction commits.

    Raises what a user shall see: OverLimit, BadRequest, NotFound, placing.NoPlace."""
    from pileus.volume import create

    wish = create.Wish(
        name=name, description=description, size=size_gib, image_id=image_id, snapshot_id=snapshot_id,
        source_id=source_volume_id, volume_type=volume_type, zone=zone, metadata=dict(metadata or {}),
    )
    made = info(by.tx, create.make(by, wish))
    assert made is not None
    return made


def drop(tx: Tx, cloud: Cloud, volume_id: str, request_id: str) -> None:
    """Delete a volume that a server takes with it: now, or as soon as it is detached. An unknown one is fine.

    One that has snapshots stays: they are their owner's, and stand on it."""
    found = held(tx, volume_id)
    if found is None or found.status == states.DELETING:
        return
    if tx.first(sa.select(attachment.c.id).where(attachment.c.volume_id == volume_id)) is not None:
        change(tx, cloud, volume_id, drop_wanted=True)
        return
    if tx.first(sa.select(snapshot.c.id).where(snapshot.c.volume_id == volume_id)) is not None:
        _LOG.warning("volume %s was to be deleted with its server, but has snapshots: it stays", volume_id)
        change(tx, cloud, volume_id, drop_wanted=False)
        return
    begin_delete(tx, cloud, found, request_id)


# -- for this room


def missing(volume_id: str) -> NotFound:
    """What is said of a volume that does not exist for the caller."""
    return NotFound(f"Volume {volume_id} could not be found.")


def row(tx: Tx, volume_id: str) -> sa.Row[Any] | None:
    """A volume's row, whoever owns it."""
    return tx.first(_BY_ID, {"i": volume_id})


def held(tx: Tx, volume_id: str) -> sa.Row[Any] | None:
    """The same, which nobody else changes until this transaction ends."""
    return tx.first(_HELD, {"i": volume_id})


def visible(call: Call, volume_id: str, rule: str, *, hold: bool = False) -> sa.Row[Any]:
    """The row of a volume that exists for the caller, who passes the rule. Raises NotFound, Forbidden."""
    found = (held if hold else row)(call.tx, volume_id)
    context = call.context
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(volume_id)
    call.enforce(rule, project_id=found.project_id, user_id=found.user_id)
    return found


def change(tx: Tx, cloud: Cloud, volume_id: str, **values: Any) -> None:
    """Write columns of a volume; a new status counts from now."""
    now = cloud.world.now()
    if "status" in values:
        values.setdefault("changed", now)
    tx.execute(volume.update().where(volume.c.id == volume_id).values(updated=now, **values))


def settle(tx: Tx, cloud: Cloud, volume_id: str, *, force: bool = False, **values: Any) -> str:
    """Give a volume the status that its attachments make, unless something else is done to it; the status.

    `force`: whatever was done to it is over."""
    found = held(tx, volume_id)
    if found is None:
        return ""
    status: str = found.status
    if force or status in states.BY_ATTACHMENTS:
        status = states.of_attachments(
            tx.scalars(sa.select(attachment.c.status).where(attachment.c.volume_id == volume_id))
        )
    if status != found.status or values:
        change(tx, cloud, volume_id, **({"status": status} if status != found.status else {}), **values)
    return status


def begin_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Have a volume's node delete it, when it is back if it is down, and when nothing is copied from it any more.

    A volume that is on no node is gone at once."""
    if not found.node:
        return remove(tx, cloud, found.id)
    change(tx, cloud, found.id, status=states.DELETING, drop_wanted=False, export=None, export_key="")
    if not is_copied(tx, found.id):
        send_delete(tx, cloud, found, request_id)


def send_delete(tx: Tx, cloud: Cloud, found: Any, request_id: str) -> None:
    """Tell a volume's node to delete it."""
    orders.send(tx, cloud, found.node, "delete", found.id, request_id=request_id, timeout=orders.UNTIL_BACK)


def is_copied(tx: Tx, volume_id: str) -> bool:
    """Whether a volume is being made from this one, or from a snapshot of it."""
    of_it = sa.select(snapshot.c.id).where(snapshot.c.volume_id == volume_id)
    copies = sa.select(volume.c.id).where(
        volume.c.status == states.CREATING,
        sa.or_(volume.c.source_id == volume_id, volume.c.snapshot_id.in_(of_it)),
    )
    return tx.first(copies) is not None


def remove(tx: Tx, cloud: Cloud, volume_id: str) -> None:
    """A volume is no more."""
    tx.execute(attachment.delete().where(attachment.c.volume_id == volume_id))
    tx.execute(snapshot.delete().where(snapshot.c.volume_id == volume_id))
    tx.execute(volume.delete().where(volume.c.id == volume_id))


def attachments_of(tx: Tx, volume_ids: Iterable[str]) -> dict[str, list[Any]]:
    """Attachments' rows by volume, the oldest first."""
    found: dict[str, list[Any]] = {}
    ids = list(volume_ids)
    for one in tx.all(_ATTACHMENTS, {"ids": ids}) if ids else ():
        found.setdefault(one.volume_id, []).append(one)
    return found


def attachment_info(row: Any) -> AttachmentInfo:
    """An attachment's row as a struct."""
    return AttachmentInfo(
        id=row.id, volume_id=row.volume_id, server_id=row.server_id, status=row.status, mode=row.mode, host=row.host,
        device=row.device,
    )


def describe(tx: Tx, rows: Iterable[Any]) -> list[VolumeInfo]:
    """Rows as structs, with their attachments."""
    rows = list(rows)
    attached = attachments_of(tx, [one.id for one in rows])
    return [
        VolumeInfo(
            id=one.id, project_id=one.project_id, user_id=one.user_id, status=one.status, size_gib=one.size,
            name=one.name, description=one.description, bootable=one.bootable, multiattach=one.multiattach,
            encrypted=one.encrypted, encryption_key_id=one.encryption_key_id, volume_type_id=one.type_id,
            node=one.node, host=backends.host(one.node, one.backend), zone=one.zone, metadata=one.metadata,
            image_metadata=one.image_metadata or {}, snapshot_id=one.snapshot_id, source_volume_id=one.source_id,
            image_id=one.image_id, read_only=bool(one.read_only), error=one.error or "",
            attachments=tuple(attachment_info(a) for a in attached.get(one.id, ())),
        )
        for one in rows
    ]
