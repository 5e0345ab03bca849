"""Volumes given out to hosts that are no nodes of this cloud: their node is told, and waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.node.contract import VolumeExport
from pileus.volume import attachments, orders
from pileus.volume.tables import attachment, volume
from pileus.web.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.web.call import Call

_PATIENCE = 60.0
_LOOK = 0.05
_WITH_EXPORT = (
    sa.select(attachment, volume.c.export).join(volume, volume.c.id == attachment.c.volume_id)
    .where(attachment.c.id == sa.bindparam("i"))
)


def host_of(connector: dict[str, Any]) -> str:
    """The host that a connector names. Raises BadRequest."""
    host = connector.get("host")
    if not isinstance(host, str) or not 0 < len(host) <= 255:
        raise BadRequest("Invalid input received: a connector names its 'host'.")
    return host


def give_out(call: Call, of: Any, attachment_id: str, host: str) -> None:
    """Have a volume given out to a host. Raises Conflict when its node is down: nobody would wait for that."""
    orders.check_up(call.tx, call.cloud, of)
    attachments.connect(call.tx, call.cloud, attachment_id, host, call.request_id)


def described(tx: Tx, attachment_id: str) -> dict[str, Any] | None:
    """How the host of an attachment reaches its volume; None until it is given out. The secret is in it."""
    found = tx.first(_WITH_EXPORT, {"i": attachment_id})
    if found is None or not found.connected or not found.export:
        return None
    return info_of(msgspec.convert(found.export, VolumeExport), found)


def info_of(export: VolumeExport, row: Any) -> dict[str, Any]:
    """An NBD connection as `connection_info`: TLS with a pre-shared key, which is in no catalog of Cinder's drivers."""
    return {
        "driver_volume_type": "nbd",
        "data": {
            "host": export.host, "port": export.port, "export": export.name, "tls": "psk", "tls_username": "pileus",
            "tls_psk": export.secret, "access_mode": row.mode, "encrypted": False, "volume_id": row.volume_id,
            "attachment_id": row.id,
        },
    }


async def wait(call: Call, attachment_id: str) -> dict[str, Any]:
    """How the host reaches the volume, once its node gives it out. Raises Conflict with the node's reason."""
    until = call.cloud.world.monotonic() + _PATIENCE
    while call.cloud.world.monotonic() < until:
        row, info = await call.db.run(
            lambda tx: (attachments.row(tx, attachment_id), described(tx, attachment_id)), write=False
        )
        if row is None:
            raise attachments.missing(attachment_id)
        if info is not None:
            return info
        if row.error:
            raise Conflict(f"Volume {row.volume_id} cannot be given out: {row.error}")
        await asyncio.sleep(_LOOK)
    raise Conflict(
        f"The node that keeps the volume has not given it out within {_PATIENCE:.0f} s; ask for attachment "
        f"{attachment_id} again, or delete it."
    )
