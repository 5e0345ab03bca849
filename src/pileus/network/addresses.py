"""Addresses: which one a port gets. The table `network_allocation` is the truth, one row an address in use.

Nothing is ever read whole: a few random addresses are looked up at once, and only where all are taken, the
first gap is found by counting halves, which is exact and takes 16 statements for 65,536 addresses.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from pileus.db.engine import Retry
from pileus.network.faults import conflict, invalid
from pileus.network.tables import allocation

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

AUTO_MODES = ("slaac", "dhcpv6-stateless")
"""Address modes in which a guest makes its address from its MAC."""

_TRIES = 8
_USUAL = re.compile(r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$")

_TAKEN = sa.select(allocation.c.ip_key).where(
    allocation.c.subnet_id == sa.bindparam("s"), allocation.c.ip_key.in_(sa.bindparam("keys", expanding=True))
)
_COUNT = sa.select(sa.func.count()).where(
    allocation.c.subnet_id == sa.bindparam("s"), allocation.c.ip_key.between(sa.bindparam("lo"), sa.bindparam("hi"))
)
_INSERT = allocation.insert()


def key(value: int | Address) -> str:
    """An address as 32 hexadecimal digits, which sort as the addresses do."""
    return format(int(value), "032x")


def parse(text: str, what: str = "IP address") -> Address:
    """An address as the database writes it back: compressed. Raises BadRequest."""
    try:
        if "%" in text:  # a zone has a meaning on one host only
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise invalid(f"'{text}' is not a valid {what}.") from None


def parse_network(text: str, what: str = "CIDR", strict: bool = False) -> Network:
    """A CIDR; host bits are dropped unless `strict`. Raises BadRequest."""
    try:
        if "/" not in text or "%" in text:
            raise ValueError
        return ipaddress.ip_network(text, strict=strict)
    except ValueError:
        raise invalid(f"'{text}' is not a valid {what}; expected an address and a prefix length, as in 10.0.0.0/24.",
                      ) from None


def spelled(text: str) -> str:
    """A CIDR or address as sent where it has a usual spelling, else as ADDRESS/LENGTH: what nodes are told has
    no netmasks. Raises BadRequest."""
    try:
        if "%" in text:
            raise ValueError
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise invalid(f"'{text}' is not a valid IP address or CIDR.") from None
    return text if _USUAL.match(text) else str(found)


@functools.lru_cache(maxsize=4096)
def without_host_bits(text: str) -> str:
    """An address or CIDR that was checked when it came, as a node is told it: 10.1.2.3/16 is 10.1.0.0/16."""
    return str(ipaddress.ip_network(text, strict=False)) if "/" in text else text


def eui64(cidr: str, mac: str) -> str:
    """The address that a guest with this MAC makes for itself in a /64 (RFC 4862, modified EUI-64)."""
    digits = int(mac.replace(":", ""), 16)
    low = ((digits >> 24) << 40 | 0xFFFE << 24 | digits & 0xFFFFFF) ^ (2 << 56)
    return str(ipaddress.ip_address(int(ipaddress.ip_network(cidr).network_address) | low))


def is_auto(subnet: Any) -> bool:
    """Whether guests make their addresses in this subnet from their MACs."""
    return subnet.ip_version == 6 and subnet.ipv6_address_mode in AUTO_MODES


def free(tx: Tx, cloud: Cloud, subnet_id: str, pools: Sequence[Sequence[str]]) -> Address | None:
    """An address of the pools that no port has; None when there is none."""
    ranges = [(ipaddress.ip_address(a), ipaddress.ip_address(b)) for a, b in pools]
    spans = [(int(a), int(b)) for a, b in ranges]
    total = sum(b - a + 1 for a, b in spans)
    if not total:
        return None
    kind = type(ranges[0][0])
    seed = UUID(cloud.world.uuid()).int
    tries = {_nth(spans, (seed + (seed >> 64 | 1) * n) % total) for n in range(min(_TRIES, total))}
    taken = set(tx.scalars(_TAKEN, {"s": subnet_id, "keys": [key(t) for t in tries]}))
    for value in tries:
        if key(value) not in taken:
            return kind(value)
    for low, high in spans:
        found = _gap(tx, subnet_id, low, high)
        if found is not None:
            return kind(found)
    return None


def _nth(spans: Sequence[tuple[int, int]], index: int) -> int:
    for low, high in spans:
        if index <= high - low:
            return low + index
        index -= high - low + 1
    raise IndexError(index)


def _gap(tx: Tx, subnet_id: str, low: int, high: int) -> int | None:
    def full(a: int, b: int) -> bool:
        return bool(tx.scalar(_COUNT, {"s": subnet_id, "lo": key(a), "hi": key(b)}) > b - a)

    if full(low, high):
        return None
    while low < high:
        middle = (low + high) // 2
        if full(low, middle):
            low = middle + 1
        else:
            high = middle
    return low


def take(tx: Tx, subnet_id: str, address: Address | str, port_id: str, position: int) -> bool:
    """Give an address to a port; False when another has it."""
    found = ipaddress.ip_address(address)
    row = {"subnet_id": subnet_id, "ip_key": key(found), "ip": str(found), "position": position, "port_id": port_id}
    try:
        with tx.savepoint():
            tx.execute(_INSERT, row)
    except sa.exc.IntegrityError:
        return False
    return True


def take_exact(tx: Tx, subnet: Any, address: Address | str, port_id: str, position: int) -> None:
    """Give a named address to a port. Raises Conflict (IpAddressInUse) when another has it."""
    if not take(tx, subnet.id, address, port_id, position):
        raise conflict(
            "IpAddressInUse",
            f"Unable to complete operation for network {subnet.network_id}. "
            f"The IP address {address} is in use.",
        )


def take_free(tx: Tx, cloud: Cloud, subnet: Any, port_id: str, position: int) -> str | None:
    """Give any free address of the subnet's pools to a port; None when the pools are exhausted."""
    for _ in range(3):
        found = free(tx, cloud, subnet.id, subnet.pools)
        if found is None:
            return None
        if take(tx, subnet.id, found, port_id, position):
            return str(found)
    raise Retry


def default_pools(network: Network, gateway: str | None) -> list[list[str]]:
    """Every host address but the gateway, as Neutron cuts it."""
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.version == 4:
        if network.prefixlen < 31:
            first, last = first + 1, last - 1
    elif network.prefixlen < 127:
        first += 1
    kind = type(network.network_address)
    spans = [(first, last)]
    if gateway is not None and (at := int(ipaddress.ip_address(gateway))) in range(first, last + 1):
        spans = [(first, at - 1), (at + 1, last)]
    return [[str(kind(a)), str(kind(b))] for a, b in spans if a <= b]
