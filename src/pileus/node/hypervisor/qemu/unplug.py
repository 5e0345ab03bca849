"""Whether a guest has a device, and taking it out, for which the guest has to let go of it first."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.monitor import Event, Monitor, QmpError

AGAIN = 5.0
"""Seconds after which the guest is asked again: one that is booting misses the first request."""


async def plugged(monitor: Monitor, device: str) -> bool:
    """Whether QEMU has this device, whatever is recorded. Raises NodeFault."""
    found = await monitor.execute("qom-list", path="/machine/peripheral")
    return any(item["name"] == device for item in found)


async def unplug(monitor: Monitor, device: str, within: float) -> None:
    """Ask the guest until it lets go of a device; returns at once if there is none of that name.

    Raises NodeFault after `within` seconds; the device is then still the guest's."""
    until = time.monotonic() + within

    def gone(name: str, data: Event) -> bool:
        return name == "DEVICE_DELETED" and data.get("device") == device

    async with monitor.expect(gone) as deleted:
        while True:
            try:
                await monitor.execute("device_del", id=device)
            except QmpError as error:
                if error.kind == "DeviceNotFound":
                    return
                if "in the process of unplug" not in error.reason:
                    raise
            left = until - time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(deleted), max(0.01, min(AGAIN, left)))
                return
            if time.monotonic() >= until:
                raise NodeFault(
                    f"the guest did not let go of {device} within {within:.0f} seconds:"
                    " it must run, and nothing in it may use the device; then try again"
                )
