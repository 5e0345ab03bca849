"""The fixed IPs of a port: which subnets, which addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import addresses
from pileus.network.addresses import Address
from pileus.network.faults import conflict, invalid
from pileus.network.networks import subnets_of
from pileus.network.tables import allocation

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class Ask(NamedTuple):
    """What a caller wants: a subnet, an address, or both."""

    subnet_id: str | None = None
    ip: str | None = None


_OF = (
    sa.select(allocation).where(allocation.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(allocation.c.port_id, allocation.c.position, allocation.c.ip_key)
)
_CHUNK = 5000


def of(tx: Tx, port_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """The allocations of ports, by port id, in their order."""
    found: dict[str, list[Row[Any]]] = {}
    for at in range(0, len(port_ids), _CHUNK):
        for row in tx.all(_OF, {"ids": list(port_ids[at : at + _CHUNK])}):
            found.setdefault(row.port_id, []).append(row)
    return found


def assign(
    tx: Tx, cloud: Cloud, *, port_id: str, mac: str, network_id: str, device_owner: str,
    asked: Sequence[Ask] | None, start: int = 0,
) -> list[tuple[str, str]]:
    """Give a port its addresses, [(subnet id, address)]. None asked: one of each IP version, as far as the
    network's subnets go, and one in each subnet where guests make their own.

    Raises BadRequest for an address that cannot be, Conflict for one that is taken or where none is left."""
    subnets = subnets_of(tx, [network_id]).get(network_id, [])
    if asked is None:
        return _defaults(tx, cloud, port_id, mac, network_id, device_owner, subnets)
    given = []
    for position, ask in enumerate(asked, start):
        row = _subnet_of(network_id, subnets, ask)
        if ask.ip is None and not _serves(row, device_owner):
            raise invalid(f"subnet {row.id} is for ports of {', '.join(row.service_types)} only.")
        if ask.ip is not None:
            ip = str(check(row, ask.ip, mac, device_owner))
            addresses.take_exact(tx, row, ip, port_id, position)
        elif addresses.is_auto(row):
            ip = addresses.eui64(row.cidr, mac)
            addresses.take_exact(tx, row, ip, port_id, position)
        else:
            ip = _any(tx, cloud, [row], network_id, port_id, position)[1]
        given.append((row.id, ip))
    return given


def _serves(row: Row[Any], device_owner: str) -> bool:
    return not row.service_types or any(device_owner.startswith(kind) for kind in row.service_types)


def _subnet_of(network_id: str, subnets: Sequence[Row[Any]], ask: Ask) -> Row[Any]:
    if ask.subnet_id:
        for row in subnets:
            if row.id == ask.subnet_id:
                return row
        raise invalid(
            f"Failed to create port on network {network_id}, because fixed_ips included invalid subnet "
            f"{ask.subnet_id}."
        )
    if not ask.ip:
        raise invalid("IP allocation requires subnet_id or ip_address.")
    found = addresses.parse(ask.ip)
    for row in subnets:
        if found in ipaddress.ip_network(row.cidr):
            return row
    raise invalid(f"IP address {ask.ip} is not a valid IP for any of the subnets on the specified network.",
                  "InvalidIpForNetwork")


def check(row: Row[Any], text: str, mac: str, device_owner: str) -> Address:
    """An address that the subnet can give. Raises BadRequest."""
    found = addresses.parse(text)
    cidr = ipaddress.ip_network(row.cidr)
    wide = cidr.version == 4 and cidr.prefixlen < 31
    if found not in cidr or (wide and found in (cidr.network_address, cidr.broadcast_address)):
        raise invalid(f"IP address {text} is not a valid IP for the specified subnet.", "InvalidIpForSubnet")
    own = addresses.is_auto(row) and not device_owner.startswith("network:")
    if own and str(found) != addresses.eui64(row.cidr, mac):
        raise invalid(
            f"IPv6 address {text} cannot be directly assigned to a port on subnet {row.id} as the subnet is "
            "configured for automatic addresses", "AllocationOnAutoAddressSubnet",
        )
    return found


def _defaults(
    tx: Tx, cloud: Cloud, port_id: str, mac: str, network_id: str, device_owner: str, subnets: Sequence[Row[Any]]
) -> list[tuple[str, str]]:
    candidates = [row for row in subnets if _serves(row, device_owner)]
    given: list[tuple[str, str]] = []
    for version in (4, 6):
        family = [r for r in candidates if r.ip_version == version and not addresses.is_auto(r)]
        if family:
            given.append(_any(tx, cloud, family, network_id, port_id, len(given)))
    for row in candidates:
        if addresses.is_auto(row):
            given.append(auto(tx, row, port_id, mac, len(given)))
    return given


def auto(tx: Tx, row: Row[Any], port_id: str, mac: str, position: int) -> tuple[str, str]:
    """The address that the port's guest makes for itself in the subnet."""
    ip = addresses.eui64(row.cidr, mac)
    addresses.take_exact(tx, row, ip, port_id, position)
    return row.id, ip


def _any(
    tx: Tx, cloud: Cloud, subnets: Sequence[Row[Any]], network_id: str, port_id: str, position: int
) -> tuple[str, str]:
    for row in subnets:
        ip = addresses.take_free(tx, cloud, row, port_id, position)
        if ip is not None:
            return row.id, ip
    raise conflict("IpAddressGenerationFailure", f"No more IP addresses available on network {network_id}.")


def change(
    tx: Tx, cloud: Cloud, row: Row[Any], mac: str, asked: Sequence[Ask]
) -> list[str]:
    """Give a port other addresses, keeping those that are asked for again; the addresses taken away."""
    have = of(tx, [row.id]).get(row.id, [])
    kept: list[Row[Any]] = []
    new: list[Ask] = []
    for ask in asked:
        wanted = str(addresses.parse(ask.ip)) if ask.ip else None
        for old in have:
            same = old.ip == wanted if wanted else old.subnet_id == ask.subnet_id
            if old not in kept and same and ask.subnet_id in (None, old.subnet_id):
                kept.append(old)
                break
        else:
            new.append(ask)
    gone = [old for old in have if old not in kept]
    for old in gone:
        tx.execute(allocation.delete().where(
            allocation.c.subnet_id == old.subnet_id, allocation.c.ip_key == old.ip_key
        ))
    start = 1 + max((old.position for old in kept), default=-1)
    assign(tx, cloud, port_id=row.id, mac=mac, network_id=row.network_id, device_owner=row.device_owner,
           asked=new, start=start)
    return [old.ip for old in gone]
