"""What a host is and has, one detector for each fact."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from pathlib import Path

from pileus.node.contract import HypervisorFacts, NodeFault
from pileus.node.hypervisor.qemu.process import ENVIRONMENT

TRAITS = (
    "COMPUTE_GRAPHICS_MODEL_VGA",
    "COMPUTE_GRAPHICS_MODEL_VIRTIO",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_ATTACH_INTERFACE",
    "COMPUTE_NET_VIF_MODEL_E1000",
    "COMPUTE_NET_VIF_MODEL_E1000E",
    "COMPUTE_NET_VIF_MODEL_NE2K_PCI",
    "COMPUTE_NET_VIF_MODEL_PCNET",
    "COMPUTE_NET_VIF_MODEL_RTL8139",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_NET_VIF_MODEL_VMXNET3",
    "COMPUTE_NODE",
    "COMPUTE_STORAGE_BUS_SATA",
    "COMPUTE_STORAGE_BUS_SCSI",
    "COMPUTE_STORAGE_BUS_VIRTIO",
    "COMPUTE_VOLUME_ATTACH",
)


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, env=ENVIRONMENT, check=True)
    except FileNotFoundError:
        raise NodeFault(f"{command[0]} is not installed: install the package qemu-system-x86") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeFault(f"{command[0]} could not be asked for its version: {error}") from error
    return done.stdout.decode(errors="replace")


def version(emulator: str) -> int:
    """QEMU's version as libvirt counts: 7002022 for 7.2.22. Blocks."""
    found = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", _ask(emulator, "--version"))
    if found is None:
        raise NodeFault(f"{emulator} does not tell its version")
    major, minor, micro = (int(part or 0) for part in found.groups())
    return major * 1_000_000 + minor * 1_000 + micro


def machine(emulator: str) -> str:
    """The versioned machine type that q35 stands for in this QEMU. Blocks."""
    found = re.search(r"^q35\s.*\(alias of (\S+)\)", _ask(emulator, "-machine", "help"), re.MULTILINE)
    if found is None:
        raise NodeFault(f"{emulator} has no machine type q35: is it qemu-system-x86_64?")
    return found.group(1)


def memory_mib() -> int:
    """The host's memory."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def disk_gib(directory: Path) -> int:
    """The size of the file system that holds the guests."""
    found = os.statvfs(directory)
    return found.f_frsize * found.f_blocks >> 30


def cpuinfo(name: str) -> str:
    """What the kernel says of the first processor under a name; empty when it says nothing."""
    found = re.search(rf"^{name}\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def host_ip() -> str:
    """The address from which this host reaches others; empty where it has no route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: any that is not local does
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def gather(hypervisor_version: int, accelerator: str, directory: Path, address: str = "") -> HypervisorFacts:
    """Everything that a node reports of itself, one with its `address` among the nodes. Blocks."""
    # Under TCG a guest does not have the host's processor: nothing is said of what it has.
    features = tuple(cpuinfo("flags").split()) if accelerator == "kvm" else ()
    return HypervisorFacts(
        hypervisor_type="QEMU",
        hypervisor_version=hypervisor_version,
        accelerator=accelerator,
        hostname=socket.gethostname(),
        architecture=platform.machine(),
        vcpus=len(os.sched_getaffinity(0)),
        memory_mib=memory_mib(),
        disk_gib=disk_gib(directory),
        cpu_model=cpuinfo("model name"),
        cpu_features=features,
        traits=TRAITS,
        host_ip=address or host_ip(),
        moves=address != "",
    )
