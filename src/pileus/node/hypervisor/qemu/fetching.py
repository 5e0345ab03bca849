"""Copying the disks of a guest that is off from the node that gives them out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from pathlib import Path

from pileus.node.contract import ImageRef, MoveSource, NodeFault, Progress, ServerSpec
from pileus.node.hypervisor.qemu import disks, psk
from pileus.node.hypervisor.qemu.disks import Bases
from pileus.node.hypervisor.qemu.files import GuestFiles, Record
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.imagetool import Fresh
from pileus.node.hypervisor.qemu.watched import run_watched

EXTERNAL_DATA = 1 << 2  # of qcow2's incompatible features


def name_of(source: MoveSource) -> str:
    """What tells the disks of one move from those of another."""
    return hashlib.sha256(source.secret.encode()).hexdigest()[:32]


async def fetch(
    host: Host, spec: ServerSpec, files: GuestFiles, bases: Bases, source: MoveSource, progress: Progress | None
) -> None:
    """Copy every disk that is not here yet. Each is there complete or not at all. Raises NodeFault."""
    places = {"root": files.root, "ephemeral0": files.ephemeral, "swap": files.swap}
    unknown = set(source.disks) - set(places)
    if unknown:
        raise NodeFault(f"server {spec.id} has disks that are not known here: {', '.join(sorted(unknown))}")
    await asyncio.to_thread(psk.write, files.moving, source.secret, host.who)
    try:
        for number, (name, port) in enumerate(source.disks.items()):
            if progress is not None:
                progress(f"fetch {name}", number, len(source.disks))
            if not places[name].exists():
                await _copy(host, files, spec.image, bases, name, places[name], source.host, port)
    finally:
        await asyncio.to_thread(psk.remove, files.moving)


async def _copy(
    host: Host, files: GuestFiles, image: ImageRef | None, bases: Bases, name: str, place: Path, address: str, port: int
) -> None:
    with Fresh(place, host.who) as fresh:
        await _convert(host, files.moving, address, port, name, fresh)
        if name == "root":
            if image is None or bases.root is None:
                raise NodeFault("a root disk is given out of a server that has no image")
            await asyncio.to_thread(_stand_on, host, fresh, bases.root, image.disk_format)


def _stand_on(host: Host, overlay: Path, base: Path, base_format: str) -> None:
    with open(overlay, "rb") as file:
        header = file.read(80)
    if len(header) < 80 or header[:4] != b"QFI\xfb" or struct.unpack(">I", header[4:8])[0] != 3:
        raise NodeFault("what was given out as the root disk is no qcow2 of version 3")
    if struct.unpack(">Q", header[72:80])[0] & EXTERNAL_DATA:
        raise NodeFault("the root disk that was given out keeps its data in another file, which is not allowed")
    host.tool.stand_on(overlay, base, base_format)


async def _convert(host: Host, key: Path, address: str, port: int, name: str, target: Path) -> None:
    credentials = f"tls-creds-psk,id=tls,endpoint=client,username={psk.USER},dir={str(key).replace(',', ',,')}"
    server = f"file.server.type=inet,file.server.host={address},file.server.port={port}"
    argv = [
        *(host.settings.image_tool, "convert", "-q", "-O", "raw", "--object", credentials, "--image-opts"),
        *(f"driver=raw,file.driver=nbd,{server},file.export={name},file.tls-creds=tls", str(target)),
    ]
    await run_watched(argv, host.who, f"disk {name}")


def forget_others(files: GuestFiles, record: Record, source: MoveSource) -> None:
    """Remove disks that another move, or none, has brought. Blocks."""
    if record.fetched != name_of(source):
        disks.discard(files)
        record.fetched = name_of(source)
    for left in files.disks.glob("*.tmp"):
        os.unlink(left)
