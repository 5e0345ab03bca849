"""TCP ports on which a node takes in guests, out of the range that its settings give."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.settings import QemuSettings


def own_address(settings: QemuSettings) -> str:
    """The node's address among the nodes. Raises NodeFault if it has none."""
    if not settings.address:
        raise NodeFault("this node has no address among the nodes: no guest can move from or to it")
    return settings.address


def candidates(settings: QemuSettings) -> Iterator[int]:
    """The ports of the range that nobody listens on now, in an order of its own each time. Raises NodeFault at last."""
    first, last = settings.move_ports
    everything = list(range(first, last + 1))
    random.shuffle(everything)
    for port in everything:
        made = bind(own_address(settings), port)
        if made is not None:
            made.close()
            yield port
    raise NodeFault(f"the ports {first} to {last}, on which guests move, are all in use: make the range larger")


def listen(settings: QemuSettings) -> socket.socket:
    """A socket that listens on a free port. The caller closes it. Raises NodeFault if there is none."""
    for port in candidates(settings):
        made = bind(own_address(settings), port)
        if made is not None:
            return made
    raise AssertionError("candidates() ends by an error")


def bind(address: str, port: int) -> socket.socket | None:
    """A socket that listens there; None if somebody else does. Raises NodeFault where the address is not ours.

    What is accepted there has TCP_NODELAY, as it is inherited: QEMU's NBD server sets it on TLS from 8.0 on only, and
    without it waits 40 ms for an acknowledgement again and again."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # As QEMU does: a port whose last connection is not quite forgotten is free.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made.bind((address, port))
        made.listen(8)  # of two that are bound to one port only one can
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise NodeFault(f"this node cannot listen on its address {address}: {error.strerror}") from error
    return made


def uri(host: str, port: int) -> str:
    """An address as QEMU's migrate commands take it."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
