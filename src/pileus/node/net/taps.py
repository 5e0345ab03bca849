"""Tap devices: the host's end of a guest's network card (linux/if_tun.h)."""

from __future__ import annotations

import fcntl
import os
import struct

from pileus.node.contract import NodeFault
from pileus.node.net.namespaces import inside

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def open_tap(namespace: str, name: str) -> int:
    """A descriptor on a tap in a namespace, made if missing; it goes when its last descriptor is closed.

    Raises NodeFault if the device is held by a running guest, or there is no /dev/net/tun.
    """
    with inside(namespace):
        try:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NodeFault(f"tap devices cannot be made: /dev/net/tun: {error.strerror}") from None
        try:
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        except OSError as error:
            os.close(descriptor)
            reason = "another process, likely a running guest, holds it" if error.errno == 16 else error.strerror
            raise NodeFault(f"tap {name} in {namespace} cannot be opened: {reason}") from None
    return descriptor
