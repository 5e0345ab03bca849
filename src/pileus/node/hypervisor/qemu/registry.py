"""The guests of this node, each behind its lock: what every operation on one stands on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pileus.node.contract import GuestGone, ImageStore, TapSource
from pileus.node.hypervisor.qemu import exports
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.settings import QemuSettings


class Registry:
    """The guests by their servers' ids."""

    def __init__(self, settings: QemuSettings, images: ImageStore, taps: TapSource) -> None:
        self._host = Host(settings, images, taps)
        self._guests: dict[str, Guest] = {}

    def _find(self, server_id: str) -> Guest:
        try:
            return self._guests[server_id]
        except KeyError:
            raise GuestGone(f"server {server_id} is not on this node") from None

    @contextlib.asynccontextmanager
    async def _locked(self, server_id: str, *, remains: bool = False) -> AsyncIterator[Guest]:
        """A guest that nobody else changes meanwhile; what a move has not yet brought only on demand.

        Raises GuestGone, NodeFault."""
        guest = self._find(server_id)
        async with guest.lock:
            if self._guests.get(server_id) is not guest:
                raise GuestGone(f"server {server_id} was removed from this node")
            if not remains:
                guest.must_belong_here()
            yield guest

    async def _remove(self, guest: Guest) -> None:
        if guest.files.record.exists():
            await guest.end("shutdown", at_once=True)
        await exports.end(guest.files, guest.record)
        guest.hear_no_more()
        await asyncio.to_thread(guest.files.remove, disks=not guest.record.lent)
        self._guests.pop(guest.spec.id, None)
