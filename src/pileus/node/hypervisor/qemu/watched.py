"""Long runs of qemu-img: unprivileged, under limits, ended with us, and given up when they do nothing any more."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.process import ENVIRONMENT, identity_options
from pileus.node.hypervisor.qemu.settings import Account

STALLED = 120.0
"""Seconds without any work done after which a run is given up."""
MEMORY = 2 << 30


async def run_watched(
    argv: Sequence[str], who: Account, what: str, *, cpu: int | None = None, fds: Sequence[int] = ()
) -> None:
    """Run a tool that may take hours, at most `cpu` seconds of them at work. Raises NodeFault: `what` could not be
    copied.

    It ends when this is cancelled, and when this process is killed."""
    limits = ["--core=0", f"--as={MEMORY}", *([f"--cpu={cpu}"] if cpu is not None else [])]
    # By this very thread, which lives as long as the process: the signal comes when the thread ends that began it.
    child = subprocess.Popen(  # noqa: ASYNC220
        ["setpriv", "--pdeathsig", "KILL", "--", "prlimit", *limits, "--", *argv], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", env=ENVIRONMENT, umask=0o077, pass_fds=fds,
        **identity_options(who),
    )  # fmt: skip
    ending = asyncio.ensure_future(asyncio.to_thread(child.communicate))
    worked, since = -1, time.monotonic()
    try:
        while not (await asyncio.wait([ending], timeout=1.0))[0]:
            now = _worked(child.pid)
            if now != worked:
                worked, since = now, time.monotonic()
            if time.monotonic() - since > STALLED:
                raise NodeFault(f"{what} could not be copied: no progress for {STALLED:.0f} seconds")
    finally:
        child.kill()
        await asyncio.wait([ending])
    if child.returncode:
        lines = ending.result()[1].decode(errors="replace").strip().splitlines() or ["it did not say why"]
        raise NodeFault(f"{what} could not be copied: {lines[-1]}")


def _worked(pid: int) -> int:
    """The processor time that a process has used, in clock ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return int(fields[11]) + int(fields[12])
