"""The fake hypervisor driver. It has no task for a guest and holds no file open."""

from __future__ import annotations

import asyncio
import platform
import time
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
from pileus.node.hypervisor.fake import faults, qcow2
from pileus.node.hypervisor.fake.journal import FakeGuest, Journal

GIB = 1 << 30
TRAITS = (
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_ATTACH_INTERFACE",
    "COMPUTE_NODE",
    "COMPUTE_VOLUME_ATTACH",
)
ENDS = {"die_after": "crashed", "shutdown_after": "shutdown"}


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A fake node's name and what it says it has."""

    state_dir: Path
    hostname: str = "fake"
    vcpus: int = 64
    memory_mib: int = 256 * 1024
    disk_gib: int = 8192


class Fake:
    """Implements `pileus.node.contract.Hypervisor` without guests."""

    name = "fake"

    def __init__(self, settings: FakeSettings) -> None:
        self._settings = settings
        self._journal = Journal(settings.state_dir / "guests")
        self._on_event: GuestEvent | None = None
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._since = time.monotonic()

    # ------------------------------------------------------------------------------------- the node

    async def start(self, on_event: GuestEvent) -> None:
        """Read the guests of an earlier process; those whose time came meanwhile have ended."""
        self._settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._on_event = on_event
        self._journal.load()
        for guest in list(self._journal.guests.values()):
            self._arm(guest)

    async def stop(self) -> None:
        for timer in self._ends.values():
            timer.cancel()
        self._ends.clear()
        for task in list(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def facts(self) -> HypervisorFacts:
        return HypervisorFacts(
            hypervisor_type="fake",
            hypervisor_version=1_000_000,
            accelerator="none",
            hostname=self._settings.hostname,
            architecture=platform.machine(),
            vcpus=self._settings.vcpus,
            memory_mib=self._settings.memory_mib,
            disk_gib=self._settings.disk_gib,
            traits=TRAITS,
            host_ip="127.0.0.1",
            moves=True,
        )

    async def uptime(self) -> str:
        """The agent's own: there is no host of its own behind a fake node."""
        return uptime.text(time.time(), time.monotonic() - self._since)

    async def guests(self) -> list[GuestState]:
        return [_state(guest) for guest in self._journal.guests.values()]

    async def guest(self, server_id: str) -> GuestState:
        return _state(self._find(server_id))

    def images_in_use(self) -> set[str]:
        """None: it never fetches an image."""
        return set()

    def _find(self, server_id: str) -> FakeGuest:
        try:
            return self._journal.guests[server_id]
        except KeyError:
            raise GuestGone(f"server {server_id} is not on this node") from None

    async def _suffer(self, guest: FakeGuest, operation: str) -> None:
        await faults.suffer(guest.faults, operation, self._settings.hostname)
        if self._journal.guests.get(guest.id) is not guest:
            raise GuestGone(f"server {guest.id} was removed from this node")

    # --------------------------------------------------------------------- guests that end by themselves

    def _arm(self, guest: FakeGuest) -> None:
        self._disarm(guest.id)
        if guest.power != "running" or not guest.faults:
            return
        for name, power in ENDS.items():
            after = faults.seconds(guest.faults, name, self._settings.hostname)
            if after is not None:
                left = max(0.0, guest.started + after - time.time())
                loop = asyncio.get_running_loop()
                self._ends[guest.id] = loop.call_later(left, self._end, guest.id, power)
                return

    def _disarm(self, server_id: str) -> None:
        timer = self._ends.pop(server_id, None)
        if timer is not None:
            timer.cancel()

    def _end(self, server_id: str, power: str) -> None:
        self._ends.pop(server_id, None)
        guest = self._journal.guests.get(server_id)
        if guest is None or guest.power != "running":
            return
        guest.power = power
        self._journal.put(guest)
        task = asyncio.ensure_future(self._tell(server_id, power))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, server_id: str, power: str) -> None:
        if self._on_event is not None:
            await self._on_event(server_id, power)

    def _become(self, guest: FakeGuest, power: str, *, started: bool = False) -> GuestState:
        guest.power = power
        if started:
            guest.started = time.time()
            guest.starts += 1
        self._journal.put(guest)
        self._arm(guest)
        return _state(guest)

    def _take(self, guest: FakeGuest, spec: ServerSpec) -> None:
        """Give a guest the shape that is asked for. Raises NodeFault if its image does not fit."""
        least = spec.image.virtual_size if spec.image else 0
        wanted = spec.root_gib * GIB
        if wanted and wanted < least:
            raise NodeFault(
                f"the image needs a disk of {-(-least // GIB)} GiB, the flavor has {spec.root_gib}:"
                " choose a larger flavor"
            )
        guest.name, guest.vcpus, guest.memory_mib = spec.name, spec.vcpus, spec.memory_mib
        guest.root_bytes = wanted or least
        guest.image_id = spec.image.id if spec.image else ""
        guest.faults = faults.told(spec)

    # --------------------------------------------------------------------------------- making, removing

    async def build(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        guest = self._journal.guests.get(spec.id)
        if guest is not None and guest.power in ("running", "paused"):
            return _state(guest)
        told = faults.told(spec)
        await faults.suffer(told, "build", self._settings.hostname)
        for name in ENDS:
            faults.seconds(told, name, self._settings.hostname)
        guest = FakeGuest(id=spec.id, name=spec.name, power="shutdown", vcpus=0, memory_mib=0, root_bytes=0)
        self._take(guest, spec)
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
            return _state(guest)
        if guest.power not in allowed:
            raise NodeFault(f"server {server_id} is {guest.power}: {operation} is not possible")
        await self._suffer(guest, operation)
        return self._become(guest, power)

    # ------------------------------------------------------------------------------------------ power

    async def power_on(self, spec: ServerSpec) -> GuestState:
        guest = self._find(spec.id)
        if guest.power in ("running", "paused"):
            return _state(guest)
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
        await self._suffer(guest, "snapshot")
        await asyncio.to_thread(qcow2.write_empty, target, guest.root_bytes or GIB)

    async def attach_nic(self, spec: ServerSpec, nic: NicSpec) -> None:
        await self._suffer(self._find(spec.id), "attach_nic")

    async def detach_nic(self, server_id: str, port_id: str) -> None:
        await self._suffer(self._find(server_id), "detach_nic")

    async def attach_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        await self._suffer(self._find(spec.id), "attach_volume")

    async def detach_volume(self, server_id: str, volume_id: str) -> None:
        await self._suffer(self._find(server_id), "detach_volume")

    # --------------------------------------------------------------------------------------- consoles

    async def console_log(self, server_id: str, lines: int | None) -> bytes:
        text = _console(self._find(server_id), self._settings.hostname)
        if lines is not None:
            text = "\n".join(text.split("\n")[-lines:]) if lines > 0 else ""
        return text.encode()

    async def vnc_socket(self, server_id: str) -> Path:
        self._find(server_id)
        raise NodeFault("a fake guest has no screen")

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


def _state(guest: FakeGuest) -> GuestState:
    return GuestState(id=guest.id, power=guest.power, vcpus=guest.vcpus, memory_mib=guest.memory_mib)


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
        f"started:  {started}",
        f"starts:   {guest.starts}",
        f"rescued:  {'yes' if guest.rescued else 'no'}",
        f"faults:   {told or 'none'}",
    )
    return "\n".join(lines) + "\n"
