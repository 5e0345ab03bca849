"""What every hypervisor driver promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pileus.node.contract import (
    GuestEvent,
    GuestState,
    HypervisorFacts,
    MoveProgress,
    MoveSource,
    MoveTarget,
    NicSpec,
    Progress,
    ServerSpec,
    VolumeSpec,
)


class Hypervisor(Protocol):
    """Makes and runs guests. Every method is idempotent: told twice, or after being killed half-way, it
    ends in the state asked for. Methods on an unknown guest raise GuestGone, but `destroy`, which returns.

    Guests outlive the agent; `start` adopts those that run.
    """

    name: str

    async def start(self, on_event: GuestEvent) -> None: ...
    async def stop(self) -> None:
        """Let go of all guests, which go on running."""
        ...

    async def facts(self) -> HypervisorFacts: ...
    async def uptime(self) -> str:
        """How long the host has run and how busy it is, as the program `uptime` words it."""
        ...

    async def guests(self) -> list[GuestState]: ...
    async def guest(self, server_id: str) -> GuestState: ...
    def images_in_use(self) -> set[str]:
        """The sha512 of every image on which a guest's disk stands here: the image cache has to keep them."""
        ...


    async def build(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        """Make the disks if they are missing and start the guest if it does not run."""
        ...

    async def rebuild(self, spec: ServerSpec, progress: Progress | None = None) -> GuestState:
        """New root disk from `spec.image`, and started."""
        ...

    async def destroy(self, server_id: str) -> None:
        """Stop at once and remove every file and device of the guest."""
        ...

    async def power_on(self, spec: ServerSpec) -> GuestState: ...
    async def power_off(self, server_id: str, timeout: float) -> GuestState:
        """Ask by ACPI and wait `timeout` seconds, then pull the plug; timeout 0 pulls it at once."""
        ...

    async def reboot(self, spec: ServerSpec, hard: bool, timeout: float) -> GuestState: ...
    async def pause(self, server_id: str) -> GuestState: ...
    async def unpause(self, server_id: str) -> GuestState: ...
    async def suspend(self, server_id: str) -> GuestState:
        """Save the guest's memory to disk and end its process."""
        ...

    async def resume(self, spec: ServerSpec) -> GuestState: ...
    async def rescue(self, spec: ServerSpec) -> GuestState: ...
    async def unrescue(self, spec: ServerSpec) -> GuestState: ...
    async def resize(self, spec: ServerSpec) -> GuestState:
        """The guest is off; grow its disks to the spec's and start it. Shrinking raises NodeFault."""
        ...

    async def snapshot(self, server_id: str, target: Path) -> None:
        """A complete, self-contained qcow2 file of the root disk, consistent as after a power cut."""
        ...

    async def export_disks(self, server_id: str) -> MoveSource:
        """The guest is off: give out its disks, read-only, until `end_export`, `power_on` or `destroy`. Told twice,
        the answer is the same while it lasts."""
        ...

    async def end_export(self, server_id: str) -> None: ...
    async def fetch_disks(self, spec: ServerSpec, source: MoveSource, progress: Progress | None = None) -> None:
        """Make the guest's disks here from those that another node gives out. Complete or not at all: the guest is this
        node's then, and off; `build` and `power_on` after it start the guest on them."""
        ...

    async def layout(self, server_id: str) -> str:
        """How a running guest's machine is put together, for `take_in`, which makes the very same: what was plugged in
        and out has left its traces. Nothing that a controller has to understand; good while nothing is done to it."""
        ...

    async def take_in(self, spec: ServerSpec, layout: str) -> MoveTarget:
        """Make ready for a guest that runs on another node: its disks where none are shared, its NICs, and a QEMU
        that waits for its memory. `destroy` takes it back. `layout` is the other node's answer about it."""
        ...

    async def send(self, server_id: str, target: MoveTarget, progress: Progress | None = None) -> None:
        """Move the running guest to where it is taken in; returns when it runs there and no longer here. Raises
        NodeFault when it did not go; then it runs here as before. Told again after being killed, it watches on."""
        ...

    async def taken(self, spec: ServerSpec) -> GuestState:
        """The guest has arrived: close what only the move needed."""
        ...

    async def move_progress(self, server_id: str) -> MoveProgress: ...
    async def abort_move(self, server_id: str) -> None:
        """End a move that goes on here: `send` raises. Nothing, when there is none."""
        ...

    async def force_move(self, server_id: str) -> None:
        """End a move now: pause the guest so that the rest of its memory can follow."""
        ...

    async def attach_nic(self, spec: ServerSpec, nic: NicSpec) -> None: ...
    async def detach_nic(self, server_id: str, port_id: str) -> None: ...
    async def attach_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None: ...
    async def detach_volume(self, server_id: str, volume_id: str) -> None: ...
    async def extend_volume(self, spec: ServerSpec, volume: VolumeSpec) -> None:
        """The volume has become larger where it is kept: let the guest see that, now if it runs."""
        ...

    async def swap_volume(
        self, spec: ServerSpec, volume_id: str, volume: VolumeSpec, progress: Progress | None = None
    ) -> None:
        """Put `volume` in the place of another, with all that is on that, while the guest goes on. Afterwards the
        guest has nothing to do with the old one, or, if it raises, with the new one."""
        ...

    async def console_log(self, server_id: str, lines: int | None) -> bytes: ...
    async def vnc_socket(self, server_id: str) -> Path:
        """The unix socket on which the guest's screen speaks RFB."""
        ...

    async def serial_socket(self, server_id: str) -> Path:
        """The unix socket that is the other end of the guest's first serial port. One at a time is connected."""
        ...

    async def set_password(self, server_id: str, user: str, password: str) -> None: ...
    async def inject_nmi(self, server_id: str) -> None:
        """A non-maskable interrupt, on which guests that are set up so dump their memory. The one method that is not
        idempotent: a second one may break the dump."""
        ...

    async def diagnostics(self, server_id: str) -> dict[str, Any]: ...
