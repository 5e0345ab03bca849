"""Gratuitous ARP: neighbours learn at once which interface has an address now (RFC 5227, section 3)."""

from __future__ import annotations

import socket
import struct

from pileus.node.net.names import mac_octets
from pileus.node.net.namespaces import inside

_BROADCAST = b"\xff" * 6
_ARP = 0x0806


def frame(mac: str, address: str) -> bytes:
    """An announcement: a request for one's own address, which every neighbour's cache takes up."""
    own, ip = mac_octets(mac), socket.inet_aton(address)
    return _BROADCAST + own + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1) + own + ip + bytes(6) + ip


def announce(namespace: str, device: str, mac: str, addresses: list[str]) -> None:
    """Announce IPv4 addresses on a device; raises OSError if it is not there or down."""
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, _ARP))
        for address in addresses:
            sender.send(frame(mac, address))
