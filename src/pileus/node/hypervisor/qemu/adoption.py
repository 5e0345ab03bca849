"""Finding the guests again that an earlier agent of this node left, with and without their processes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from pileus.node.hypervisor.qemu import process
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.process import ProcessId


async def adopt_all(host: Host) -> dict[str, Guest]:
    """Every guest of this node, by id, those that run connected. Tells of those that changed meanwhile."""
    guests = await asyncio.to_thread(_known, host)
    pids = await asyncio.to_thread(process.find, {guest.marker for guest in guests})
    found = await asyncio.gather(*(_adopt(host, guest, pids.get(guest.marker, [])) for guest in guests))
    for guest, power in zip(guests, found, strict=True):
        if power is not None:
            host.later(host.tell(guest.spec.id, power))
    return {guest.spec.id: guest for guest in guests}


def _known(host: Host) -> list[Guest]:
    guests: list[Guest] = []
    for directory in sorted(host.instances.iterdir()):
        if not directory.is_dir():
            continue
        spec = GuestFiles(directory).read_spec()
        if spec is None:
            _sweep(directory)
        else:
            guests.append(Guest(host, spec))
    return guests


def _sweep(directory: Path) -> None:
    """Remove what a build that had hardly begun, or a removal that was cut off, has left."""
    marker = f"unix:{GuestFiles(directory).vnc}"
    for pid in process.find({marker}).get(marker, []):
        left = process.identify(pid)
        if left is not None:
            process.kill(left)
    with contextlib.suppress(OSError):
        shutil.rmtree(directory)


async def _adopt(host: Host, guest: Guest, pids: list[int]) -> str | None:
    async with guest.lock:
        power = await guest.adopt(_choose(guest, pids))
        if guest.running and guest.monitor is None:
            host.later(guest.reconnect())
        return power


def _choose(guest: Guest, pids: list[int]) -> ProcessId | None:
    """The guest's process: the recorded one, or one whose start was not recorded any more."""
    recorded = guest.record.process
    if recorded is not None and recorded.pid in pids and process.alive(recorded):
        return recorded
    for pid in pids:
        found = process.identify(pid)
        if found is not None:
            return found
    return None
