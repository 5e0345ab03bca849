"""The kernel's table of connections, over netlink: list, mark, delete (linux/netfilter/nfnetlink_conntrack.h).

Written by hand because the alternatives are a program that is seldom installed, and a library that takes more
memory than the rest of the driver.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

from pileus.node.contract import NodeFault
from pileus.node.net.namespaces import inside
from pileus.node.net.rules import Flow

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8
_NEW, _GET, _DELETE = _CTNETLINK | 0, _CTNETLINK | 1, _CTNETLINK | 2
_REQUEST, _ACK, _DUMP, _REPLACE = 0x1, 0x4, 0x300, 0x100
_ERROR, _DONE = 2, 3
_NESTED, _TYPE = 0x8000, 0x3FFF
_TUPLE_ORIG, _TUPLE_REPLY, _MARK = 1, 2, 8
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_ENOENT = 2


def flows(namespace: str) -> list[Flow]:
    """Every connection that a namespace tracks."""
    with inside(namespace), _Netlink() as netlink:
        return [
            flow
            for family in (socket.AF_INET, socket.AF_INET6)
            for payload in netlink.ask(_GET, _REQUEST | _DUMP, family, b"")
            if (flow := _flow(payload)) is not None
        ]


def mark(namespace: str, chosen: list[tuple[Flow, int]]) -> None:
    """Set the marks of connections; those that ended meanwhile are passed over."""
    flags = _REQUEST | _ACK | _REPLACE
    _each(namespace, chosen, _NEW, flags, lambda value: _attribute(_MARK, struct.pack("!I", value)))


def delete(namespace: str, chosen: list[Flow]) -> None:
    """Forget connections, so that their next packet counts as a new one."""
    _each(namespace, [(flow, 0) for flow in chosen], _DELETE, _REQUEST | _ACK, lambda _: b"")


def _each(
    namespace: str, chosen: list[tuple[Flow, int]], kind: int, flags: int, extra: Callable[[int], bytes]
) -> None:
    if not chosen:
        return
    with inside(namespace), _Netlink() as netlink:
        for flow, value in chosen:
            family = socket.AF_INET6 if ":" in flow.source else socket.AF_INET
            body = _attribute(_TUPLE_ORIG | _NESTED, flow.key) + extra(value)
            for _ in netlink.ask(kind, flags, family, body):
                pass


class _Netlink:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.settimeout(5)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> _Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, flags: int, family: int, body: bytes) -> Iterator[bytes]:
        """Send one request and yield the answers' attributes, without the headers."""
        self._sequence += 1
        content = struct.pack("=BBH", family, 0, 0) + body
        self._socket.send(struct.pack("=IHHII", 16 + len(content), kind, flags, self._sequence, 0) + content)
        while True:
            data = self._socket.recv(1 << 20)
            while len(data) >= 16:
                length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data)
                payload, data = data[16:length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _check(payload)
                    return
                yield payload[4:]


def _check(payload: bytes) -> None:
    number = -struct.unpack_from("=i", payload)[0]
    if number not in (0, _ENOENT):
        raise NodeFault(f"the kernel's connection table refused a request: error {number}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & _TYPE] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _addresses(ip: bytes) -> tuple[str, str]:
    parts = _attributes(ip)
    if 1 in parts:
        return socket.inet_ntop(socket.AF_INET, parts[1]), socket.inet_ntop(socket.AF_INET, parts[2])
    return socket.inet_ntop(socket.AF_INET6, parts[3]), socket.inet_ntop(socket.AF_INET6, parts[4])


def _flow(payload: bytes) -> Flow | None:
    found = _attributes(payload)
    if _TUPLE_ORIG not in found or _TUPLE_REPLY not in found:
        return None
    original = _attributes(found[_TUPLE_ORIG])
    source, destination = _addresses(original[_TUPLE_IP])
    reply_source, reply_destination = _addresses(_attributes(found[_TUPLE_REPLY])[_TUPLE_IP])
    proto = _attributes(original[_TUPLE_PROTO])
    number = proto[1][0]
    port, code = _destination_port(number, proto)
    return Flow(
        protocol=number,
        source=source,
        destination=destination,
        source_port=int.from_bytes(proto.get(2, b"\0\0"), "big"),
        port=port,
        code=code,
        mark=int.from_bytes(found.get(_MARK, b"\0"), "big"),
        key=found[_TUPLE_ORIG],
        reply_source=reply_source,
        reply_destination=reply_destination,
    )


def _destination_port(number: int, proto: dict[int, bytes]) -> tuple[int, int]:
    """Destination port and 0, or ICMP type and code."""
    first = 5 if number == 1 else 8
    if number in (1, 58):
        return proto.get(first, b"\0")[0], proto.get(first + 1, b"\0")[0]
    return int.from_bytes(proto.get(3, b"\0\0"), "big"), 0
