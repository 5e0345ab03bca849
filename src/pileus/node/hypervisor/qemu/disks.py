"""The disks of a guest: which there are, how they are made, and how QEMU is told of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import ImageRef, NodeFault, ServerSpec, VolumeSpec
from pileus.node.hypervisor.qemu import configdrive
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.imagetool import GIB, Fresh, ImageTool
from pileus.node.hypervisor.qemu.process import ENVIRONMENT

MIB = 1 << 20
BUSES = {"virtio": "virtio", "scsi": "scsi", "sata": "sata", "ide": "sata"}  # q35 has no IDE but AHCI


class Bases(msgspec.Struct, frozen=True):
    """The local files of the images that a guest's disks stand on."""

    root: Path | None = None
    rescue: Path | None = None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk from this node's own files."""

    node: str  # QEMU's name for it, 31 characters at most
    blockdev: dict[str, Any]
    bus: str  # virtio, scsi, sata
    boot_index: int | None = None
    cdrom: bool = False
    serial: str = ""


def bus(spec: ServerSpec) -> str:
    """The bus of the local disks (image property hw_disk_bus). Raises NodeFault if there is none such."""
    wanted = spec.image_properties.get("hw_disk_bus", "virtio").lower()
    if wanted not in BUSES:
        raise NodeFault(f"hw_disk_bus '{wanted}' is not possible here: use one of {', '.join(BUSES)}")
    return BUSES[wanted]


def local_disks(spec: ServerSpec, files: GuestFiles, bases: Bases) -> list[Disk]:
    """The disks on the node's own files, in the order in which the guest shall find them."""
    kind = bus(spec)
    found: list[Disk] = []
    if spec.rescue_image is not None and bases.rescue is not None:
        chain = overlay(files.rescue, bases.rescue, spec.rescue_image.disk_format)
        found.append(Disk(node="rescue", blockdev=chain, bus=kind, boot_index=0))
    if spec.image is not None and bases.root is not None:
        chain = overlay(files.root, bases.root, spec.image.disk_format)
        found.append(Disk(node="root", blockdev=chain, bus=kind, boot_index=1))
    if spec.ephemeral_gib:
        found.append(Disk(node="ephemeral0", blockdev=raw(files.ephemeral), bus=kind))
    if spec.swap_mib:
        found.append(Disk(node="swap", blockdev=raw(files.swap), bus=kind))
    if spec.config_drive is not None:
        found.append(config_disk(spec, files, kind))
    return found


def config_disk(spec: ServerSpec, files: GuestFiles, kind: str) -> Disk:
    """The config drive: a read-only disk on the bus of the others, or by hw_cdrom_bus a CD."""
    drive = {"driver": "raw", "read-only": True, "file": {"driver": "file", "filename": str(files.config)}}
    cdrom = spec.image_properties.get("hw_cdrom_bus", "").lower()
    if cdrom:
        if BUSES.get(cdrom) not in ("sata", "scsi"):
            raise NodeFault(f"hw_cdrom_bus '{cdrom}' is not possible here: use sata or scsi")
        return Disk(node="config", blockdev=drive, bus=BUSES[cdrom], cdrom=True)
    return Disk(node="config", blockdev=drive, bus=kind, cdrom=kind == "sata")


def overlay(path: Path, base: Path, base_format: str) -> dict[str, Any]:
    """A block device of a disk and its base. All is told, so that no header decides what is opened."""
    below: dict[str, Any] = {"driver": base_format, "read-only": True, "file": _file(base, read_only=True)}
    if base_format == "qcow2":
        below["backing"] = None
    return {"driver": "qcow2", "discard": "unmap", "file": _file(path), "backing": below}


def raw(path: Path) -> dict[str, Any]:
    """The block node of a raw file."""
    return {"driver": "raw", "discard": "unmap", "file": _file(path)}


def _file(path: Path, read_only: bool = False) -> dict[str, Any]:
    node: dict[str, Any] = {"driver": "file", "filename": str(path)}
    if read_only:
        node["read-only"] = True
    else:
        node["discard"] = "unmap"
    return node


def volume_node(volume_id: str) -> str:
    """QEMU's name for a volume's block device: it takes 31 characters, an id has 36."""
    return "vol-" + hashlib.blake2s(volume_id.encode(), digest_size=12).hexdigest()


def volume_device(volume_id: str) -> str:
    """QEMU's id of the device that shows a volume to the guest."""
    return f"volume-{volume_id}"


def volume_key(volume_id: str) -> str:
    """QEMU's id of the object that holds the key of a volume's connection."""
    return f"key-{volume_id}"


RECONNECT = {"reconnect-delay": 300, "open-timeout": 10}
"""Seconds: a guest stands still for so long while what gives out its volume is away, and goes on when that comes again;
then its disk has errors. The second counts when the volume is opened."""


def volume_blockdev(volume: VolumeSpec) -> dict[str, Any]:
    """A volume as QMP's blockdev-add takes it. May hold credentials: never for a command line or a log."""
    more: dict[str, Any] = {"read-only": True} if volume.read_only else {}
    if volume.connection.get("driver") == "nbd":
        more |= {"cache": {"direct": True}, **RECONNECT}
    if volume.secret:
        more["tls-creds"] = volume_key(volume.volume_id)
    return {"discard": "unmap", **more, **volume.connection, "node-name": volume_node(volume.volume_id)}


def prepare(spec: ServerSpec, files: GuestFiles, bases: Bases, tool: ImageTool) -> None:
    """Make every disk that is missing. Blocks. Raises NodeFault."""
    if spec.image is not None and bases.root is not None and not files.root.exists():
        tool.create_overlay(files.root, bases.root, spec.image.disk_format, root_size(spec, bases.root, tool))
    if spec.rescue_image is not None and bases.rescue is not None and not files.rescue.exists():
        size = image_size(spec.rescue_image, bases.rescue, tool)
        tool.create_overlay(files.rescue, bases.rescue, spec.rescue_image.disk_format, size)
    if spec.ephemeral_gib and not files.ephemeral.exists():
        _format(files.ephemeral, spec.ephemeral_gib * GIB, tool, "mke2fs", "-q", "-t", "ext4", "-F", "-L", "ephemeral0")
    if spec.swap_mib and not files.swap.exists():
        _format(files.swap, spec.swap_mib * MIB, tool, "mkswap", "-L", "swap0")
    if spec.config_drive is not None and not files.config.exists():
        configdrive.write(files.config, spec.config_drive, tool.who)
    if not files.console.exists():
        with Fresh(files.console, tool.who):
            pass


def image_size(image: ImageRef, path: Path, tool: ImageTool) -> int:
    """How large a guest sees an image, in bytes."""
    return image.virtual_size or tool.virtual_size(path, image.disk_format)


def root_size(spec: ServerSpec, base: Path, tool: ImageTool) -> int:
    """The size of the root disk in bytes. Raises NodeFault if the flavor's disk does not hold the image."""
    assert spec.image is not None
    least = image_size(spec.image, base, tool)
    if not spec.root_gib:
        return least
    if spec.root_gib * GIB < least:
        raise NodeFault(
            f"image {spec.image.id} needs a disk of {-(-least // GIB)} GiB, the flavor has {spec.root_gib}:"
            " choose a larger flavor"
        )
    return spec.root_gib * GIB


def grow(spec: ServerSpec, files: GuestFiles, bases: Bases, tool: ImageTool) -> None:
    """Give existing disks the sizes of a new flavor. Blocks. Raises NodeFault if one would have to shrink."""
    if files.ephemeral.exists() and files.ephemeral.stat().st_size > spec.ephemeral_gib * GIB:
        raise NodeFault("the ephemeral disk cannot shrink: choose a flavor with one at least as large")
    if spec.image is not None and bases.root is not None and spec.root_gib and files.root.exists():
        tool.grow(files.root, root_size(spec, bases.root, tool))
    if files.ephemeral.exists():
        os.truncate(files.ephemeral, spec.ephemeral_gib * GIB)
    if files.swap.exists() and files.swap.stat().st_size != spec.swap_mib * MIB:
        files.swap.unlink()


def discard(files: GuestFiles) -> None:
    """Remove all that a rebuild makes anew. Blocks."""
    for path in (files.root, files.ephemeral, files.swap, files.config, files.rescue, files.memory, files.console):
        path.unlink(missing_ok=True)


def _format(path: Path, size: int, tool: ImageTool, *command: str) -> None:
    with Fresh(path, tool.who) as fresh:
        os.truncate(fresh, size)
        try:
            # Our own empty file, nothing of a guest's in it.
            subprocess.run([*command, str(fresh)], check=True, capture_output=True, timeout=300, env=ENVIRONMENT)
        except (OSError, subprocess.SubprocessError) as error:
            raise NodeFault(f"{command[0]} could not format {path.name}: {error}") from error
