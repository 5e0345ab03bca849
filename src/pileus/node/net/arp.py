"""Announcements: neighbours and bridges learn at once where an address is now.

Gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour advertisements (RFC 4861, section 7.2.6)."""

from __future__ import annotations

import socket
import struct

from pileus.node.net.names import mac_octets
from pileus.node.net.namespaces import inside

_BROADCAST = b"\xff" * 6
_ARP = 0x0806
_IPV6 = 0x86DD


def frame(mac: str, address: str) -> bytes:
    """An announcement: a request for one's own address, which every neighbour's cache takes up."""
    own, ip = mac_octets(mac), socket.inet_aton(address)
    return _BROADCAST + own + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1) + own + ip + bytes(6) + ip


def advertisement(mac: str, address: str) -> bytes:
    """An IPv6 router's advertisement to all nodes that replaces what their caches have."""
    own, ip = mac_octets(mac), socket.inet_pton(socket.AF_INET6, address)
    target = socket.inet_pton(socket.AF_INET6, "ff02::1")
    body = struct.pack("!BBHI", 136, 0, 0, 0xA0000000) + ip + b"\x02\x01" + own
    pseudo = ip + target + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", 0xFFFF ^ total) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
    return b"\x33\x33\x00\x00\x00\x01" + own + struct.pack("!H", _IPV6) + head + ip + target + body


def announce(namespace: str, device: str, mac: str, addresses: list[str]) -> None:
    """Announce addresses on a device; raises OSError if it is not there or down."""
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, _ARP))
        for address in addresses:
            sender.send(advertisement(mac, address) if ":" in address else frame(mac, address))
