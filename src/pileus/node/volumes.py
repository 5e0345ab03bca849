"""The tasks about volumes: each is one method of the node's storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from pileus.node.contract import NodeFault, Task, VolumeDone, VolumeTask
from pileus.node.storage.protocol import Storage, named

if TYPE_CHECKING:
    from pileus.node.agent import Agent


async def perform(agent: Agent, task: Task) -> VolumeDone:
    """Do one `volume.…` task. Raises NodeFault."""
    handler = _HANDLERS.get(task.kind)
    if handler is None:
        raise NodeFault(f"this node does not know how to do '{task.kind}'; is it older than its controller?")
    if agent.storage is None:
        raise NodeFault("this node keeps no volumes: its roles lack storage")
    return await handler(agent, agent.storage, msgspec.json.decode(task.arguments, type=VolumeTask))


def _simple(method: str) -> Callable[[Agent, Storage, VolumeTask], Awaitable[VolumeDone]]:
    """A task that is done when the storage's method of that name is."""

    async def handler(agent: Agent, storage: Storage, order: VolumeTask) -> VolumeDone:
        await getattr(storage, method)(order)
        return VolumeDone()

    return handler


async def _export(agent: Agent, storage: Storage, order: VolumeTask) -> VolumeDone:
    return VolumeDone(export=await storage.export(order))


async def _backup(agent: Agent, storage: Storage, order: VolumeTask) -> VolumeDone:
    stored = await storage.backup(order)
    return VolumeDone(bytes_stored=stored, incremental=storage.increments and order.parent_id is not None)


async def _upload(agent: Agent, storage: Storage, order: VolumeTask) -> VolumeDone:
    image_id = named(order.image_id, "image that is to hold the data")
    agent.scratch.mkdir(parents=True, exist_ok=True)
    target = agent.scratch / f"volume-{image_id}"
    try:
        await storage.upload(order, target)
        size = target.stat().st_size
        await agent.link.image_store(image_id, target)
    finally:
        target.unlink(missing_ok=True)
    return VolumeDone(bytes_stored=size)


_SIMPLE = (
    "create", "delete", "extend", "snapshot", "delete_snapshot", "revert", "unexport", "restore", "delete_backup",
    "fetch", "adopt", "reimage",
)
_HANDLERS: dict[str, Callable[[Agent, Storage, VolumeTask], Awaitable[VolumeDone]]] = {
    **{f"volume.{method}": _simple(method) for method in _SIMPLE},
    "volume.export": _export,
    "volume.backup": _backup,
    "volume.upload": _upload,
}
