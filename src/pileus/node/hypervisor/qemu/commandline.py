"""QEMU's command line as data: a pure function of what a guest shall be. No secret ever stands in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pileus.node.contract import NodeFault, ServerSpec
from pileus.node.hypervisor.qemu import nics
from pileus.node.hypervisor.qemu.disks import Disk
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.nics import Nic
from pileus.node.hypervisor.qemu.settings import QemuSettings

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
VIDEO = {"vga": "VGA", "std": "VGA", "virtio": "virtio-vga", "qxl": "VGA"}
FIRST_PORT = 0x10  # PCI device numbers of the root ports, eight ports to a device
MOST_PORTS = 8 * (0x1E - FIRST_PORT)


class Listeners(msgspec.Struct, frozen=True):
    """Descriptors of sockets that listen already, so that QEMU needs no right to make files."""

    qmp: int
    serial: int
    agent: int | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """All that a command line is made from."""

    spec: ServerSpec
    files: GuestFiles
    accel: str  # "kvm" or "tcg"
    machine: str  # "pc-q35-7.2"
    ports: int
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    listeners: Listeners
    cpu: str = ""  # QEMU's name of the processor; empty: the host's under KVM, else all that TCG can
    incoming: bool = False


def wants_agent(spec: ServerSpec) -> bool:
    """Whether the image has the QEMU guest agent (hw_qemu_guest_agent)."""
    return spec.image_properties.get("hw_qemu_guest_agent", "").lower() in ("yes", "true", "1")


def build(machine: Machine, settings: QemuSettings) -> list[str]:
    """The arguments of QEMU. It starts with the guest stopped: `cont` lets it go when all is recorded.

    Raises NodeFault for properties of the image that are not possible here."""
    return [
        settings.emulator,
        *_basics(machine, settings),
        *_cpu(machine),
        *_channels(machine),
        *_ports(machine.ports),
        *_disks(machine),
        *_nics(machine.nics),
        *_screen(machine),
        *(["-incoming", "defer"] if machine.incoming else []),
    ]


def _basics(machine: Machine, settings: QemuSettings) -> list[str]:
    spec = machine.spec
    _refuse_unknown(spec.image_properties)
    accel = f"tcg,tb-size={settings.tb_size_mib}" if machine.accel == "tcg" else machine.accel
    clock = "localtime" if spec.image_properties.get("os_type", "").lower() == "windows" else "utc"
    smbios = {
        "manufacturer": "Pileus",
        # cloud-init asks the metadata service only on hardware of this name.
        "product": "OpenStack Nova",
        "serial": spec.id,
        "uuid": spec.id,
    }
    return [
        *("-name", f"guest={spec.id},debug-threads=on"),
        *("-uuid", spec.id),
        *("-machine", f"{machine.machine},usb=off,dump-guest-core=off"),
        *("-accel", accel),
        *("-m", f"{spec.memory_mib}M"),
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-sandbox", SANDBOX),
        *("-rtc", f"base={clock}"),
        *("-smbios", "type=1," + ",".join(f"{key}={value}" for key, value in smbios.items())),
        # A guest that shuts itself down leaves a stopped QEMU, which tells it from one that was killed
        # even to an agent that was away at the time.
        *("-action", "shutdown=pause,reboot=reset"),
        "-S",
    ]


def _refuse_unknown(properties: Mapping[str, str]) -> None:
    kind = properties.get("hw_machine_type", "q35")
    if kind != "q35" and not kind.startswith("pc-q35-"):
        raise NodeFault(f"hw_machine_type '{kind}' is not possible here: use q35")
    firmware = properties.get("hw_firmware_type", "bios").lower()
    if firmware != "bios":
        raise NodeFault(f"hw_firmware_type '{firmware}' is not possible here: use an image that boots by bios")
    architecture = properties.get("hw_architecture", "") or properties.get("architecture", "")
    if architecture not in ("", "x86_64", "amd64", "i686", "i386"):
        raise NodeFault(f"an image for {architecture} does not run on this x86_64 node")


def _cpu(machine: Machine) -> list[str]:
    model = machine.cpu or ("host" if machine.accel == "kvm" else "max")
    if machine.accel == "kvm" and model != "host":
        model += ",enforce"  # what a guest was told once it must find on every node
    return ["-cpu", model, "-smp", _topology(machine.spec)]


def _topology(spec: ServerSpec) -> str:
    """Sockets, cores and threads by hw_cpu_* or hw:cpu_*; one core to a socket if nothing is said."""
    given: dict[str, int] = {}
    for name in ("sockets", "cores", "threads"):
        text = spec.extra_specs.get(f"hw:cpu_{name}") or spec.image_properties.get(f"hw_cpu_{name}")
        if text:
            if not text.isdigit() or not int(text):
                raise NodeFault(f"hw_cpu_{name} '{text}' is not a number above zero")
            given[name] = int(text)
    if not given:
        given = {"sockets": spec.vcpus, "cores": 1, "threads": 1}
    cores, threads = given.get("cores", 1), given.get("threads", 1)
    sockets = given.get("sockets", max(1, spec.vcpus // (cores * threads)))
    if "cores" not in given:
        cores = max(1, spec.vcpus // (sockets * threads))
    if sockets * cores * threads != spec.vcpus:
        raise NodeFault(
            f"a topology of {sockets} sockets, {cores} cores and {threads} threads does not make"
            f" {spec.vcpus} virtual CPUs: change hw_cpu_* of the image or the flavor"
        )
    return f"cpus={spec.vcpus},sockets={sockets},cores={cores},threads={threads}"


def _channels(machine: Machine) -> list[str]:
    log = json_safe(str(machine.files.console))
    listeners = machine.listeners
    found = [
        *("-chardev", f"socket,id=qmp,fd={listeners.qmp},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=serial,fd={listeners.serial},server=on,wait=off,logfile={log},logappend=on"),
        *("-device", "isa-serial,chardev=serial,id=serial0"),
    ]
    if listeners.agent is not None:
        found += ["-chardev", f"socket,id=agent,fd={listeners.agent},server=on,wait=off"]
        found += ["-device", "virtio-serial-pci,id=channels"]
        found += ["-device", "virtserialport,bus=channels.0,chardev=agent,name=org.qemu.guest_agent.0"]
    return found


def json_safe(text: str) -> str:
    """A value for QEMU's key=value options, in which a comma is doubled."""
    return text.replace(",", ",,")


def _ports(count: int) -> list[str]:
    """Root ports, `port0` on: a PCIe device can be plugged into each; `last` takes the config drive."""
    if count > MOST_PORTS - 1:
        raise NodeFault(f"a guest can have {MOST_PORTS - 1} NICs and volumes, not {count}")
    found: list[str] = []
    for number, name in enumerate([*(f"port{number}" for number in range(count)), "last"]):
        slot, function = FIRST_PORT + number // 8, number % 8
        many = ",multifunction=on" if function == 0 else ""
        found += [
            "-device",
            f"pcie-root-port,id={name},chassis={number + 1},bus=pcie.0,addr={slot:#x}.{function:#x}{many}",
        ]
    return found


def _disks(machine: Machine) -> list[str]:
    spec = machine.spec
    found: list[str] = []
    # The controller is there for volumes too, which come when QEMU runs.
    if needs_scsi(spec, machine.disks):
        found += ["-device", "virtio-scsi-pci,id=scsi0"]
    on_sata = 0
    for disk in machine.disks:
        found += ["-blockdev", json.dumps({**disk.blockdev, "node-name": disk.node})]
        options: dict[str, Any] = {"id": f"disk-{disk.node}", "drive": disk.node}
        if disk.bus == "virtio":
            options |= {"driver": "virtio-blk-pci"}
            if disk.node == "config":
                options |= {"bus": "last"}
        elif disk.bus == "scsi":
            options |= {"driver": "scsi-cd" if disk.cdrom else "scsi-hd", "bus": "scsi0.0"}
        else:
            options |= {"driver": "ide-cd" if disk.cdrom else "ide-hd", "bus": f"ide.{on_sata}"}
            on_sata += 1
        if disk.boot_index is not None:
            options |= {"bootindex": disk.boot_index}
        found += ["-device", json.dumps(options)]
    if on_sata > 6:
        raise NodeFault("six disks fit on the SATA bus: use hw_disk_bus virtio")
    return found


def needs_scsi(spec: ServerSpec, disks: tuple[Disk, ...]) -> bool:
    """Whether the guest has a SCSI controller."""
    return any(disk.bus == "scsi" for disk in disks) or spec.image_properties.get("hw_disk_bus", "") == "scsi"


def _nics(found: tuple[Nic, ...]) -> list[str]:
    arguments: list[str] = []
    for nic in found:
        arguments += ["-netdev", f"tap,id={nics.netdev_id(nic.spec.port_id)},fd={nic.fd}"]
        arguments += ["-device", json.dumps(nics.device(nic.spec, nic.slot))]
    return arguments


def _screen(machine: Machine) -> list[str]:
    model = machine.spec.image_properties.get("hw_video_model", "vga").lower()
    if model not in VIDEO:
        raise NodeFault(f"hw_video_model '{model}' is not possible here: use vga or virtio")
    return [
        *("-device", VIDEO[model]),
        # q35 has a PS/2 keyboard, which every guest and the boot menu know; the tablet gives the pointer
        # an absolute position, without which a screen in a browser has two of them.
        *("-device", "qemu-xhci,id=usb"),
        *("-device", "usb-tablet,bus=usb.0"),
        *("-vnc", f"unix:{json_safe(str(machine.files.vnc))}"),
        *("-object", "rng-random,id=rng0,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng0"),
    ]
