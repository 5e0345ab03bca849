"""A node that runs no guests: of the network, or of storage."""

from __future__ import annotations

import platform
import time
from typing import Any

from pileus.node.contract import GuestEvent, GuestGone, GuestState, HypervisorFacts, NodeFault
from pileus.node.hypervisor import uptime


class NoGuests:
    """Knows no guest; whatever needs one is refused."""

    name = "none"

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname

    async def start(self, on_event: GuestEvent) -> None:
        """Nothing to adopt."""

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def facts(self) -> HypervisorFacts:
        return HypervisorFacts(
            hypervisor_type="none", hypervisor_version=0, accelerator="none", hostname=self._hostname,
            architecture=platform.machine(), vcpus=0, memory_mib=0, disk_gib=0,
        )

    async def uptime(self) -> str:
        return uptime.text(time.time(), time.monotonic())

    async def guests(self) -> list[GuestState]:
        return []

    async def guest(self, server_id: str) -> GuestState:
        raise GuestGone(server_id)

    def images_in_use(self) -> set[str]:
        return set()

    async def destroy(self, server_id: str) -> None:
        """There is no such guest, which is what was wanted."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> None:
            raise NodeFault(f"this node runs no guests (its roles lack compute); it was asked for '{name}'")

        if name.startswith("_"):
            raise AttributeError(name)
        return refuse
