"""How a running guest's machine is put together: what its next node must make the very same."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pileus.node.contract import NodeFault, ServerSpec
from pileus.node.hypervisor.qemu import disks, facts
from pileus.node.hypervisor.qemu.disks import volume_device
from pileus.node.hypervisor.qemu.files import Record
from pileus.node.hypervisor.qemu.host import Host

if TYPE_CHECKING:
    from pileus.node.hypervisor.qemu.guest import Guest

MARK = ".move-"
LOCAL = ("root", "ephemeral0", "swap", "config")


class Layout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about a machine that the server's description does not say."""

    accel: str
    machine: str  # "pc-q35-7.2"
    cpu: str
    cpu_host: str = ""  # what `cpu` stands for on its node, where that is not the same everywhere
    ports: int
    slots: dict[str, int]
    scsi: dict[str, int] = {}
    disks: dict[str, int]  # size in bytes of each disk in the node's files, by block node
    storage: str = ""  # the folder of the disks, where that may be on storage that is shared
    mark: str = ""  # a file that was put into it just now
    power: str = "running"  # or "paused"


def default_cpu(accel: str) -> str:
    """The processor of a guest for which nothing is set."""
    return "host" if accel == "kvm" else "max"


def cpu_host(cpu: str, version: int) -> str:
    """What tells a processor that is not everywhere the same; empty for one that is. Blocks."""
    if cpu == "host":
        flags = hashlib.sha256(facts.cpuinfo("flags").encode()).hexdigest()
        return f"{facts.cpuinfo('model name')} {flags[:16]}"
    return f"QEMU {version}" if cpu == "max" else ""


async def of(guest: Guest) -> Layout:
    """The layout of a guest that runs. Raises NodeFault for one whose machine cannot be made elsewhere."""
    monitor, record, host = guest.qmp(), guest.record, guest.host
    spec = guest.spec
    if spec.rescue_image is not None:
        raise NodeFault(f"server {spec.id} is being rescued: unrescue it before it is moved")
    if disks.bus(spec) == "scsi" and any(volume_device(v.volume_id) not in record.scsi for v in spec.volumes):
        raise NodeFault(f"server {spec.id} was started by an older release: reboot it hard before it is moved")
    nodes = await monitor.execute("query-named-block-nodes", flat=True)
    sizes = {node["node-name"]: int(node["image"]["virtual-size"]) for node in nodes if "node-name" in node}
    cpu = record.cpu or default_cpu(host.accel)
    return Layout(
        accel=host.accel,
        machine=record.machine,
        cpu=cpu,
        cpu_host=await asyncio.to_thread(cpu_host, cpu, host.version),
        ports=record.ports,
        slots=record.slots,
        scsi=record.scsi,
        disks={name: sizes[name] for name in LOCAL if name in sizes},
        storage=record.storage,
        mark=await asyncio.to_thread(_mark, guest.files.disks) if record.storage else "",
        power="paused" if guest.paused else "running",
    )


def encode(layout: Layout) -> str:
    """A layout as it travels in a task: JSON."""
    return msgspec.json.encode(layout).decode()


def decode(text: str, host: Host, spec: ServerSpec) -> Layout:
    """A layout that another node told. Raises NodeFault if such a machine is not possible here. Blocks."""
    try:
        layout = msgspec.json.decode(text, type=Layout)
    except msgspec.DecodeError as error:
        raise NodeFault(f"the machine of server {spec.id} is not described in a way known here: {error}") from None
    if layout.accel != host.accel:
        why = f"runs under {layout.accel}, this node has {host.accel}"
        raise NodeFault(f"server {spec.id} {why}: move it when it is off")
    mine = cpu_host(layout.cpu, host.version)
    if layout.cpu_host != mine:
        raise NodeFault(
            f"server {spec.id} sees the processor '{layout.cpu}' of its node ({layout.cpu_host}), which here is"
            f" another ({mine}): set the same cpu_model on both nodes, or move it when it is off"
        )
    if not set(layout.disks) <= set(LOCAL):
        raise NodeFault(f"server {spec.id} has disks that are not known here: {', '.join(layout.disks)}")
    known = rf"{re.escape(spec.id)}\.[0-9a-f]{{8}}"
    if layout.storage and not (re.fullmatch(known, layout.storage) and re.fullmatch(r"\.move-[0-9a-f]+", layout.mark)):
        raise NodeFault(f"'{layout.storage}' is no folder of disks of server {spec.id}")
    return layout


def shared(layout: Layout, disks_dir: Path | None) -> bool:
    """Whether the disks are on storage that this node sees too: the file of this moment is there. Blocks."""
    return disks_dir is not None and layout.storage != "" and (disks_dir / layout.storage / layout.mark).exists()


def _mark(folder: Path) -> str:
    unmark(folder)
    name = MARK + secrets.token_hex(8)
    (folder / name).touch(mode=0o600)
    return name


def unmark(folder: Path) -> None:
    """Remove the marks of moves. Blocks."""
    for left in folder.glob(MARK + "*"):
        left.unlink(missing_ok=True)


def take(record: Record, layout: Layout) -> None:
    """Let a guest have the machine of a layout."""
    record.machine, record.cpu, record.ports = layout.machine, layout.cpu, layout.ports
    record.slots, record.scsi = dict(layout.slots), dict(layout.scsi)
    record.resumes = layout.power
