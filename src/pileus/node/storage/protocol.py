"""What every storage driver promises."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pileus.node.contract import NodeFault, StorageFacts, VolumeExport, VolumeTask


class VolumeGone(NodeFault):
    """The storage has no such volume, snapshot or backup."""


class Storage(Protocol):
    """Keeps volumes. Every method is idempotent: told twice, or after being killed half-way, it ends in the state asked
    for. The methods are the task kinds `volume.…` by name, and take the task's arguments: which of them counts for
    which method stands at `VolumeTask`. They raise NodeFault, and VolumeGone for what is not there; what is to be
    deleted may be missing.

    What is given out outlives the agent; `start` adopts it, and starts what has died.
    """

    backend: str
    increments: bool
    """Whether a backup holds the difference to its parent only where the order names one."""

    async def start(self) -> None: ...
    async def stop(self) -> None:
        """Let go of all volumes; those that are given out go on to be."""
        ...

    async def facts(self) -> StorageFacts: ...

    async def create(self, order: VolumeTask) -> None:
        """Make a volume: blank, or of an image, a snapshot, another volume or a backup. Complete or not at all. One
        that is there is let be."""
        ...

    async def delete(self, order: VolumeTask) -> None:
        """Remove a volume with its snapshots, in whatever state; nothing is given out any more. Missing is fine."""
        ...

    async def extend(self, order: VolumeTask) -> None:
        """Let it have `size_gib`, also while it is given out. Smaller than it is raises NodeFault."""
        ...

    async def snapshot(self, order: VolumeTask) -> None:
        """Keep the volume as it is now, consistent as after a power cut, also while it is given out."""
        ...

    async def delete_snapshot(self, order: VolumeTask) -> None: ...
    async def revert(self, order: VolumeTask) -> None:
        """Let the volume be as its snapshot is, but not smaller than it is. Not while it is given out."""
        ...

    async def export(self, order: VolumeTask) -> VolumeExport:
        """Give the volume out, until `unexport` or `delete`: with the key and the right to write that the order says.
        The port stays the same. Told again with the same, nothing changes; with another key, whoever is connected
        is cut off."""
        ...

    async def unexport(self, order: VolumeTask) -> None: ...
    async def upload(self, order: VolumeTask, target: Path) -> None:
        """Write what the volume is now into a file that is complete by itself, in the format that the order says."""
        ...

    async def backup(self, order: VolumeTask) -> int:
        """Keep a copy of what the volume, or its snapshot if one is named, is now, apart from it. Returns how many
        bytes the copy takes. A storage that `increments` keeps the difference to the backup `parent_id` only."""
        ...

    async def restore(self, order: VolumeTask) -> None:
        """Let the volume be as its backup is, not smaller than `size_gib`. Not while it is given out."""
        ...

    async def reimage(self, order: VolumeTask) -> None:
        """Let the volume be as a fresh one of the image would be; its snapshots stay. Not while it is given out."""
        ...

    async def delete_backup(self, order: VolumeTask) -> None: ...
    async def adopt(self, order: VolumeTask) -> None:
        """Let the volume that is kept as `source_volume_id` be kept as `volume_id`, with its snapshots. Not while it is
        given out. One that is there under its new name is let be."""
        ...

    async def fetch(self, order: VolumeTask) -> None:
        """Make the volume here as a copy of what another node gives out. Complete or not at all."""
        ...


def named(value: str | None, what: str) -> str:
    """An argument that the order must have. Raises NodeFault."""
    if not value:
        raise NodeFault(f"the task does not name the {what}; is this node older than its controller?")
    return value
