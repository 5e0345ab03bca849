"""What can be set about the QEMU driver, and the account its processes run as."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import msgspec

from pileus.node.contract import NodeFault


class QemuSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the QEMU driver. Sizes in MiB or bytes as named, times in seconds."""

    state_dir: Path
    """Holds `instances/<server id>/`. Every parent must let the QEMU account pass (mode x)."""
    user: str | None = "pileus-qemu"
    """System account that QEMU and qemu-img run as. None: the account of this process."""
    accel: str = "auto"
    """auto: KVM if a probe guest really runs under it, else TCG. kvm: insist. tcg: never KVM."""
    emulator: str = "qemu-system-x86_64"
    image_tool: str = "qemu-img"
    storage_daemon: str = "qemu-storage-daemon"
    address: str = ""
    """The node's own address among the nodes, v4 or v6, on which guests come in from others. Empty: none do."""
    move_ports: tuple[int, int] = (49152, 49215)
    """First and last TCP port for guests that come in and disks that are given out."""
    disks_dir: Path | None = None
    """Where the guests' disks are, if not with their other files: a folder on storage that several nodes share, so
    that a guest moves without its disks. Every parent must let the QEMU account pass (mode x)."""
    cpu_model: str = ""
    """QEMU's name of the processor that guests see ("Skylake-Server-v1"). Empty: the host's own under KVM, with which
    a running guest moves only between hosts of the very same processor."""
    tb_size_mib: int = 32
    """TCG's cache of translated code, for each guest."""
    spare_ports: int = 8
    """PCIe ports kept free for NICs and volumes that are plugged into a running guest."""
    console_limit: int = 1 << 20
    """Bytes of serial console output kept for each guest."""
    console_interval: float = 5.0
    """How often console logs are measured against the limit."""
    answer_timeout: float = 30.0
    """How long QEMU may take to answer one QMP command."""
    start_timeout: float = 60.0
    """How long QEMU may take from its start to its greeting."""
    unplug_timeout: float = 30.0
    """How long a guest may take to let go of a device."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a child process runs as; `uid` None: nothing is changed."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()


def account(user: str | None) -> Account:
    """Look up the account that QEMU runs as. Raises NodeFault if it does not exist or cannot be assumed."""
    if user is None:
        return Account()
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise NodeFault(
            f"QEMU's system account '{user}' does not exist: create it with"
            f" 'useradd --system --no-create-home --shell /usr/sbin/nologin {user}'"
        ) from None
    if os.geteuid() != 0 and os.geteuid() != entry.pw_uid:
        raise NodeFault(f"QEMU cannot run as '{user}': only root can change accounts; run as root, or set none")
    groups = tuple(os.getgrouplist(user, entry.pw_gid))
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)
