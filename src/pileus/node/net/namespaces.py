"""Network namespaces, entered by threads.

A namespace belongs to a thread, so a worker thread steps in, opens sockets or starts programs there
(a child inherits its thread's namespace) and steps out again. No helper processes are kept.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pileus.node.contract import NodeFault

ROOT = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 30  # no program here takes longer than a second; a hung one must not hold the driver


class CommandFailed(NodeFault):
    """A program that the driver ran said no; the text has its words."""


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@contextmanager
def inside(name: str | None) -> Iterator[None]:
    """Run the block with the calling thread in namespace `name`; None: where the thread already is.

    Not for the event loop's thread. Raises NodeFault if there is no such namespace.
    """
    if name is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(ROOT / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NodeFault(f"network namespace {name} is gone; it is made again at the next apply") from None
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def run(name: str | None, command: Sequence[str], text: str = "") -> str:
    """Run a program inside a namespace, `text` on its standard input, and return what it wrote.

    Raises CommandFailed with the program's own words if it fails or is not installed.
    """
    program = shutil.which(command[0], path=_SEARCH)
    if program is None:
        raise CommandFailed(f"{command[0]} is not installed; install the package that has it")
    try:
        with inside(name):
            done = subprocess.run(
                [program, *command[1:]],
                input=text,
                text=True,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{command[0]} did not end within {_SECONDS} s; it was stopped") from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-600:]
        raise CommandFailed(f"{command[0]} in {name or 'the host namespace'}: {words}")
    return done.stdout


def ip_batch(name: str | None, lines: Sequence[str]) -> None:
    """Carry out `ip` commands in one process; stops at the first that fails and raises CommandFailed."""
    if not lines:
        return
    try:
        run(name, ("ip", "-batch", "-"), "\n".join(lines) + "\n")
    except CommandFailed as failure:
        raise CommandFailed(f"{failure}{_failed_line(str(failure), lines)}") from None


def _failed_line(words: str, lines: Sequence[str]) -> str:
    _, _, number = words.rpartition("Command failed -:")
    return f" ({lines[int(number) - 1]})" if number.isdigit() and int(number) <= len(lines) else ""


def nft(name: str | None, script: str) -> None:
    """Apply an nft script as one transaction; raises CommandFailed, and then nothing of it was applied."""
    if script:
        run(name, ("nft", "-f", "-"), script)


def exists(name: str) -> bool:
    """Whether there is a namespace of this name."""
    return identity(name) is not None


def identity(name: str) -> int | None:
    """What tells a namespace from a later one of the same name; None if there is none.

    A bare file, on which no namespace is mounted, is what a killed `ip netns add` leaves: that is none."""
    try:
        facts = (ROOT / name).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino if facts.st_dev == os.stat("/proc/self/ns/net").st_dev else None


def make(name: str) -> None:
    """Make an empty namespace of a name that is free."""
    remove(name)
    ip_batch(None, [f"netns add {name}"])


def names() -> list[str]:
    """All named namespaces of the machine."""
    return sorted(os.listdir(ROOT)) if ROOT.is_dir() else []


def remove(name: str) -> None:
    """Delete a namespace and every device in it; missing is fine."""
    if (ROOT / name).exists():
        ip_batch(None, [f"netns del {name}"])


def write_sysctls(values: dict[str, str]) -> None:
    """Write /proc/sys/net settings of the calling thread's namespace, keys as paths below /proc/sys/net."""
    for key, value in values.items():
        Path("/proc/sys/net", key).write_text(value)


def require_bridge_filter() -> None:
    """See that bridged packets can be sent through nft's inet family; loads br_netfilter if it is missing."""
    if Path("/proc/sys/net/bridge").is_dir():
        return
    try:
        run(None, ("modprobe", "br_netfilter"))
    except CommandFailed as failure:
        raise NodeFault(f"security groups need the kernel's br_netfilter, which would not load: {failure}") from None
    # Loaded by us, it must not start to filter the other bridges of this host.
    write_sysctls({f"bridge/bridge-nf-call-{family}": "0" for family in ("iptables", "ip6tables", "arptables")})


def listening_socket(name: str, address: str, port: int, device: str | None = None) -> socket.socket:
    """A listening TCP socket on an address inside a namespace; it stays there whoever serves it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(name):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                scope = socket.if_nametoindex(device) if device else 0
                listener.bind((address, port, 0, scope))
            else:
                listener.bind((address, port))
            listener.listen(128)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    return listener
