"""The fake hypervisor driver. It has no task for a guest and holds no file open."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from pileus.node.contract import (
    GuestState,
    NicSpec,
    NodeFault,
    Progress,
    ServerSpec,
    VolumeSpec,
)
from pileus.node.hypervisor.fake import faults, qcow2
from pileus.node.hypervisor.fake.journal import FakeGuest
from pileus.node.hypervisor.fake.moves import Moves
from pileus.node.hypervisor.fake.node import GIB, state_of


class Fake(Moves):
    """Implements `pileus.node.hypervisor.protocol.Hypervisor` without guests."""

    name = "fake"

    # --------------------------------------------------------------------------------- making, removing

    async def build(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        guest = self._journal.guests.get(spec.id)
        if guest is not None and guest.power in ("running", "paused"):
            return state_of(guest)
        guest = await self._make(spec, "build")
        if progress is not None:
            progress("start", 1, 1)
        return self._become(guest, "running", started=True)

    async def rebuild(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        return await self._restart(spec, "rebuild")

    async def destroy(self, server_id: str) -> None:
        guest = self._journal.guests.get(server_id)
        if guest is None:
            return
        await faults.suffer(guest.faults, "destroy", self._settings.hostname)
        self._disarm(server_id)
        if server_id in self._journal.guests:
            self._journal.drop(guest)

    async def _restart(self, spec: ServerSpec, operation: str, *, rescued: bool = False) -> GuestState:
        guest = self._find(spec.id)
        await self._suffer(guest, operation)
        self._take(guest, spec)
        guest.rescued = rescued
        return self._become(guest, "running", started=True)

    async def _change(self, server_id: str, operation: str, power: str, allowed: set[str]) -> GuestState:
        guest = self._find(server_id)
        if guest.power == power:
            return state_of(guest)
        if guest.power not in allowed:
            raise NodeFault(f"server {server_id} is {guest.power}: {operation} is not possible")
        await self._suffer(guest, operation)
        return self._become(guest, power)

    # ------------------------------------------------------------------------------------------ power

    async def power_on(self, spec: ServerSpec) -> GuestState:
        guest = self._find(spec.id)
        if guest.power in ("running", "paused"):
            return state_of(guest)
        return await self._restart(spec, "power_on", rescued=guest.rescued)

    async def power_off(self, server_id: str, timeout: float) -> GuestState:
        return await self._change(server_id, "power_off", "shutdown", {"running", "paused", "suspended", "crashed"})

    async def reboot(self, spec: ServerSpec, hard: bool, timeout: float) -> GuestState:
        return await self._restart(spec, "reboot", rescued=self._find(spec.id).rescued)

    async def pause(self, server_id: str) -> GuestState:
        return await self._change(server_id, "pause", "paused", {"running"})

    async def unpause(self, server_id: str) -> GuestState:
        return await self._change(server_id, "unpause", "running", {"paused"})

    async def suspend(self, server_id: str) -> GuestState:
        return await self._change(server_id, "suspend", "suspended", {"running", "paused"})

    async def resume(self, spec: ServerSpec) -> GuestState:
        return await self._change(spec.id, "resume", "running", {"suspended"})

    async def rescue(self, spec: ServerSpec) -> GuestState:
        if spec.rescue_image is None:
            raise NodeFault(f"server {spec.id}: there is no image to rescue with")
        return await self._restart(spec, "rescue", rescued=True)

    async def unrescue(self, spec: ServerSpec) -> GuestState:
        return await self._restart(spec, "unrescue")

    async def resize(self, spec: ServerSpec) -> GuestState:
        guest = self._find(spec.id)
        if spec.root_gib and spec.root_gib * GIB < guest.root_bytes:
            raise NodeFault("the disk cannot shrink: choose a larger flavor")
        return await self._restart(spec, "resize")

    # ---------------------------------------------------------------------------------------- devices

    async def snapshot(self, server_id: str, target: Path) -> None:
        """An empty disk of the root disk's size: nothing was ever written to it."""
        guest = self._find(server_id)
        if not guest.image_id:
            raise NodeFault(f"server {server_id} has no root disk on this node: take a snapshot of its volume")
        await self._suffer(guest, "snapshot")
        await asyncio.to_thread(qcow2.write_empty, target, guest.root_bytes or GIB)

    async def attach_nic(self, spec: ServerSpec, nic: NicSpec) -> None:
        await self._suffer(self._find(spec.id), "attach_nic")

    async def detach_nic(self, server_id: str, port_id: str) -> None:
        await self._suffer(self._find(server_id), "detach_nic")

    async def attach_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        guest = self._find(spec.id)
        await self._suffer(guest, "attach_volume")
        self._keep_volumes(guest, (*(name for name in guest.volumes if name != volume.volume_id), volume.volume_id))

    async def detach_volume(self, server_id: str, volume_id: str) -> None:
        guest = self._find(server_id)
        await self._suffer(guest, "detach_volume")
        self._keep_volumes(guest, tuple(name for name in guest.volumes if name != volume_id))

    async def extend_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        guest = self._find(spec.id)
        if volume.volume_id not in guest.volumes:
            raise NodeFault(f"server {guest.id} does not have volume {volume.volume_id}: attach it first")
        await self._suffer(guest, "extend_volume")

    async def swap_volume(
        self, spec: ServerSpec, volume_id: str, volume: VolumeSpec, progress: Progress | None = None
    ) -> None:
        guest = self._find(spec.id)
        if volume_id not in guest.volumes and volume.volume_id not in guest.volumes:
            raise NodeFault(f"server {guest.id} does not have volume {volume_id}: attach it first")
        await self._suffer(guest, "swap_volume")
        self._keep_volumes(guest, tuple(volume.volume_id if name == volume_id else name for name in guest.volumes))

    def _keep_volumes(self, guest: FakeGuest, volumes: tuple[str, ...]) -> None:
        guest.volumes = volumes
        self._journal.put(guest)

    # --------------------------------------------------------------------------------------- consoles

    async def console_log(self, server_id: str, lines: int | None) -> bytes:
        text = _console(self._find(server_id), self._settings.hostname)
        if lines is not None:
            text = "\n".join(text.split("\n")[-lines:]) if lines > 0 else ""
        return text.encode()

    async def vnc_socket(self, server_id: str) -> Path:
        self._find(server_id)
        raise NodeFault("a fake guest has no screen")

    async def serial_socket(self, server_id: str) -> Path:
        self._find(server_id)
        raise NodeFault("a fake guest has no serial port")

    async def set_password(self, server_id: str, user: str, password: str) -> None:
        await self._suffer(self._find(server_id), "set_password")
        raise NodeFault("a fake guest has no users whose password could be set")

    async def inject_nmi(self, server_id: str) -> None:
        await self._suffer(self._find(server_id), "inject_nmi")
        raise NodeFault("a fake guest has no processor that could be interrupted")

    async def diagnostics(self, server_id: str) -> dict[str, Any]:
        guest = self._find(server_id)
        if guest.power not in ("running", "paused"):
            raise NodeFault(f"server {server_id} does not run: it is {guest.power}; start it first")
        return {
            "state": guest.power,
            "driver": "fake",
            "hypervisor": "fake",
            "hypervisor_os": "none",
            "uptime": int(time.time() - guest.started),
            "num_cpus": guest.vcpus,
            "memory_details": {"maximum": guest.memory_mib, "used": 0},
        }


def _console(guest: FakeGuest, node: str) -> str:
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(guest.started))
    told = ", ".join(f"{name}={value}" for name, value in sorted(guest.faults.items()))
    lines = (
        "This is a fake guest: there is no machine and no console behind it.",
        f"server:   {guest.id}",
        f"name:     {guest.name}",
        f"node:     {node}",
        f"power:    {guest.power}",
        f"vcpus:    {guest.vcpus}",
        f"memory:   {guest.memory_mib} MiB",
        f"disk:     {guest.root_bytes} bytes, of which none was ever written",
        f"image:    {guest.image_id or 'none'} (never read)",
        f"volumes:  {', '.join(guest.volumes) or 'none'} (never read)",
        f"started:  {started}",
        f"starts:   {guest.starts}",
        f"rescued:  {'yes' if guest.rescued else 'no'}",
        f"faults:   {told or 'none'}",
    )
    return "\n".join(lines) + "\n"
