"""Taking in a guest that runs on another node: a QEMU that waits, its disks to be filled, and the word to let it go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import MoveTarget, NodeFault
from pileus.node.hypervisor.qemu import disks, layout, ports, psk, word
from pileus.node.hypervisor.qemu.disks import Bases
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.layout import Layout
from pileus.node.hypervisor.qemu.monitor import Monitor, QmpError

_LOG = logging.getLogger("pileus.node")
CREDENTIALS = "move-tls"
SERVER = "move-server"
FILL = "move-fill-"  # block nodes that write what the guest itself may only read
CAPABILITIES = ("events", "pause-before-switchover", "return-path", "late-block-activate")
"""What is switched on for a move, on both sides; the last one concerns the destination alone. The return path makes a
move complete at the source only when the destination has understood all of it."""
ARRIVAL = 30.0
"""Seconds that a guest may take from the last of its memory to being ready to run."""


def capabilities(*, on: bool = True) -> list[dict[str, Any]]:
    """The argument of migrate-set-capabilities."""
    return [{"capability": name, "state": on} for name in CAPABILITIES]


def make_disks(host: Host, files: GuestFiles, bases: Bases, wanted: Layout, base_format: str) -> None:
    """Make empty disks of the sizes that they have on the other node, new in any case. Blocks. Raises NodeFault."""
    disks.discard(files)
    raw = {"ephemeral0": files.ephemeral, "swap": files.swap, "config": files.config}
    for name, size in wanted.disks.items():
        if name in raw:
            host.tool.create_empty(raw[name], size)
        elif bases.root is not None:
            host.tool.create_overlay(files.root, bases.root, base_format, size)
    host.tool.create_empty(files.console, 0)


async def stand_by(guest: Guest, wanted: Layout, *, shared: bool) -> MoveTarget:
    """Start a QEMU that waits for the guest. The caller has made its folders. Raises NodeFault."""
    host, record, spec = guest.host, guest.record, guest.spec
    ports.own_address(host.settings)
    layout.take(record, wanted)
    bases = await guest.bases()
    if shared:
        await asyncio.to_thread(host.tool.create_empty, guest.files.console, 0)
    else:
        base_format = spec.image.disk_format if spec.image else ""
        await asyncio.to_thread(make_disks, host, guest.files, bases, wanted, base_format)
    secret = psk.fresh()
    await asyncio.to_thread(psk.write, guest.files.moving, secret, host.who)
    async with guest.beginning(bases, True) as monitor:
        await guest.plug_volumes(monitor)
        await monitor.execute("object-add", **_credentials(guest.files.moving))
        await monitor.execute("migrate-set-capabilities", capabilities=capabilities())
        await monitor.execute("migrate-set-parameters", tls_creds=CREDENTIALS)
        names = () if shared else tuple(wanted.disks)
        disks_port = await _take_disks(guest, monitor, names) if names else 0
        target = MoveTarget(
            host=host.settings.address,
            secret=secret,
            memory_port=await _take_memory(guest, monitor),
            disks_port=disks_port,
            disks=names,
        )
        guest.record.target = await _listen(guest, target)
        record.phase, record.power = "incoming", "shutdown"
        guest.monitor, guest.paused = monitor, True
        await guest.save(spec=True)
    return guest.record.target


def _credentials(folder: Path) -> dict[str, Any]:
    return {"qom_type": "tls-creds-psk", "id": CREDENTIALS, "dir": str(folder), "endpoint": "server"}


async def _take_memory(guest: Guest, monitor: Monitor) -> int:
    settings = guest.host.settings
    for port in ports.candidates(settings):
        try:
            await monitor.execute("migrate-incoming", uri=ports.uri(settings.address, port))
        except QmpError as error:
            if "in use" not in error.reason:
                raise
        else:
            return port
    raise AssertionError("candidates() ends by an error")


async def _take_disks(guest: Guest, monitor: Monitor, names: tuple[str, ...]) -> int:
    with ports.listen(guest.host.settings) as made:
        await monitor.send_fd(SERVER, made.fileno())
        await monitor.execute(
            "nbd-server-start", addr={"type": "fd", "data": {"str": SERVER}}, tls_creds=CREDENTIALS
        )
        port = int(made.getsockname()[1])
    for name in names:
        node = name
        if name == "config":
            node = FILL + name
            options = {"driver": "file", "filename": str(guest.files.config)}
            await monitor.execute("blockdev-add", node_name=node, **options)
        await monitor.execute("block-export-add", type="nbd", id=node, node_name=node, name=name, writable=True)
    return port


async def _listen(guest: Guest, target: MoveTarget) -> MoveTarget:
    made = ports.listen(guest.host.settings)
    port = int(made.getsockname()[1])
    guest.word = await word.wait(made, guest.spec.id, target.secret, lambda: _hear(guest))
    return msgspec.structs.replace(target, word_port=port)


async def _hear(guest: Guest) -> bool:
    async with guest.lock:
        if guest.record.phase == "incoming":
            await arrive(guest)
        return guest.power in ("running", "paused", "shutdown") and guest.record.phase == ""


async def listen_again(guest: Guest) -> None:
    """After a restart of the agent: wait for the word where it was promised. If that cannot be, `taken` tells it."""
    target, settings = guest.record.target, guest.host.settings
    if target is None or guest.word is not None:
        return
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.address, target.word_port))
    except OSError as error:
        made.close()
        _LOG.warning("server %s: port %s is lost: %s", guest.spec.id, target.word_port, error)
        return
    guest.word = await word.wait(made, guest.spec.id, target.secret, lambda: _hear(guest))


async def arrive(guest: Guest) -> None:
    """Let a guest go whose memory is complete here, once it is sure that it runs nowhere else. Raises NodeFault."""
    monitor, record = guest.qmp(), guest.record
    status = await _complete(guest, monitor)
    target = record.target
    if target is not None and target.disks:
        # Told again after being killed, neither may be there any more.
        with contextlib.suppress(QmpError):
            await monitor.execute("nbd-server-stop")
        with contextlib.suppress(QmpError):
            await monitor.execute("blockdev-del", node_name=FILL + "config")
    runs = record.resumes != "paused"
    record.phase, record.target, record.lent = "", None, False
    record.power = "running"
    guest.paused = not runs
    # From here on it is a guest of this node; should this process end now, whoever finds it lets it go.
    await guest.save(spec=True)
    if status == "shutdown":
        await guest.end("shutdown")
        return
    if runs:
        await monitor.execute("cont")
        guest.paused = False
        await _announce(monitor)
    record.resumes = ""
    guest.hear_no_more()
    await guest.save()
    await _clean(guest, monitor)


async def _complete(guest: Guest, monitor: Monitor) -> str:
    until = time.monotonic() + ARRIVAL
    while True:
        info = await monitor.execute("query-migrate")
        status = str((await monitor.execute("query-status"))["status"])
        if info.get("status") == "completed" and status != "inmigrate":
            return status
        if info.get("status") == "failed" or time.monotonic() > until:
            why = info.get("error-desc", "its memory is not complete here")
            raise NodeFault(f"server {guest.spec.id} did not arrive: {why}")
        await asyncio.sleep(0.005)


async def _announce(monitor: Monitor) -> None:
    """Tell the network where the guest's addresses are now."""
    parameters = {"initial": 50, "max": 550, "rounds": 5, "step": 50}
    with contextlib.suppress(QmpError):
        await monitor.execute("announce-self", **parameters)


async def _clean(guest: Guest, monitor: Monitor) -> None:
    with contextlib.suppress(NodeFault):
        await monitor.execute("migrate-set-parameters", tls_creds="")
        await monitor.execute("object-del", id=CREDENTIALS)
        await monitor.execute("migrate-set-capabilities", capabilities=capabilities(on=False))
    await asyncio.to_thread(psk.remove, guest.files.moving)
    await asyncio.to_thread(layout.unmark, guest.files.disks)
