"""Attachments: which servers have which volumes, and how their nodes reach them.

The way there is `reserve`, `connect` (its node is told to give the volume out), `complete`; the way back is
`begin_detach`, `release`. Compute walks it for its servers, the attachments API for others."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.node.contract import VolumeExport
from pileus.volume import orders, states, volumes
from pileus.volume.tables import attachment, volume
from pileus.volume.volumes import AttachmentInfo
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.compute.actors import Actor
    from pileus.db.engine import Tx

_SECRET_BYTES = 32


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment as the guest's node needs it. `export` is None until the volume is given out."""

    attachment_id: str
    volume_id: str
    server_id: str
    size_gib: int
    status: str
    device: str | None
    read_only: bool
    multiattach: bool
    encrypted: bool
    encryption_key_id: str | None
    export: VolumeExport | None


_BY_ID = sa.select(attachment).where(attachment.c.id == sa.bindparam("i"))
_OF_VOLUME = sa.select(attachment).where(attachment.c.volume_id == sa.bindparam("v")).order_by(attachment.c.seq)


# -- for other rooms


def info(tx: Tx, attachment_id: str) -> AttachmentInfo | None:
    """One attachment; None when there is none."""
    found = row(tx, attachment_id)
    return None if found is None else volumes.attachment_info(found)


def of_volume(tx: Tx, volume_id: str) -> list[AttachmentInfo]:
    """The attachments of a volume, the oldest first."""
    return [volumes.attachment_info(one) for one in tx.all(_OF_VOLUME, {"v": volume_id})]


def reserve(
    by: Actor, volume_id: str, server_id: str | None, *, mode: str = "rw", fresh: bool = False,
    connector: dict[str, Any] | None = None,
) -> str:
    """Take a volume for a server; the attachment's id. `fresh`: the caller has just made it for this server.

    Raises NotFound, and BadRequest when the volume cannot be taken."""
    found = volumes.held(by.tx, volume_id)
    if found is None or not (by.context.is_admin or found.project_id == by.context.project_id):
        raise volumes.missing(volume_id)
    _check_free(by.tx, found, server_id, fresh)
    attachment_id = by.cloud.world.uuid()
    by.tx.execute(attachment.insert().values(
        id=attachment_id, volume_id=volume_id, project_id=found.project_id, server_id=server_id, status="reserved",
        mode="ro" if found.read_only else mode, connector=connector, connected=False, created=by.now, changed=by.now,
    ))
    volumes.settle(by.tx, by.cloud, volume_id)
    return attachment_id


def connect(
    tx: Tx, cloud: Cloud, attachment_id: str, node: str, request_id: str, *, anew: bool = False
) -> None:
    """Have the volume given out to a node; `block_devices.connected` is told when it is, or why not.

    `anew`: with a new key, which ends all connections made with the old one (the guest is brought back elsewhere)."""
    found = _need(tx, attachment_id)
    of = volumes.held(tx, found.volume_id)
    if of is None or not of.node:
        raise Conflict(f"Volume {found.volume_id} is on no node: it was never made.")
    fresh = anew or not of.export_key
    key = secrets.token_hex(_SECRET_BYTES) if fresh else of.export_key
    task_id = orders.send(
        tx, cloud, of.node, "export", of.id, request_id=request_id, secret=key, read_only=_read_only(tx, of),
    )
    if fresh:
        volumes.change(tx, cloud, of.id, export_key=key, export=None)
    status = found.status if found.status == "attached" else "attaching"
    change(tx, cloud, attachment_id, host=node, waits_for=task_id, connected=False, status=status, error=None)
    volumes.settle(tx, cloud, of.id)


def complete(tx: Tx, cloud: Cloud, attachment_id: str, device: str | None) -> None:
    """The server has the volume, as `device` (/dev/vdb)."""
    found = _need(tx, attachment_id)
    change(tx, cloud, attachment_id, status="attached", device=device, attached=cloud.world.now())
    volumes.settle(tx, cloud, found.volume_id)


def moved(tx: Tx, server_id: str, node: str) -> None:
    """The server is on another node now; how its volumes are reached is as before."""
    tx.execute(attachment.update().where(attachment.c.server_id == server_id).values(host=node))


def begin_detach(tx: Tx, cloud: Cloud, attachment_id: str) -> None:
    """The volume is about to be taken from its server."""
    _turn(tx, cloud, attachment_id, "attached", "detaching")


def roll_back_detach(tx: Tx, cloud: Cloud, attachment_id: str) -> None:
    """It could not be taken: the server has it as before."""
    _turn(tx, cloud, attachment_id, "detaching", "attached")


def release(tx: Tx, cloud: Cloud, attachment_id: str, request_id: str) -> None:
    """The server has the volume no more; its node stops to give it out after the last one. An unknown one is fine."""
    found = row(tx, attachment_id)
    if found is None:
        return
    of = volumes.held(tx, found.volume_id)
    tx.execute(attachment.delete().where(attachment.c.id == attachment_id))
    if of is None:
        return
    left = list(tx.all(_OF_VOLUME, {"v": of.id}))
    if of.export_key and not any(one.connected or one.waits_for for one in left):
        unexport(tx, cloud, of, request_id)
    volumes.settle(tx, cloud, of.id)
    if not left and of.drop_wanted:
        volumes.drop(tx, cloud, of.id, request_id)


def connections(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[Connection]]:
    """How the servers' nodes reach their volumes, by server, in the order in which they were attached."""
    ids = list(server_ids)
    found: dict[str, list[Connection]] = {}
    if not ids:
        return found
    wanted = (
        sa.select(
            attachment, volume.c.size, volume.c.multiattach, volume.c.encrypted, volume.c.encryption_key_id,
            volume.c.export,
        )
        .join(volume, volume.c.id == attachment.c.volume_id)
        .where(attachment.c.server_id.in_(ids)).order_by(attachment.c.seq)
    )
    for one in tx.all(wanted):
        export = msgspec.convert(one.export, VolumeExport) if one.export and one.connected else None
        found.setdefault(one.server_id, []).append(Connection(
            attachment_id=one.id, volume_id=one.volume_id, server_id=one.server_id, size_gib=one.size,
            status=one.status, device=one.device, read_only=one.mode == "ro", multiattach=one.multiattach,
            encrypted=one.encrypted, encryption_key_id=one.encryption_key_id, export=export,
        ))
    return found


# -- for this room


def row(tx: Tx, attachment_id: str) -> sa.Row[Any] | None:
    """An attachment's row."""
    return tx.first(_BY_ID, {"i": attachment_id})


def missing(attachment_id: str) -> NotFound:
    """What is said of an attachment that does not exist for the caller."""
    return NotFound(f"Volume attachment could not be found with filter: attachment_id = {attachment_id}.")


def get_visible(tx: Tx, context: Context, attachment_id: str) -> sa.Row[Any]:
    """The row of an attachment that exists for the caller. Raises NotFound."""
    found = row(tx, attachment_id)
    if found is None or not (context.is_admin or found.project_id == context.project_id):
        raise missing(attachment_id)
    return found


def change(tx: Tx, cloud: Cloud, attachment_id: str, **values: Any) -> None:
    """Write columns of an attachment."""
    if "status" in values:
        values["changed"] = cloud.world.now()
    tx.execute(attachment.update().where(attachment.c.id == attachment_id).values(**values))


def unexport(tx: Tx, cloud: Cloud, of: Any, request_id: str) -> None:
    """Have a volume's node stop to give it out, when it is back if it is down.

    What it told of the export is kept until it has, so that the reconciler knows of one that could not."""
    volumes.change(tx, cloud, of.id, export_key="")
    orders.send(tx, cloud, of.node, "unexport", of.id, request_id=request_id, timeout=orders.UNTIL_BACK)


def exported(tx: Tx, cloud: Cloud, volume_id: str, task_id: str, export: VolumeExport | None, error: str) -> None:
    """A volume's node gives it out, or cannot: whoever waits for that is told."""
    waiting = tx.all(sa.select(attachment).where(
        attachment.c.volume_id == volume_id, attachment.c.waits_for == task_id
    ))
    if export is not None:
        of = volumes.held(tx, volume_id)
        if of is not None and of.export_key in (export.secret, ""):  # "": it is being withdrawn already
            volumes.change(tx, cloud, volume_id, export=msgspec.to_builtins(export))
    for one in waiting:
        change(tx, cloud, one.id, waits_for=None, connected=not error, error=error or None)
        if one.server_id is not None:
            _tell_compute(tx, cloud, one.id, error)


def _tell_compute(tx: Tx, cloud: Cloud, attachment_id: str, error: str) -> None:
    from pileus.compute import block_devices

    block_devices.connected(tx, cloud, attachment_id, error)


def _need(tx: Tx, attachment_id: str) -> sa.Row[Any]:
    found = row(tx, attachment_id)
    if found is None:
        raise missing(attachment_id)
    return found


def _turn(tx: Tx, cloud: Cloud, attachment_id: str, before: str, after: str) -> None:
    found = _need(tx, attachment_id)
    if found.status == before:
        change(tx, cloud, attachment_id, status=after)
        volumes.settle(tx, cloud, found.volume_id)


def _read_only(tx: Tx, of: Any) -> bool:
    """Whether a volume is given out for reading alone: when nobody may write it."""
    modes = tx.scalars(sa.select(attachment.c.mode).where(attachment.c.volume_id == of.id))
    return bool(of.read_only) or all(mode == "ro" for mode in modes)


def _check_free(tx: Tx, found: Any, server_id: str | None, fresh: bool) -> None:
    if fresh and found.status in (states.CREATING, states.AVAILABLE):
        return
    there = tx.all(_OF_VOLUME, {"v": found.id})
    if found.multiattach and found.status in (states.RESERVED, states.ATTACHING, states.IN_USE, states.DETACHING):
        if server_id is not None and any(one.server_id == server_id for one in there):
            raise BadRequest(f"Invalid volume: Volume {found.id} is already attached to instance {server_id}.")
        return
    states.require(found, {states.AVAILABLE}, "reserve it")
