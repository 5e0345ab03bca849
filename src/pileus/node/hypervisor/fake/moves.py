"""Fake guests that go from one node to another, of which time is all that passes."""

from __future__ import annotations

import asyncio
import time

from pileus.node.contract import (
    GuestGone,
    GuestState,
    MoveProgress,
    MoveSource,
    MoveTarget,
    NodeFault,
    Progress,
    ServerSpec,
)
from pileus.node.hypervisor.fake import faults
from pileus.node.hypervisor.fake.node import FakeNode, FakeSettings, state_of

MIB = 1 << 20


class Sending:
    """A fake guest on its way, for so many seconds; for ever if it hangs."""

    def __init__(self, seconds: float, hangs: bool, memory_mib: int) -> None:
        self._since = time.monotonic()
        self._seconds = seconds
        self._hangs = hangs
        self._total = memory_mib * MIB
        self._told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def arrive(self) -> None:
        """Wait until it is there, or was forced to be. Raises NodeFault when it was aborted."""
        try:
            told = await asyncio.wait_for(self._told, None if self._hangs else self._seconds)
        except TimeoutError:
            return
        if told == "abort":
            raise NodeFault("the move was aborted")

    def tell(self, what: str) -> None:
        """`abort` or `force` it."""
        if not self._told.done():
            self._told.set_result(what)

    def progress(self) -> MoveProgress:
        """Its memory is written with an even hand, a hanging one's never to more than the half."""
        part = min(1.0, (time.monotonic() - self._since) / self._seconds) if self._seconds else 0.5
        done = int(self._total * (part / 2 if self._hangs else part))
        return MoveProgress(memory_total=self._total, memory_done=done, memory_left=self._total - done)


class Moves(FakeNode):
    """The methods of the contract that are about moves."""

    def __init__(self, settings: FakeSettings) -> None:
        super().__init__(settings)
        self._sending: dict[str, Sending] = {}

    async def export_disks(self, server_id: str) -> MoveSource:
        guest = self._find(server_id)
        if guest.power not in ("shutdown", "crashed"):
            raise NodeFault(f"server {server_id} is {guest.power}: its disks can be given out when it is off")
        await self._suffer(guest, "export_disks")
        guest.phase = "exported"
        self._journal.put(guest)
        return MoveSource(host="", secret="", disks={})

    async def end_export(self, server_id: str) -> None:
        guest = self._find(server_id)
        await self._suffer(guest, "end_export")
        if guest.phase == "exported":
            self._become(guest, guest.power)

    async def fetch_disks(self, spec: ServerSpec, source: MoveSource, progress: Progress | None = None) -> None:
        if spec.id not in self._journal.guests:
            self._become(await self._make(spec, "fetch_disks"), "shutdown")

    async def layout(self, server_id: str) -> str:
        """Whether it runs or is paused: a machine it has not."""
        guest = self._find(server_id)
        if guest.power not in ("running", "paused"):
            raise NodeFault(f"server {server_id} is {guest.power}: it has to run to be moved running")
        await self._suffer(guest, "layout")
        return guest.power

    async def take_in(self, spec: ServerSpec, layout: str) -> MoveTarget:
        guest = self._journal.guests.get(spec.id)
        if guest is None or guest.power not in ("running", "paused"):
            guest = await self._make(spec, "take_in")
            guest.phase, guest.arrives = "incoming", layout or "running"
            self._journal.put(guest)
        elif guest.phase != "incoming":
            raise NodeFault(f"server {spec.id} runs here already")
        return MoveTarget(host="", secret="", memory_port=0)

    async def send(self, server_id: str, target: MoveTarget, progress: Progress | None = None) -> None:
        guest = self._find(server_id)
        if guest.phase == "moved":
            return
        if guest.power not in ("running", "paused"):
            raise NodeFault(f"server {server_id} is {guest.power}: it has to run to be moved running")
        node = self._settings.hostname
        seconds = faults.seconds(guest.faults, "send_delay", node) or 0.0
        sending = self._sending[server_id] = Sending(
            seconds, faults.hangs(guest.faults, "send", node), guest.memory_mib
        )
        try:
            await sending.arrive()
        finally:
            if self._sending.get(server_id) is sending:
                del self._sending[server_id]
        if self._journal.guests.get(server_id) is not guest:
            raise GuestGone(f"server {server_id} was removed from this node")
        faults.fail(guest.faults, "send", node)
        if guest.power not in ("running", "paused"):
            raise NodeFault(f"server {server_id} is {guest.power}: it ended while it was moved")
        self._become(guest, "shutdown")
        guest.phase = "moved"
        self._journal.put(guest)

    async def taken(self, spec: ServerSpec) -> GuestState:
        guest = self._find(spec.id)
        await self._suffer(guest, "taken")
        if guest.phase == "incoming":
            self._become(guest, guest.arrives, started=True)
        if guest.power not in ("running", "paused"):
            raise NodeFault(f"server {spec.id} did not arrive here: it is {guest.power}")
        return state_of(guest)

    async def move_progress(self, server_id: str) -> MoveProgress:
        self._find(server_id)
        sending = self._sending.get(server_id)
        return sending.progress() if sending else MoveProgress()

    async def abort_move(self, server_id: str) -> None:
        self._find(server_id)
        if server_id in self._sending:
            self._sending[server_id].tell("abort")

    async def force_move(self, server_id: str) -> None:
        self._find(server_id)
        if server_id in self._sending:
            self._sending[server_id].tell("force")
