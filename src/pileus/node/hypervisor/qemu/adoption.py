"""Finding the guests again that an earlier agent of this node left, with and without their processes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu import exports, incoming, process, sending
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.process import ProcessId


async def adopt_all(host: Host) -> dict[str, Guest]:
    """Every guest of this node, by id, those that run connected. Tells of those that changed meanwhile."""
    guests = await asyncio.to_thread(_known, host)
    by_id = {guest.spec.id: guest for guest in guests}
    giving = {exports.marker(guest.files): guest for guest in guests}
    pids = await asyncio.to_thread(process.find, {*(guest.marker for guest in guests), *giving})
    for marker, guest in giving.items():
        await _adopt_export(guest, pids.get(marker, []))

    async def go_on(server_id: str) -> None:
        await _go_on(host, by_id[server_id])

    host.on_adopted = go_on
    found = await asyncio.gather(*(_adopt(host, guest, pids.get(guest.marker, [])) for guest in guests))
    for guest, power in zip(guests, found, strict=True):
        if power is not None:
            host.later(host.tell(guest.spec.id, power))
    return by_id


async def _adopt_export(guest: Guest, pids: list[int]) -> None:
    """Disks that are given out go on to be; a process of that kind that was not recorded any more is ended."""
    export = guest.record.export
    for pid in pids:
        if export is None or export.process.pid != pid:
            left = process.identify(pid)
            if left is not None:
                process.kill(left)
    if (export is None or not process.alive(export.process)) and await exports.end(guest.files, guest.record):
        await guest.save()


async def _go_on(host: Host, guest: Guest) -> None:
    """A move that an earlier agent began."""
    if guest.record.phase == "incoming" and guest.monitor is not None:
        await incoming.listen_again(guest)
    if guest.record.phase in ("sending", "moved"):
        host.later(sending.carry_on(guest))


def _known(host: Host) -> list[Guest]:
    guests: list[Guest] = []
    for directory in sorted(host.instances.iterdir()):
        if not directory.is_dir():
            continue
        spec = GuestFiles(directory).read_spec()
        if spec is None:
            _sweep(host, directory)
        else:
            guests.append(Guest(host, spec))
    return guests


def _sweep(host: Host, directory: Path) -> None:
    """Remove what a build that had hardly begun, or a removal that was cut off, has left."""
    files = GuestFiles(directory)
    for pids in process.find({f"unix:{files.vnc}", exports.marker(files)}).values():
        for left in filter(None, map(process.identify, pids)):
            process.kill(left)
    record = files.read_record()
    with contextlib.suppress(OSError, NodeFault):
        if record.storage:
            files.put_disks(host.storage(record.storage))
        files.remove(disks=not record.lent)


async def _adopt(host: Host, guest: Guest, pids: list[int]) -> str | None:
    async with guest.lock:
        power = await guest.adopt(_choose(guest, pids))
        if guest.running and guest.monitor is None:
            host.later(guest.reconnect())
        else:
            await _go_on(host, guest)
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
