"""Sending a running guest to the node that takes it in: disks by mirrors, then memory, then the word.

The guest is always safe here until its move is complete: whatever fails before leaves it running as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from pileus.node.contract import MoveProgress, MoveTarget, NodeFault, Progress
from pileus.node.hypervisor.qemu import layout, ports, psk, word
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.incoming import CREDENTIALS, capabilities
from pileus.node.hypervisor.qemu.monitor import Event, Monitor, QmpError

_LOG = logging.getLogger("pileus.node")
JOB = "move-"  # begins the names of the mirrors and of the block nodes that they write to
STALLED = 60.0
"""Seconds without progress after which a move is given up."""
GOING = frozenset({"setup", "wait-unplug", "active", "pre-switchover", "device", "cancelling"})
ENOUGH = 1 << 40
"""Bytes a second: the network sets the pace."""


async def send(guest: Guest, target: MoveTarget, progress: Progress | None = None) -> None:
    """Move a guest, or go on with a move that an earlier agent began. The caller holds the lock.

    Raises NodeFault when it did not go; it runs here then."""
    record = guest.record
    if record.phase == "moved":
        return await finish(guest)
    monitor = guest.qmp()
    try:
        if not (record.phase == "sending" and record.target == target and await going(monitor)):
            await clear(guest)
            await _begin(guest, monitor, target)
        await _watch(guest, monitor, target, progress)
    except BaseException:
        with contextlib.suppress(NodeFault):
            await asyncio.shield(clear(guest))
        raise
    return await finish(guest)


async def going(monitor: Monitor) -> bool:
    """Whether a guest's memory is on its way, or is gone. One that has itself arrived here is "completed" too."""
    if (await monitor.execute("query-status"))["status"] == "postmigrate":
        return True
    return (await monitor.execute("query-migrate")).get("status") in GOING


async def _begin(guest: Guest, monitor: Monitor, target: MoveTarget) -> None:
    record, host = guest.record, guest.host
    mine = await layout.of(guest)
    if set(target.disks) != set(mine.disks) and (target.disks or not record.storage):
        raise NodeFault(f"server {guest.spec.id}: its new node has not made ready for all of its disks")
    guest.abort = False
    record.phase, record.target, record.resumes = "sending", target, mine.power
    await guest.save()
    await asyncio.to_thread(psk.write, guest.files.moving, target.secret, host.who)
    credentials = {"dir": str(guest.files.moving), "endpoint": "client", "username": psk.USER}
    await monitor.execute("object-add", qom_type="tls-creds-psk", id=CREDENTIALS, **credentials)
    await asyncio.to_thread(psk.remove, guest.files.moving)
    for disk in target.disks:
        await _mirror(monitor, target, disk)
    await _mirrored(guest, monitor, target)
    await monitor.execute("migrate-set-capabilities", capabilities=capabilities())
    parameters = {"tls_creds": CREDENTIALS, "tls_hostname": "", "max_bandwidth": ENOUGH}
    await monitor.execute("migrate-set-parameters", **parameters)
    if loses_writes(host.accel, host.version):
        await monitor.execute("stop")
    await monitor.execute("migrate", uri=ports.uri(target.host, target.memory_port))


def loses_writes(accel: str, version: int) -> bool:
    """Whether this QEMU does not see all that a running guest writes while its memory is copied.

    Under TCG before 9.0 it forgets to look at pages again that it has sent once (QEMU commit 03bfc2188f06): one move of
    forty ended with the guest's kernel in a fault. There the guest has to stand still as long as its memory takes."""
    return accel == "tcg" and version < 9_000_000


async def _mirror(monitor: Monitor, target: MoveTarget, disk: str) -> None:
    server = {"type": "inet", "host": target.host, "port": str(target.disks_port)}
    node = {"driver": "nbd", "server": server, "export": disk, "tls-creds": CREDENTIALS}
    node |= {"discard": "unmap"}  # what is empty here stays so there
    await monitor.execute("blockdev-add", node_name=JOB + disk, **node)
    # What the guest's image has is at its new node already.
    sync = "top" if disk == "root" else "full"
    options = {"sync": sync, "copy_mode": "write-blocking", "auto_dismiss": False}
    await monitor.execute("blockdev-mirror", job_id=JOB + disk, device=disk, target=JOB + disk, **options)


async def jobs(monitor: Monitor) -> dict[str, dict[str, Any]]:
    """The mirrors that there are, by disk."""
    found = await monitor.execute("query-jobs")
    return {job["id"].removeprefix(JOB): job for job in found if job["id"].startswith(JOB)}


def _changed(name: str, data: Event) -> bool:
    return name in ("MIGRATION", "JOB_STATUS_CHANGE", "BLOCK_JOB_READY")


class _Patience:
    """Raises NodeFault when a figure has not changed for too long."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last: object = None
        self._since = time.monotonic()

    def look(self, figure: object) -> None:
        if figure != self._last:
            self._last, self._since = figure, time.monotonic()
        elif time.monotonic() - self._since > STALLED:
            raise NodeFault(f"{self._what} made no progress for {STALLED:.0f} seconds")


async def _next(change: asyncio.Future[Event]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(change), 1.0)


def _heed(guest: Guest) -> None:
    if guest.abort:
        raise NodeFault(f"the move of server {guest.spec.id} was aborted")


async def _mirrored(guest: Guest, monitor: Monitor, target: MoveTarget) -> None:
    """Wait until every mirror keeps up with the guest."""
    patience = _Patience("the copy of the disks")
    while target.disks:
        async with monitor.expect(_changed) as change:
            _heed(guest)
            found = await jobs(monitor)
            _sound(found, target)
            if all(found[disk]["status"] == "ready" for disk in target.disks):
                return
            patience.look([job["current-progress"] for job in found.values()])
            await _next(change)


def _sound(found: dict[str, dict[str, Any]], target: MoveTarget) -> None:
    for disk in target.disks:
        job = found.get(disk)
        if job is None or job["status"] in ("aborting", "concluded", "null"):
            why = (job or {}).get("error", "the copy ended")
            raise NodeFault(f"disk {disk} could not be copied to the new node: {why}")


async def _watch(guest: Guest, monitor: Monitor, target: MoveTarget, progress: Progress | None) -> None:
    """See the memory go, until all of it is there."""
    patience = _Patience("the copy of the memory")
    switched = False
    while True:
        async with monitor.expect(_changed) as change:
            info = await monitor.execute("query-migrate")
            status, ram = info.get("status"), info.get("ram", {})
            if status == "completed":
                return await _gone(monitor)
            if status in (None, "failed", "cancelled"):
                _heed(guest)
                why = info.get("error-desc", f"it is {status}")
                raise NodeFault(f"the memory of server {guest.spec.id} could not be moved: {why}")
            if status != "device":
                _heed(guest)
            if status == "pre-switchover" and not switched:
                await _switch_over(monitor, target)
                switched = True  # QEMU may say the same once more before it goes on
                continue
            if progress is not None:
                progress("memory", ram.get("total", 0) - ram.get("remaining", 0), ram.get("total", 0))
            patience.look((status, ram.get("transferred")))
            await _next(change)


async def _switch_over(monitor: Monitor, target: MoveTarget) -> None:
    """The guest stands still: end its mirrors, each of them complete, and let its new node have the disks.

    While a mirror is there, the destination cannot take the locks of the disks."""
    # One that is not there any more was ended here by an agent that was killed then.
    for disk in await jobs(monitor):
        with contextlib.suppress(QmpError):
            await monitor.execute("block-job-cancel", device=JOB + disk)
    await _dismiss(monitor, forced=False)
    for disk in target.disks:
        with contextlib.suppress(QmpError):
            await monitor.execute("blockdev-del", node_name=JOB + disk)
    with contextlib.suppress(QmpError):  # another agent has told it just before it was killed
        await monitor.execute("migrate-continue", state="pre-switchover")


async def _gone(monitor: Monitor) -> None:
    for _ in range(1000):
        if (await monitor.execute("query-status"))["status"] == "postmigrate":
            return
        await asyncio.sleep(0.005)
    raise NodeFault("the guest's memory is away, but its QEMU does not say so")


async def _dismiss(monitor: Monitor, *, forced: bool) -> None:
    """Wait for the end of mirrors that were told to end. Raises NodeFault if one failed, unless `forced`."""
    for _ in range(2000):
        found = await jobs(monitor)
        if all(job["status"] == "concluded" for job in found.values()):
            break
        await asyncio.sleep(0.01)
    for disk, job in found.items():
        if job.get("error") and not forced:
            raise NodeFault(f"disk {disk} could not be copied to the new node: {job['error']}")
    for disk in found:
        with contextlib.suppress(QmpError):
            await monitor.execute("job-dismiss", id=JOB + disk)


async def clear(guest: Guest) -> None:
    """Let the guest be as it was before its move. Raises MonitorGone if its QEMU does not answer."""
    monitor, record = guest.qmp(), guest.record
    if (await monitor.execute("query-migrate")).get("status") in GOING:
        await monitor.execute("migrate_cancel")
        for _ in range(1500):
            if (await monitor.execute("query-migrate")).get("status") not in GOING:
                break
            await asyncio.sleep(0.02)
    for disk in await jobs(monitor):
        with contextlib.suppress(QmpError):
            await monitor.execute("block-job-cancel", device=JOB + disk, force=True)
    await _dismiss(monitor, forced=True)
    for node in await monitor.execute("query-named-block-nodes", flat=True):
        if node.get("node-name", "").startswith(JOB):
            with contextlib.suppress(QmpError):
                await monitor.execute("blockdev-del", node_name=node["node-name"])
    await monitor.execute("migrate-set-parameters", tls_creds="")
    with contextlib.suppress(QmpError):
        await monitor.execute("object-del", id=CREDENTIALS)
    await monitor.execute("migrate-set-capabilities", capabilities=capabilities(on=False))
    status = (await monitor.execute("query-status"))["status"]
    # Its new node has not got the word, and so may have all of it, but does not run it.
    if record.resumes == "running" and status in ("paused", "postmigrate", "finish-migrate"):
        await monitor.execute("cont")
        guest.paused = False
    if record.phase == "sending":
        record.phase, record.target, record.resumes = "", None, ""
        await guest.save()
    await asyncio.to_thread(psk.remove, guest.files.moving)


async def finish(guest: Guest) -> None:
    """The guest's new node has all of it: record that it never runs here again, then tell, then end its QEMU.

    From here on there is no way back, and so whoever cancels this waits for its end."""
    work = asyncio.ensure_future(_finish(guest))
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    work.result()


async def _finish(guest: Guest) -> None:
    record = guest.record
    target = record.target
    record.lent = record.lent or (target is not None and not target.disks and record.storage != "")
    record.phase, record.power = "moved", "shutdown"
    await guest.save()
    if target is not None and guest.running:  # its QEMU ends when the word was given
        await word.give(guest.spec.id, target)
    await guest.end("shutdown", at_once=True)


async def carry_on(guest: Guest) -> None:
    """After a restart of the agent: bring a move to its end, or take it back if it had hardly begun."""
    async with guest.lock:
        record, monitor = guest.record, guest.monitor
        if record.phase == "moved":
            return await finish(guest)
        if record.phase != "sending" or monitor is None or record.target is None:
            return
        try:
            if await going(monitor):
                await _watch(guest, monitor, record.target, None)
                return await finish(guest)
        except NodeFault as error:
            _LOG.warning("%s", error)
        with contextlib.suppress(NodeFault):
            await clear(guest)
            if (await monitor.execute("query-status"))["status"] == "shutdown":  # meanwhile, by itself
                await guest.end("shutdown")
    if not guest.running:
        await guest.host.tell(guest.spec.id, guest.power)


async def progress_of(guest: Guest) -> MoveProgress:
    """How far a guest's move is; all zero when there is none."""
    monitor = guest.monitor
    if guest.record.phase != "sending" or monitor is None:
        return MoveProgress()
    ram = (await monitor.execute("query-migrate")).get("ram", {}) if await going(monitor) else {}
    found = (await jobs(monitor)).values()
    total, done = (sum(job[name] for job in found) for name in ("total-progress", "current-progress"))
    return MoveProgress(
        memory_total=ram.get("total", 0),
        memory_done=ram.get("transferred", 0),
        memory_left=ram.get("remaining", 0),
        disk_total=total,
        disk_done=done,
        disk_left=max(0, total - done),
    )
