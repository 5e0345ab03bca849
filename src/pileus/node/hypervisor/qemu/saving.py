"""A guest's memory, saved to a file and taken up again. QEMU's sandbox leaves descriptors as the only way."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.files import settle
from pileus.node.hypervisor.qemu.monitor import Event, Monitor

STALLED = 300.0
"""Seconds without progress after which saving or loading is given up."""


async def save(monitor: Monitor, memory: Path) -> None:
    """Write the memory of a stopped guest into a file that is there only when it is complete.

    Raises NodeFault; the guest can then go on."""
    fresh = memory.with_name(memory.name + ".tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = await asyncio.to_thread(os.open, fresh, flags, 0o600)
    try:
        await monitor.send_fd("memory", fd)
        # The default is made for networks.
        await monitor.execute("migrate-set-parameters", max_bandwidth=1 << 40)
        await _migrate(monitor, "migrate")
        await asyncio.to_thread(os.fsync, fd)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    await asyncio.to_thread(settle, fresh, memory)


async def load(monitor: Monitor, memory: Path) -> None:
    """Fill a QEMU that waits for it (-incoming defer) with saved memory; it is stopped then. Raises NodeFault."""
    fd = await asyncio.to_thread(os.open, memory, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        await monitor.send_fd("memory", fd)
    finally:
        os.close(fd)
    await _migrate(monitor, "migrate-incoming")
    until = time.monotonic() + 10
    # "completed" is told a moment before the machine is ready.
    while (await monitor.execute("query-status"))["status"] == "inmigrate":
        if time.monotonic() > until:
            raise NodeFault("the saved memory was read, but the guest did not take it up")
        await asyncio.sleep(0.005)


async def _migrate(monitor: Monitor, command: str) -> None:
    def finished(name: str, data: Event) -> bool:
        return name == "MIGRATION" and data["status"] in ("completed", "failed", "cancelled")

    # What a move between nodes has left, if it was cut off.
    wanted = {"events": True, "pause-before-switchover": False, "return-path": False, "late-block-activate": False}
    capabilities = [{"capability": name, "state": state} for name, state in wanted.items()]
    await monitor.execute("migrate-set-capabilities", capabilities=capabilities)
    await monitor.execute("migrate-set-parameters", tls_creds="")
    async with monitor.expect(finished) as end:
        await monitor.execute(command, uri="fd:memory")
        done = -1
        while not end.done():
            try:
                await asyncio.wait_for(asyncio.shield(end), STALLED)
            except TimeoutError:
                now = int((await monitor.execute("query-migrate")).get("ram", {}).get("transferred", 0))
                if now <= done:
                    raise NodeFault(f"the guest's memory made no progress for {STALLED:.0f} seconds") from None
                done = now
        status = (await end)["status"]
    if status != "completed":
        why = (await monitor.execute("query-migrate")).get("error-desc", status)
        raise NodeFault(f"the guest's memory could not be {'saved' if command == 'migrate' else 'loaded'}: {why}")
