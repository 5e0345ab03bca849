"""The hypervisor driver: each method of the contract, as steps on one locked guest."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import (
    GuestEvent,
    GuestGone,
    GuestState,
    HypervisorFacts,
    NicSpec,
    NodeFault,
    Progress,
    ServerSpec,
    VolumeSpec,
)
from pileus.node.hypervisor import uptime
from pileus.node.hypervisor.qemu import (
    adoption,
    console,
    diagnostics,
    disks,
    exports,
    facts,
    guestagent,
    nics,
    process,
    saving,
    snapshots,
    swapping,
    unplug,
    volumes,
)
from pileus.node.hypervisor.qemu.commandline import wants_agent
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.moves import Moves


class Qemu(Moves):
    """Implements `pileus.node.hypervisor.protocol.Hypervisor` with QEMU on this host."""

    name = "qemu"

    # ------------------------------------------------------------------------------------- the node

    async def start(self, on_event: GuestEvent) -> None:
        """Find the guests of an earlier agent. Raises NodeFault if guests cannot run here, and says why."""
        await self._host.prepare()
        self._host.on_event = on_event
        self._guests = await adoption.adopt_all(self._host)
        self._host.later(self._keep_consoles_small())

    async def stop(self) -> None:
        await self._host.stop()
        for guest in self._guests.values():
            if guest.monitor is not None:
                await guest.monitor.close()
                guest.monitor = None
        self._guests.clear()

    async def facts(self) -> HypervisorFacts:
        host = self._host
        folder, address = host.settings.disks_dir or host.settings.state_dir, host.settings.address
        return await asyncio.to_thread(facts.gather, host.version, host.accel, folder, address)

    async def uptime(self) -> str:
        return await asyncio.to_thread(uptime.of_host)

    async def guests(self) -> list[GuestState]:
        known = list(self._guests.values())
        return await asyncio.to_thread(lambda: [guest.state() for guest in known])

    async def guest(self, server_id: str) -> GuestState:
        return await asyncio.to_thread(self._find(server_id).state)

    def images_in_use(self) -> set[str]:
        """The sha512 of every image on which a guest's disk stands, for the image cache's cleaning."""
        images = [image for g in self._guests.values() for image in (g.spec.image, g.spec.rescue_image)]
        return {image.sha512 for image in images if image is not None}

    async def _keep_consoles_small(self) -> None:
        settings = self._host.settings
        while True:
            await asyncio.sleep(settings.console_interval)
            logs = [guest.files.console for guest in self._guests.values() if guest.running]
            for log in logs:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(console.trim, log, settings.console_limit)

    # ------------------------------------------------------------------------------- making, removing

    async def build(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        report = progress or (lambda step, done, total: None)
        fresh = spec.id not in self._guests
        guest = self._guests.setdefault(spec.id, Guest(self._host, spec))
        async with self._locked(spec.id):
            if guest.running:
                return guest.state()
            try:
                guest.keep_disks_apart()
                await guest.make_folders()
                guest.spec, guest.record.phase = spec, "building"
                await guest.save(spec=True)
                report("image", 0, 1)
                bases = await guest.bases()
                report("image", 1, 1)
                await guest.start(bases)
                report("start", 1, 1)
            except BaseException:
                if fresh:
                    await asyncio.shield(self._remove(guest))
                raise
            return guest.state()

    async def rebuild(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        async with self._locked(spec.id) as guest:
            guest.spec = spec
            bases = await guest.bases()
            await guest.end("shutdown", at_once=True, keep_taps=True)
            await exports.end(guest.files, guest.record)
            await asyncio.to_thread(disks.discard, guest.files)
            await guest.start(bases)
            if progress is not None:
                progress("start", 1, 1)
            return guest.state()

    async def destroy(self, server_id: str) -> None:
        try:
            busy = self._find(server_id)
            if busy.lock.locked() and busy.record.process is not None:
                # Whatever is under way with it ends now, instead of being waited for.
                process.kill(busy.record.process)
            async with self._locked(server_id, remains=True) as guest:
                await self._remove(guest)
        except GuestGone:
            return

    # ----------------------------------------------------------------------------------------- power

    async def power_on(self, spec: ServerSpec) -> GuestState:
        async with self._locked(spec.id) as guest:
            if not guest.running:
                await self._boot(guest, spec)
            return guest.state()

    async def _boot(self, guest: Guest, spec: ServerSpec) -> None:
        """Start a guest afresh; memory that was saved is given up."""
        guest.spec = spec
        bases = await guest.bases()
        # It may tell of addresses that have changed.
        guest.files.config.unlink(missing_ok=True)
        await guest.start(bases)

    async def power_off(self, server_id: str, timeout: float) -> GuestState:
        async with self._locked(server_id) as guest:
            if guest.running:
                await self._power_down(guest, timeout)
            elif guest.record.power != "shutdown":
                await asyncio.to_thread(guest.files.forget_memory)
                await guest.end("shutdown")
            return guest.state()

    async def _power_down(self, guest: Guest, within: float, *, keep_taps: bool = False) -> None:
        if within > 0 and not guest.paused and guest.monitor is not None:
            # If QEMU dies meanwhile the guest is off all the same.
            with contextlib.suppress(NodeFault):
                await guest.shut_down(within)
        await guest.end("shutdown", keep_taps=keep_taps)

    async def reboot(self, spec: ServerSpec, hard: bool, timeout: float) -> GuestState:
        """Soft asks the guest and waits; one that does not shut down is rebooted hard, as Nova does it."""
        async with self._locked(spec.id) as guest:
            if guest.running:
                await self._power_down(guest, 0 if hard else timeout, keep_taps=True)
            await self._boot(guest, spec)
            return guest.state()

    async def pause(self, server_id: str) -> GuestState:
        async with self._locked(server_id) as guest:
            await guest.qmp().execute("stop")
            guest.paused = True
            return guest.state()

    async def unpause(self, server_id: str) -> GuestState:
        async with self._locked(server_id) as guest:
            await guest.qmp().execute("cont")
            guest.paused = False
            return guest.state()

    async def suspend(self, server_id: str) -> GuestState:
        async with self._locked(server_id) as guest:
            if guest.record.power == "suspended":
                return guest.state()
            monitor = guest.qmp()
            guest.record.phase = "suspending"
            await guest.save()
            try:
                await monitor.execute("stop")
                await saving.save(monitor, guest.files.memory)
            except BaseException:
                with contextlib.suppress(NodeFault):
                    await asyncio.shield(guest.take_back_suspend(monitor))
                raise
            await guest.end("suspended")
            return guest.state()

    async def resume(self, spec: ServerSpec) -> GuestState:
        """Goes on with the devices that were saved: changes in `spec` take effect at the next start."""
        async with self._locked(spec.id) as guest:
            if guest.running:
                return guest.state()
            if guest.record.power != "suspended":
                raise NodeFault(f"server {spec.id} is {guest.record.power}, not suspended: start it instead")
            await guest.start(await guest.bases(), incoming=True)
            return guest.state()

    async def rescue(self, spec: ServerSpec) -> GuestState:
        if spec.rescue_image is None:
            raise NodeFault(f"server {spec.id}: there is no image to rescue with")
        async with self._locked(spec.id) as guest:
            already = guest.running and guest.spec.rescue_image == spec.rescue_image
            if not already:
                await guest.end("shutdown", keep_taps=True)
                guest.files.rescue.unlink(missing_ok=True)
                await self._boot(guest, spec)
            return guest.state()

    async def unrescue(self, spec: ServerSpec) -> GuestState:
        async with self._locked(spec.id) as guest:
            if guest.spec.rescue_image is not None or not guest.running:
                await guest.end("shutdown", keep_taps=True)
                await self._boot(guest, msgspec.structs.replace(spec, rescue_image=None))
                await asyncio.to_thread(guest.files.rescue.unlink, missing_ok=True)
            return guest.state()

    async def resize(self, spec: ServerSpec) -> GuestState:
        async with self._locked(spec.id) as guest:
            if guest.running:
                if guest.spec.vcpus == spec.vcpus and guest.spec.memory_mib == spec.memory_mib:
                    return guest.state()
                raise NodeFault(f"server {spec.id} runs: it has to be stopped to be resized")
            before, guest.spec = guest.spec, spec
            try:
                bases = await guest.bases()
                await exports.end(guest.files, guest.record)
                await asyncio.to_thread(disks.grow, spec, guest.files, bases, self._host.tool)
            except BaseException:
                guest.spec = before
                raise
            await self._boot(guest, spec)
            return guest.state()

    # ---------------------------------------------------------------------------------------- devices

    async def snapshot(self, server_id: str, target: Path) -> None:
        async with self._locked(server_id) as guest:
            if guest.spec.image is None:
                raise NodeFault(f"server {server_id} has no root disk on this node: take a snapshot of its volume")
            if guest.running:
                await snapshots.live(guest.qmp(), self._host.tool, target)
                return
            base = await self._host.images.path(guest.spec.image)
            chain = disks.overlay(guest.files.root, base, guest.spec.image.disk_format)
            await asyncio.to_thread(snapshots.at_rest, self._host.tool, chain, guest.files.root, target)

    async def attach_nic(self, spec: ServerSpec, nic: NicSpec) -> None:
        device = nics.device_id(nic.port_id)
        async with self._locked(spec.id) as guest:
            if guest.running and not await unplug.plugged(guest.qmp(), device):
                async with guest.taking_slot(device) as slot:
                    await nics.plug(guest.qmp(), self._host.taps, nic, slot)
            others = [known for known in guest.spec.nics if known.port_id != nic.port_id]
            await guest.change(nics=(*others, nic))

    async def detach_nic(self, server_id: str, port_id: str) -> None:
        async with self._locked(server_id) as guest:
            if guest.running:
                monitor, device = guest.qmp(), nics.device_id(port_id)
                await unplug.unplug(monitor, device, self._host.settings.unplug_timeout)
                await nics.remove_netdev(monitor, port_id)
            guest.record.slots.pop(nics.device_id(port_id), None)
            await guest.change(nics=tuple(nic for nic in guest.spec.nics if nic.port_id != port_id))
            await self._host.taps.close_tap(port_id)

    async def attach_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        device = disks.volume_device(volume.volume_id)
        async with self._locked(spec.id) as guest:
            if guest.running and not await unplug.plugged(guest.qmp(), guest.shown(device)):
                scsi = disks.bus(guest.spec) == "scsi"
                async with guest.taking_slot(device, scsi=scsi) as slot:
                    place = {"slot": None, "scsi_id": slot} if scsi else {"slot": slot}
                    await volumes.plug(guest.qmp(), volume, keys=guest.keys, **place)
            others = [known for known in guest.spec.volumes if known.volume_id != volume.volume_id]
            await guest.change(volumes=(*others, volume))

    async def detach_volume(self, server_id: str, volume_id: str) -> None:
        device = disks.volume_device(volume_id)
        async with self._locked(server_id) as guest:
            if guest.running:
                await volumes.remove(
                    guest.qmp(), volume_id, guest.shown(device), self._host.settings.unplug_timeout
                )
            for places in (guest.record.slots, guest.record.scsi, guest.record.shown):
                places.pop(device, None)
            await guest.change(volumes=tuple(v for v in guest.spec.volumes if v.volume_id != volume_id))

    async def extend_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        async with self._locked(spec.id) as guest:
            if guest.running:
                await volumes.grow(guest.qmp(), volume.volume_id)

    async def swap_volume(
        self, spec: ServerSpec, volume_id: str, volume: VolumeSpec, progress: Progress | None = None
    ) -> None:
        async with self._locked(spec.id) as guest:
            if not guest.running:
                raise NodeFault(f"server {spec.id} is {guest.power}: its volumes are swapped while it runs; start it")
            await swapping.swap(guest, volume_id, volume, progress)

    # ---------------------------------------------------------------------------------------- consoles

    async def console_log(self, server_id: str, lines: int | None) -> bytes:
        log = self._find(server_id).files.console
        return await asyncio.to_thread(console.read, log, lines, self._host.settings.console_limit)

    async def vnc_socket(self, server_id: str) -> Path:
        guest = self._find(server_id)
        if not guest.running:
            raise NodeFault(f"server {server_id} is {guest.power}: only one that runs has a screen")
        return guest.files.vnc

    async def serial_socket(self, server_id: str) -> Path:
        guest = self._find(server_id)
        if not guest.running:
            raise NodeFault(f"server {server_id} is {guest.power}: only one that runs has a serial port that answers")
        return guest.files.serial

    async def set_password(self, server_id: str, user: str, password: str) -> None:
        async with self._locked(server_id) as guest:
            if not wants_agent(guest.spec):
                raise NodeFault(
                    "the password can only be set by the QEMU guest agent: use an image that has it and says so"
                    " with the property hw_qemu_guest_agent=yes"
                )
            guest.qmp()
            await guestagent.set_password(guest.files.agent, user, password)

    async def inject_nmi(self, server_id: str) -> None:
        async with self._locked(server_id) as guest:
            await guest.qmp().execute("inject-nmi")

    async def diagnostics(self, server_id: str) -> dict[str, Any]:
        return await diagnostics.gather(self._find(server_id), self._host.version)
