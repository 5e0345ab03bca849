"""Copies of a root disk as one self-contained qcow2, from a running guest and from one at rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.imagetool import ImageTool
from pileus.node.hypervisor.qemu.monitor import Event, Monitor, QmpError

JOB = "snapshot"
NODE = "snapshot"
FDSET = 1
STALLED = 300.0
"""Seconds without progress after which a copy is given up."""


class Target:
    """A file of ours that QEMU's account may write to for as long as the copy takes."""

    def __init__(self, path: Path, tool: ImageTool) -> None:
        self.path = path
        self.who = tool.who
        self.fd = -1

    def __enter__(self) -> int:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        if self.who.uid is not None and self.who.gid is not None:
            os.fchown(self.fd, self.who.uid, self.who.gid)
        return self.fd

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.who.uid is not None:
            os.fchown(self.fd, os.geteuid(), os.getegid())
        if kind is None:
            os.fsync(self.fd)
        else:
            self.path.unlink(missing_ok=True)
        os.close(self.fd)


def at_rest(tool: ImageTool, chain: dict[str, Any], disk: Path, target: Path) -> None:
    """Copy the disk of a guest that does not run. Blocks. Raises NodeFault."""
    size = tool.virtual_size(disk, "qcow2")
    with Target(target, tool) as fd:
        tool.flatten(chain, fd, size)


async def live(monitor: Monitor, tool: ImageTool, target: Path) -> None:
    """Copy the disk of a running guest as it is at this moment, while the guest goes on writing.

    Raises NodeFault; then there is no target file."""
    await clear(monitor)
    nodes = await monitor.execute("query-named-block-nodes", flat=True)
    size = next(node["image"]["virtual-size"] for node in nodes if node.get("node-name") == "root")
    holder = Target(target, tool)
    fd = await asyncio.to_thread(holder.__enter__)
    try:
        await asyncio.to_thread(tool.create_in, fd, size)
        name = await monitor.add_fd(fd, FDSET)
        target_node = {"driver": "qcow2", "node-name": NODE, "file": {"driver": "file", "filename": name}}
        try:
            await monitor.execute("blockdev-add", **target_node)
            await _copy(monitor)
        finally:
            with contextlib.suppress(NodeFault):
                await clear(monitor)
    except BaseException as error:
        holder.__exit__(type(error), error, None)
        raise
    await asyncio.to_thread(holder.__exit__, None, None, None)


async def _copy(monitor: Monitor) -> None:
    def concluded(name: str, data: Event) -> bool:
        return name == "JOB_STATUS_CHANGE" and data["id"] == JOB and data["status"] == "concluded"

    async with monitor.expect(concluded) as done:
        options = {"sync": "full", "auto-finalize": True, "auto-dismiss": False}
        await monitor.execute("blockdev-backup", job_id=JOB, device="root", target=NODE, **options)
        progress = -1
        while not done.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(done), STALLED)
            now = await _job(monitor)
            if not done.done() and (now is None or now["current-progress"] <= progress):
                raise NodeFault(f"the copy of the disk made no progress for {STALLED:.0f} seconds")
            progress = now["current-progress"] if now else progress
        await done
    job = await _job(monitor)
    if job is not None and job.get("error"):
        raise NodeFault(f"the copy of the disk failed: {job['error']}")


async def _job(monitor: Monitor) -> dict[str, Any] | None:
    for job in await monitor.execute("query-jobs"):
        if job["id"] == JOB:
            return dict(job)
    return None


async def clear(monitor: Monitor) -> None:
    """Remove what a copy leaves in QEMU, whole or cut off."""
    for _ in range(200):
        job = await _job(monitor)
        if job is None:
            break
        with contextlib.suppress(QmpError):
            await monitor.execute("job-dismiss" if job["status"] == "concluded" else "job-cancel", id=JOB)
        await asyncio.sleep(0.02)
    with contextlib.suppress(QmpError):
        await monitor.execute("blockdev-del", node_name=NODE)
    with contextlib.suppress(QmpError):
        await monitor.execute("remove-fd", fdset_id=FDSET)
