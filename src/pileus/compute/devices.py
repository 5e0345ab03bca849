"""The block devices of servers: their rows, their names in the guest, and how a node is told of them.

What is done with them is in `block_devices`; which a new server gets, in `boot_devices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute.schemas import FlavorFacts
from pileus.compute.tables import block_device, server
from pileus.node.contract import VolumeExport, VolumeSpec
from pileus.volume import attachments

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

LOCAL = "local"
"""A disk of the node's own."""

MAKING = "making"
"""The server waits until the volume is made."""

GIVING = "giving"
"""The server waits until the volume is given out to its node."""

PLUGGING = "plugging"
"""A server that is there gets the volume, as soon as it is given out."""

ATTACHING = "attaching"
"""The node has been told."""

ATTACHED = "attached"
DETACHING = "detaching"

_IN_GUEST = (GIVING, ATTACHING, ATTACHED)
"""What a guest that is started now has."""

SWAP = "swap"

_OF_SERVERS = (
    sa.select(block_device).where(block_device.c.server_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(block_device.c.seq)
)
ANY = sa.exists().where(block_device.c.server_id == server.c.id)
"""Whether the server of a query has block devices."""
_OF_SERVER = (
    sa.select(block_device).where(block_device.c.server_id == sa.bindparam("i")).order_by(block_device.c.seq)
)
_OF_VOLUME = (
    sa.select(block_device).where(block_device.c.volume_id == sa.bindparam("v")).order_by(block_device.c.seq)
)
_BY_ATTACHMENT = sa.select(block_device).where(block_device.c.attachment_id == sa.bindparam("a"))
_IN_TRANSIT = (
    sa.select(block_device)
    .where(
        block_device.c.state.in_((PLUGGING, ATTACHING, DETACHING)), block_device.c.updated < sa.bindparam("before"),
    )
    .order_by(block_device.c.seq).limit(200)
)
_BY_VOLUME = sa.select(block_device).where(
    block_device.c.server_id == sa.bindparam("i"), block_device.c.volume_id == sa.bindparam("v")
)


def of_server(tx: Tx, server_id: str) -> Sequence[Any]:
    """The rows of one server, in the order in which its guest shall find them."""
    return tx.all(_OF_SERVER, {"i": server_id})


def of_servers(tx: Tx, ids: Iterable[str]) -> dict[str, list[Any]]:
    """The rows of many servers, by server."""
    found: dict[str, list[Any]] = {}
    if wanted := list(ids):
        for row in tx.all(_OF_SERVERS, {"ids": wanted}):
            found.setdefault(row.server_id, []).append(row)
    return found


def of_volume(tx: Tx, volume_id: str) -> Sequence[Any]:
    """The rows of one volume: of several servers if it may be attached so."""
    return tx.all(_OF_VOLUME, {"v": volume_id})


def by_attachment(tx: Tx, attachment_id: str) -> Any | None:
    """The row of an attachment; None for one that has nothing to do with a server."""
    return tx.first(_BY_ATTACHMENT, {"a": attachment_id})


def find(tx: Tx, server_id: str, volume_id: str) -> Any | None:
    """The row of a volume of a server; None when it is not attached to that."""
    return tx.first(_BY_VOLUME, {"i": server_id, "v": volume_id})


def in_transit(tx: Tx, before: float) -> Sequence[Any]:
    """The rows of volumes that servers which are there are getting or losing, since `before`."""
    return tx.all(_IN_TRANSIT, {"before": before})


def add(tx: Tx, cloud: Cloud, **values: Any) -> None:
    """A new row. Its state, source, destination, server and device are needed."""
    now = cloud.world.now()
    tx.execute(block_device.insert(), {
        "id": cloud.world.uuid(), "source_id": None, "volume_id": None, "attachment_id": None, "own": False,
        "boot_index": None, "delete_on_termination": False, "tag": None, "size": 0, "guest_format": None,
        "request_id": "", "created": now, "updated": now, **values,
    })


def change(tx: Tx, cloud: Cloud, device: Any, **values: Any) -> None:
    """Write columns of a row."""
    tx.execute(
        block_device.update().where(block_device.c.id == device.id), {"updated": cloud.world.now(), **values}
    )


def remove(tx: Tx, device: Any) -> None:
    """The server does not have it any more."""
    tx.execute(block_device.delete().where(block_device.c.id == device.id))


# -- names


def letters(number: int) -> str:
    """The end of a disk's name: a, b, … z, aa, ab, …"""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def free_name(taken: Iterable[str], first: int = 0) -> str:
    """The first name of a disk that is not taken, beginning with number `first`. Guests may call it otherwise."""
    names, number = set(taken), first
    while (name := f"/dev/vd{letters(number)}") in names:
        number += 1
    return name


def local_names(flavor: FlavorFacts, devices: Sequence[Any], root_is_local: bool) -> dict[str, str]:
    """The names of the disks that are the node's own: `root`, `ephemeral0`, `swap`."""
    ephemeral, swap = local_sizes(flavor, devices)
    kinds = [*(["root"] if root_is_local else []), *(["ephemeral0"] if ephemeral else []), *([SWAP] if swap else [])]
    first = 0 if root_is_local else 1  # /dev/vda is the volume that the guest boots from
    return {kind: f"/dev/vd{letters(first + at)}" for at, kind in enumerate(kinds)}


def next_name(flavor: FlavorFacts, devices: Sequence[Any], root_is_local: bool) -> str:
    """The name of a disk that a server gets now."""
    taken = [*local_names(flavor, devices, root_is_local).values(), *(device.device for device in devices)]
    return free_name(taken)


# -- for the node


def local_sizes(flavor: FlavorFacts, devices: Sequence[Any]) -> tuple[int, int]:
    """Ephemeral disk in GiB and swap in MiB: as the server's maker said, else as its flavor does."""
    ephemeral, swap = flavor.ephemeral, flavor.swap
    for device in devices:
        if device.state == LOCAL and device.source_type == "blank":
            if device.guest_format == SWAP:
                swap = device.size
            else:
                ephemeral = device.size
    return ephemeral, swap


def specs(tx: Tx, server_id: str, devices: Sequence[Any]) -> tuple[VolumeSpec, ...]:
    """The volumes of a server as its node has to have them."""
    wanted = [device for device in devices if device.attachment_id and device.state in _IN_GUEST]
    if not wanted:
        return ()
    given = {one.attachment_id: one for one in attachments.connections(tx, [server_id]).get(server_id, [])}
    found = []
    for device in wanted:
        one = given.get(device.attachment_id)
        if one is not None and one.export is not None:
            found.append(_spec(device, one.export, one.read_only))
    return tuple(found)


def _spec(device: Any, export: VolumeExport, read_only: bool) -> VolumeSpec:
    return VolumeSpec(
        attachment_id=device.attachment_id, volume_id=device.volume_id, device=device.device.removeprefix("/dev/"),
        connection={
            "driver": "nbd", "server": {"type": "inet", "host": export.host, "port": str(export.port)},
            "export": export.name,
        },
        secret=export.secret, serial=device.volume_id, boot_index=device.boot_index,
        delete_on_termination=device.delete_on_termination, read_only=read_only, tag=device.tag,
    )
