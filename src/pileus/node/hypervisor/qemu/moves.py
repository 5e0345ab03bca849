"""The methods of the driver that are about moves between nodes."""

from __future__ import annotations

import asyncio

from pileus.node.contract import (
    GuestState,
    MoveProgress,
    MoveSource,
    MoveTarget,
    NodeFault,
    Progress,
    ServerSpec,
)
from pileus.node.hypervisor.qemu import disks, exports, fetching, incoming, layout, process, sending
from pileus.node.hypervisor.qemu.guest import REMAINS, Guest
from pileus.node.hypervisor.qemu.monitor import QmpError
from pileus.node.hypervisor.qemu.registry import Registry


class Moves(Registry):
    """Guests that go to other nodes and come from them."""

    # ----------------------------------------------------------------------------------------- when off

    async def export_disks(self, server_id: str) -> MoveSource:
        async with self._locked(server_id) as guest:
            if guest.running or guest.record.power not in ("shutdown", "crashed"):
                raise NodeFault(f"server {server_id} is {guest.power}: its disks can be given out when it is off")
            source = await exports.begin(self._host, guest.files, guest.record)
            await guest.save()
            return source

    async def end_export(self, server_id: str) -> None:
        async with self._locked(server_id) as guest:
            if await exports.end(guest.files, guest.record):
                await guest.save()

    async def fetch_disks(self, spec: ServerSpec, source: MoveSource, progress: Progress | None = None) -> None:
        """A root disk comes as what differs from its image, which is had by the image cache; then all have the sizes
        of `spec`. The config drive is made anew at the start."""
        fresh = spec.id not in self._guests
        guest = self._guests.setdefault(spec.id, Guest(self._host, spec))
        async with self._locked(spec.id):
            if guest.running:
                return
            try:
                if not guest.record.storage and self._host.settings.disks_dir is not None:
                    guest.use_storage(self._host.new_storage(spec.id))
                await guest.make_folders()
                await asyncio.to_thread(fetching.forget_others, guest.files, guest.record, source)
                guest.spec = spec
                await guest.save(spec=True)
                bases = await guest.bases()
                await fetching.fetch(self._host, spec, guest.files, bases, source, progress)
                await asyncio.to_thread(disks.grow, spec, guest.files, bases, self._host.tool)
            except BaseException:
                if fresh:
                    await asyncio.shield(self._remove(guest))
                raise

    # -------------------------------------------------------------------------------------- when running

    async def layout(self, server_id: str) -> str:
        async with self._locked(server_id) as guest:
            return layout.encode(await layout.of(guest))

    async def take_in(self, spec: ServerSpec, layout_text: str) -> MoveTarget:
        guest = self._guests.setdefault(spec.id, Guest(self._host, spec))
        async with self._locked(spec.id, remains=True):
            if guest.record.phase == "incoming" and await self._waits(guest):
                assert guest.record.target is not None
                return guest.record.target
            fresh = not guest.files.record.exists()
            if not fresh and guest.record.phase not in ("incoming", "taking", "moved"):
                raise NodeFault(f"server {spec.id} is on this node already, {guest.power}")
            try:
                await self._make_room(guest)
                wanted = await asyncio.to_thread(layout.decode, layout_text, self._host, spec)
                shared = await asyncio.to_thread(layout.shared, wanted, self._host.settings.disks_dir)
                if shared:
                    guest.use_storage(wanted.storage)
                elif self._host.settings.disks_dir is not None and not guest.record.storage:
                    guest.use_storage(self._host.new_storage(spec.id))
                guest.spec, guest.record.lent, guest.record.phase = spec, shared, "taking"
                await guest.make_folders()
                await guest.save(spec=True)
                return await incoming.stand_by(guest, wanted, shared=shared)
            except BaseException:
                await asyncio.shield(self._remove(guest))
                raise

    async def _make_room(self, guest: Guest) -> None:
        """Remove what an earlier move of the guest has left."""
        if guest.files.record.exists():
            await guest.end("shutdown", at_once=True, keep_taps=True)
            await asyncio.to_thread(guest.files.remove, disks=not guest.record.lent)
        guest.forget()

    async def _waits(self, guest: Guest) -> bool:
        """Whether its QEMU is as it was when it was made ready."""
        running = guest.record.process
        if guest.monitor is None or running is None or not process.alive(running):
            return False
        return bool((await guest.monitor.execute("query-status"))["status"] == "inmigrate")

    async def send(self, server_id: str, target: MoveTarget, progress: Progress | None = None) -> None:
        async with self._locked(server_id, remains=True) as guest:
            await sending.send(guest, target, progress)

    async def taken(self, spec: ServerSpec) -> GuestState:
        async with self._locked(spec.id, remains=True) as guest:
            record = guest.record
            if record.lent:  # by the controller's word they are this node's now
                record.lent = False
                await guest.save()
            if record.phase == "incoming":
                await incoming.arrive(guest)
            elif record.phase in REMAINS or (not guest.running and record.power != "shutdown"):
                raise NodeFault(f"server {spec.id} did not arrive here: it is {guest.power}")
            return guest.state()

    async def move_progress(self, server_id: str) -> MoveProgress:
        return await sending.progress_of(self._find(server_id))

    async def abort_move(self, server_id: str) -> None:
        guest = self._find(server_id)
        if guest.record.phase == "sending":
            guest.abort = True

    async def force_move(self, server_id: str) -> None:
        """The guest stands still until it is there; its disks' mirrors have nothing new to write either."""
        guest = self._find(server_id)
        if guest.record.phase == "sending" and guest.monitor is not None:
            try:
                await guest.monitor.execute("stop")
            except QmpError as error:
                raise NodeFault(f"the move of server {server_id} cannot be forced now: {error.reason}") from None
