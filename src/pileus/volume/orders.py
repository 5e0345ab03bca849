"""How a node is asked to do something about a volume: a durable task in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster.liveness import moment
from pileus.node.contract import VolumeTask
from pileus.volume import backends
from pileus.volume.tables import volume
from pileus.web.errors import Conflict
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

UNTIL_BACK = 90 * 86400.0
"""How long what frees space on a node waits for it when it is down, in seconds."""

_FAKE = "fake:"
_METADATA = sa.select(volume.c.metadata).where(volume.c.id == sa.bindparam("i"))
"""By what a volume's metadata says, the fake storage is slow or fails; no other hears of it."""

_PER_GIB = 60.0
"""Seconds that copying a GiB may take, on a slow disk or over a busy network."""


def resource(volume_id: str) -> str:
    """The name under which a volume's tasks are kept in order."""
    return f"volume:{volume_id}"


def send(
    tx: Tx, cloud: Cloud, node: str, kind: str, volume_id: str, *, request_id: str, timeout: float | None = None,
    among: str = "", **arguments: Any,
) -> str:
    """Ask `node` for `kind`, a method of its storage; `arguments` are fields of VolumeTask. The task's id.

    `timeout`: seconds from now after which it has failed (default `build_timeout`). `among`: the resource with whose
    tasks it is kept in order, where that is not the volume."""
    said = tx.scalar(_METADATA, {"i": volume_id}) or {}
    arguments.setdefault("metadata", {name: text for name, text in said.items() if name.startswith(_FAKE)})
    return tasks.enqueue(
        tx, cloud, f"volume.{kind}", node=node, resource=among or resource(volume_id), request_id=request_id,
        timeout=timeout, arguments=VolumeTask(volume_id=volume_id, **arguments),
    )


def busy(tx: Tx, resources: Sequence[str]) -> set[str]:
    """Those of these names for which a task is open."""
    if not resources:
        return set()
    wanted = sa.select(task.c.resource).where(task.c.resource.in_(resources), task.c.state.in_(tasks.OPEN))
    return set(tx.scalars(wanted))


def patience(cloud: Cloud, gib: int) -> float:
    """Seconds that copying so much may take."""
    return cloud.settings.build_timeout + _PER_GIB * gib


def check_up(tx: Tx, cloud: Cloud, found: Any) -> str:
    """The volume's node. Raises Conflict when it has none, or one that is down: nothing could be done to it now."""
    if not found.node:
        raise Conflict(f"Volume {found.id} is on no node: it was never made. Delete it and make another.")
    keeper = backends.by_node(tx, found.node)
    if keeper is None or not backends.is_up(keeper, moment(cloud)):
        raise Conflict(
            f"Service is unavailable at this time: node {found.node}, which keeps volume {found.id}, is down. "
            "Try again when it is back."
        )
    return str(found.node)
