"""QEMU's processes: started apart from this one, and known again by more than a pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.settings import Account

# An arena of malloc's for each thread would take 64 MiB of address space, which is limited for tools.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}


class ProcessId(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: int  # in clock ticks since the boot
    boot_id: str


def boot_id() -> str:
    """The kernel's name for the time since the last boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started_at(pid: int) -> int | None:
    """When a process was started, in clock ticks since the boot; None if there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    # A first thread that has ended is a zombie too while others still hold the locks of the disks.
    ended = fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) <= 1)
    return None if ended else int(fields[19])


def identify(pid: int) -> ProcessId | None:
    """What a pid means now, so that its reuse by another program is noticed; None when there is no such process."""
    started = started_at(pid)
    return None if started is None else ProcessId(pid, started, boot_id())


def alive(process: ProcessId) -> bool:
    """Whether this very process still runs. Reaps it if it was our child."""
    if process.pid <= 0:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return started_at(process.pid) == process.started and boot_id() == process.boot_id


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty if there is none."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="surrogateescape").split("\0")[:-1]


def find(markers: set[str]) -> dict[str, list[int]]:
    """Pids of the processes of this host that have one of these strings as an argument, by marker."""
    found: dict[str, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            for marker in markers.intersection(arguments(int(name))):
                if started_at(int(name)) is not None:
                    found.setdefault(marker, []).append(int(name))
    return found


def identity_options(who: Account) -> dict[str, Any]:
    """The arguments of subprocess.Popen that give up privileges."""
    if who.uid is None:
        return {}
    return {"user": who.uid, "group": who.gid, "extra_groups": list(who.groups)}


def launch(argv: Sequence[str], fds: Sequence[int], who: Account, log: Path) -> ProcessId:
    """Start a program in a session of its own that outlives us; what it complains of goes to `log`. Blocks.

    Raises NodeFault if it cannot be started."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            **identity_options(who),
        )
    except OSError as error:
        raise NodeFault(f"{argv[0]} could not be started: {error}") from error
    finally:
        os.close(output)
    # Popen warns of a child that outlives it, which is what we want here. `alive` reaps it.
    child.returncode = 0
    return identify(child.pid) or ProcessId(child.pid, 0, boot_id())


def kill(process: ProcessId) -> None:
    """End a process at once; no harm if it has ended or its pid belongs to another now."""
    try:
        handle = os.pidfd_open(process.pid)
    except (ProcessLookupError, ValueError):
        return
    try:
        if alive(process):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


async def ended(process: ProcessId, within: float) -> bool:
    """Wait until a process has ended; False if it still runs after `within` seconds."""
    until = time.monotonic() + within
    pause = 0.002
    while alive(process):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


def run_limited(
    argv: Sequence[str],
    who: Account,
    *,
    cpu: int,
    memory: int = 1 << 30,
    timeout: float = 3600,
    fds: Sequence[int] = (),
) -> bytes:
    """Run a tool on files that a stranger may have made: unprivileged, at most `cpu` seconds of processor
    time and `memory` bytes of address space. Blocks; returns its output.

    Raises NodeFault with the tool's own last line if it fails or goes over a limit."""
    limits = ["prlimit", f"--cpu={cpu}", f"--as={memory}", "--core=0", "--"]
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [*limits, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            pass_fds=fds,
            timeout=timeout,
            check=False,
            **identity_options(who),
        )
    except subprocess.TimeoutExpired as error:
        raise NodeFault(f"{argv[0]} {argv[1]} was ended after {timeout:.0f} seconds") from error
    except OSError as error:
        raise NodeFault(f"{argv[0]} could not be run: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"ended by signal or status {done.returncode}"
        raise NodeFault(f"{argv[0]} {argv[1]} failed: {why}")
    return done.stdout
