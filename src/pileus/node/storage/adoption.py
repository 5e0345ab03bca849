"""Finding the volumes again that an earlier agent of this node left, and removing all of them."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu import process
from pileus.node.storage.files import marker_of
from pileus.node.storage.place import Place
from pileus.node.storage.volume import COPY, Volume

_LOG = logging.getLogger("pileus.node")
_PATIENCE = 10.0


async def adopt_all(place: Place) -> dict[str, Volume]:
    """Every volume of this node by id; those that are to be given out are."""
    found = {}
    for directory in sorted(place.volumes.iterdir()):
        if directory.is_dir():
            volume = Volume(place, directory.name)
            if volume.there():
                found[volume.id] = volume
            else:  # a making that was cut off, or a removal
                await volume.daemon.kill()
                await asyncio.to_thread(volume.files.remove)
    for volume in found.values():
        await _adopt(volume)
    return found


async def _adopt(volume: Volume) -> None:
    """What cannot be taken up now must not keep the node from all the rest."""
    for left in volume.files.directory.glob("*.tmp"):
        left.unlink()
    try:
        if volume.given_out:
            if await volume.daemon.open(volume.record):
                await volume.tear()
        elif volume.files.key.exists():  # a withdrawal that was cut off
            await volume.withdraw()
        if volume.record.torn or volume.record.copied:
            await _forget_copies(volume)
            if not volume.given_out:
                await volume.mend()
    except NodeFault as error:
        _LOG.warning("volume %s: %s", volume.id, error)
        if volume.given_out:
            volume.place.later(volume.see_to_it())


async def _forget_copies(volume: Volume) -> None:
    """Remove snapshots that were there for copies which ended with an earlier agent."""
    for name in await volume.snapshots():
        if name.startswith(COPY):
            await volume.change_snapshot(name, make=False)
    volume.record.copied = False
    await volume.save()


async def remove_all(state_dir: Path) -> None:
    """End every daemon and remove every file that an agent of this state folder ever made. Raises NodeFault."""
    folder = state_dir / "volumes"
    ours = [found for found in map(process.identify, await asyncio.to_thread(_daemons, folder)) if found is not None]
    for each in ours:
        process.kill(each)
    for each in ours:
        if not await process.ended(each, _PATIENCE):
            raise NodeFault(f"process {each.pid}, which gives out a volume, cannot be ended")
    for place in (folder, state_dir / "volume-backups"):
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=not place.exists())


def _daemons(folder: Path) -> list[int]:
    start = marker_of(folder) + "/"
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if any(word.startswith(start) for word in process.arguments(pid))]
