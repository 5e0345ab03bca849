"""How a node is asked to do something about a volume: a durable task in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.node.contract import VolumeTask
from pileus.volume import backends
from pileus.web.errors import Conflict
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

UNTIL_BACK = 90 * 86400.0
"""How long what frees space on a node waits for it when it is down, in seconds."""

_PER_GIB = 60.0
"""Seconds that copying a GiB may take, on a slow disk or over a busy network."""


def resource(volume_id: str) -> str:
    """The name under which a volume's tasks are kept in order."""
    return f"volume:{volume_id}"


def send(
    tx: Tx, cloud: Cloud, node: str, kind: str, volume_id: str, *, request_id: str, timeout: float | None = None,
    **arguments: Any,
) -> str:
    """Ask `node` for `kind`, a method of its storage; `arguments` are fields of VolumeTask. The task's id.

    `timeout`: seconds from now after which it has failed (default `build_timeout`)."""
    return tasks.enqueue(
        tx, cloud, f"volume.{kind}", node=node, resource=resource(volume_id), request_id=request_id, timeout=timeout,
        arguments=VolumeTask(volume_id=volume_id, **arguments),
    )


def patience(cloud: Cloud, gib: int) -> float:
    """Seconds that copying so much may take."""
    return cloud.settings.build_timeout + _PER_GIB * gib


def check_up(tx: Tx, cloud: Cloud, volume: Any) -> str:
    """The volume's node. Raises Conflict when it has none, or one that is down: nothing could be done to it now."""
    if not volume.node:
        raise Conflict(f"Volume {volume.id} is on no node: it was never made. Delete it and make another.")
    found = backends.by_node(tx, volume.node)
    if found is None or not backends.is_up(found, cloud.world.now()):
        raise Conflict(
            f"Service is unavailable at this time: node {volume.node}, which keeps volume {volume.id}, is down. "
            "Try again when it is back."
        )
    return str(volume.node)
