"""What the database says of servers' volumes: compute's block devices, the volume room's attachments and volumes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import tables as compute
from pileus.doctor import database
from pileus.doctor.findings import Finding
from pileus.volume import states
from pileus.volume import tables as volume

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_CHECK = "volumes"
_SETTLED = ("local", "attached")
_BUSY = (
    states.CREATING, states.DELETING, states.EXTENDING, states.UPLOADING, states.REVERTING, states.ATTACHING,
    states.DETACHING, states.RETYPING, "backing-up", "restoring-backup", "downloading",
)


def unsettled(tx: Tx) -> Iterator[Finding]:
    """Volumes to which something is being done, and disks that servers are getting or losing."""
    for row in tx.all(sa.select(volume.volume).where(volume.volume.c.status.in_(_BUSY))):
        yield Finding("unsettled", f"volume {row.id}", f"is {row.status}")
    moving = volume.snapshot.c.status.in_((states.CREATING, states.DELETING))
    for row in tx.all(sa.select(volume.snapshot).where(moving)):
        yield Finding("unsettled", f"snapshot {row.id}", f"is {row.status}")
    alive = {row.id: row for row in database.servers(tx)}
    for row in tx.all(sa.select(compute.block_device).where(compute.block_device.c.state.not_in(_SETTLED))):
        if row.server_id in alive and alive[row.server_id].vm_state != "error":
            yield Finding("unsettled", f"volume {row.volume_id}", f"is {row.state} at server {row.server_id}")


def agree(tx: Tx) -> Iterator[Finding]:
    """Servers, their disks, the attachments and the volumes say the same of each other."""
    servers = {row.id: row for row in database.servers(tx)}
    disks = list(tx.all(sa.select(compute.block_device)))
    attachments = {row.id: row for row in tx.all(sa.select(volume.attachment))}
    volumes = {row.id: row for row in tx.all(sa.select(volume.volume))}
    yield from _disks(servers, disks, attachments, volumes)
    yield from _attachments({disk.attachment_id for disk in disks}, attachments, volumes)
    yield from _volumes(attachments, volumes)
    yield from _roots(servers, disks)
    for row in tx.all(sa.select(volume.snapshot)):
        if row.volume_id not in volumes:
            yield Finding(_CHECK, f"snapshot {row.id}", f"is of volume {row.volume_id}, which is not there")


def _disks(
    servers: dict[str, Any], disks: list[Any], attachments: dict[str, Any], volumes: dict[str, Any]
) -> Iterator[Finding]:
    for disk in disks:
        thing = f"disk {disk.device} of server {disk.server_id}"
        if disk.server_id not in servers:
            yield Finding(_CHECK, thing, "is kept, and there is no such server")
        if disk.volume_id is None:
            continue
        if disk.volume_id not in volumes:
            yield Finding(_CHECK, thing, f"is volume {disk.volume_id}, which is not there")
        attachment = attachments.get(disk.attachment_id)
        if attachment is None:
            yield Finding(_CHECK, thing, f"has attachment {disk.attachment_id}, which is not there")
        elif (attachment.volume_id, attachment.server_id) != (disk.volume_id, disk.server_id):
            yield Finding(_CHECK, thing, f"has attachment {attachment.id}, which is of volume {attachment.volume_id} "
                          f"and server {attachment.server_id}")
        elif disk.state in _SETTLED and attachment.status != "attached":
            yield Finding(_CHECK, thing, f"is {disk.state}, and its attachment is {attachment.status}")
        elif disk.state in _SETTLED and _unreachable(servers.get(disk.server_id), attachment, volumes):
            yield Finding(_CHECK, thing, f"is not given out to node {servers[disk.server_id].host}")


def _unreachable(server: Any | None, attachment: Any, volumes: dict[str, Any]) -> bool:
    """Whether a server is on a node that cannot reach its volume."""
    if server is None or server.host is None or server.task_state is not None or server.vm_state == "error":
        return False
    of = volumes.get(attachment.volume_id)
    return of is not None and (of.export is None or not attachment.connected or attachment.host != server.host)


def _attachments(known: set[str], attachments: dict[str, Any], volumes: dict[str, Any]) -> Iterator[Finding]:
    for row in attachments.values():
        if row.volume_id not in volumes:
            yield Finding(_CHECK, f"attachment {row.id}", f"is of volume {row.volume_id}, which is not there")
        # One that was made over the attachments API is of nobody here.
        if row.server_id is not None and row.connector is None and row.id not in known:
            yield Finding(_CHECK, f"attachment {row.id}", f"is of server {row.server_id}, which does not have it")


def _volumes(attachments: dict[str, Any], volumes: dict[str, Any]) -> Iterator[Finding]:
    held: dict[str, list[Any]] = {}
    for row in attachments.values():
        held.setdefault(row.volume_id, []).append(row)
    for row in volumes.values():
        mine = held.get(row.id, [])
        shall = states.of_attachments(one.status for one in mine)
        if row.status in states.BY_ATTACHMENTS and row.status != shall:
            yield Finding(_CHECK, f"volume {row.id}", f"is {row.status}, and by its attachments it is {shall}")
        if row.status in states.BY_ATTACHMENTS and row.export_key and not mine:
            yield Finding(_CHECK, f"volume {row.id}", "is given out, and nobody has it")


def _roots(servers: dict[str, Any], disks: list[Any]) -> Iterator[Finding]:
    roots = {disk.server_id for disk in disks if disk.boot_index == 0 and disk.volume_id is not None}
    for row in servers.values():
        on_volume = bool(row.image and row.image.get("volume"))
        if on_volume and row.host is not None and row.id not in roots:
            yield Finding(_CHECK, f"server {row.id}", "boots from a volume, and has none to boot from")
        if row.id in roots and not on_volume:
            yield Finding(_CHECK, f"server {row.id}", "boots from an image, and has a volume to boot from")
