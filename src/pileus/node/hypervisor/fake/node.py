"""A fake node: its guests in the journal, and those that end by themselves."""

from __future__ import annotations

import asyncio
import platform
import time
from pathlib import Path

import msgspec

from pileus.node.contract import GuestEvent, GuestGone, GuestState, HypervisorFacts, NodeFault, ServerSpec
from pileus.node.hypervisor import uptime
from pileus.node.hypervisor.fake import faults
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


class FakeNode:
    """What every operation on a fake guest stands on."""

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
        return [state_of(guest) for guest in self._journal.guests.values()]

    async def guest(self, server_id: str) -> GuestState:
        return state_of(self._find(server_id))

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
        guest.power, guest.phase = power, ""
        if started:
            guest.started = time.time()
            guest.starts += 1
        self._journal.put(guest)
        self._arm(guest)
        return state_of(guest)

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
        guest.volumes = tuple(volume.volume_id for volume in spec.volumes)
        guest.faults = faults.told(spec)

    async def _make(self, spec: ServerSpec, operation: str) -> FakeGuest:
        """A guest that was not here before."""
        told = faults.told(spec)
        await faults.suffer(told, operation, self._settings.hostname)
        for name in ENDS:
            faults.seconds(told, name, self._settings.hostname)
        guest = FakeGuest(id=spec.id, name=spec.name, power="shutdown", vcpus=0, memory_mib=0, root_bytes=0)
        self._take(guest, spec)
        return guest


def state_of(guest: FakeGuest) -> GuestState:
    """A fake guest as it is told of."""
    return GuestState(id=guest.id, power=guest.power, vcpus=guest.vcpus, memory_mib=guest.memory_mib)
