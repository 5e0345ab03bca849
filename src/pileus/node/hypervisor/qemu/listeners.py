"""Sockets on which QEMU is to listen, made before it starts: it has no right to make files in our directory."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pileus.node.hypervisor.qemu.commandline import Listeners
from pileus.node.hypervisor.qemu.files import GuestFiles


class Listening:
    """Listening sockets with the numbers that go to QEMU."""

    def __init__(self, numbers: Listeners) -> None:
        self.numbers = numbers
        self.fds = [fd for fd in (numbers.qmp, numbers.serial, numbers.agent) if fd is not None]


@contextlib.contextmanager
def listening(files: GuestFiles, agent: bool) -> Iterator[Listening]:
    """Make the sockets in place of any older ones; our own descriptors are closed at the end."""
    with contextlib.ExitStack() as stack:
        qmp = stack.enter_context(listen(files.qmp)).fileno()
        serial = stack.enter_context(listen(files.serial)).fileno()
        channel = stack.enter_context(listen(files.agent)).fileno() if agent else None
        files.vnc.unlink(missing_ok=True)
        yield Listening(Listeners(qmp=qmp, serial=serial, agent=channel))


def listen(path: Path) -> socket.socket:
    """A unix socket that listens, in place of any older one; for this process's account alone."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.bind(str(path))
        # Nobody can connect before listen(), so there is no moment with wider permissions.
        os.chmod(path, 0o600)
        made.listen(4)
    except BaseException:
        made.close()
        raise
    return made
