"""What a port may be: owners, address pairs, DHCP options, names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy.engine import Row

from pileus.network.addresses import spelled
from pileus.network.faults import conflict, invalid
from pileus.network.fixed_ips import Ask
from pileus.network.port_rows import check_mac
from pileus.network.schemas import AddressPair, DhcpOption, FixedIpAsk, PortChange, number

SERVED = ("network:dhcp", "network:router_interface", "network:router_gateway", "network:floatingip")
"""Owners of ports that the service makes, changes and deletes itself."""

_OPTION = re.compile(r"^(option6?:)?[a-z0-9][a-z0-9-]{0,62}$")


def check_owner(device_owner: str) -> None:
    """Only the service makes ports of these owners. Raises Conflict."""
    if device_owner in SERVED:
        raise conflict("DeviceOwnerReserved", f"Ports with device_owner {device_owner} are made by the service itself; "
                                              "add a router interface, gateway, floating IP or DHCP subnet instead.")


def check_change(row: Row[Any], sent: PortChange) -> None:
    """Is the change one that the port's owner lets pass? Raises Conflict."""
    if sent.device_owner is not UNSET and sent.device_owner != row.device_owner:
        check_owner(sent.device_owner)
    if row.device_owner not in SERVED:
        return
    fixed = {
        "device_id": (sent.device_id, row.device_id), "device_owner": (sent.device_owner, row.device_owner),
        "binding:host_id": (sent.host_id, row.host), "mac_address": (sent.mac_address, row.mac),
        "fixed_ips": (UNSET if row.device_owner == "network:router_interface" else sent.fixed_ips, UNSET),
        "security_groups": (sent.security_groups or UNSET, UNSET),
    }
    for name, (asked, now) in fixed.items():
        if asked is not UNSET and asked != now:
            raise conflict("ServicePortInUse", f"Port {row.id} has device owner {row.device_owner}, which decides over "
                                               f"its {name}.")


def compressed(text: str) -> str:
    """An address as it is stored; what is none stays as it is, and matches nothing."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def asks(sent: Sequence[FixedIpAsk] | UnsetType | None) -> list[Ask] | None:
    """The addresses asked for; None: any."""
    if sent is UNSET or sent is None:
        return None
    return [Ask(ask.subnet_id or None, ask.ip_address or None) for ask in sent]


def needs_security() -> Exception:
    """400 for security groups on a port without port security."""
    return invalid("Port security must be enabled and port must have an IP address in order to use security groups.",
                   "PortSecurityAndIPRequiredForSecurityGroups")


def pairs_need_security() -> Exception:
    """409 for allowed address pairs on a port without port security."""
    return conflict("AddressPairAndPortSecurityRequired",
                    "Port Security must be enabled in order to have allowed address pairs on a port.")


def pairs(sent: Sequence[AddressPair] | UnsetType | None, secured: bool) -> list[list[str]]:
    """Allowed address pairs as [address or CIDR, MAC or ""]. Raises BadRequest, Conflict."""
    if sent is UNSET or not sent:
        return []
    if not secured:
        raise pairs_need_security()
    found = []
    for pair in sent:
        found.append([spelled(pair.ip_address), check_mac(pair.mac_address) if pair.mac_address else ""])
    if len({tuple(pair) for pair in found}) != len(found):
        raise invalid("Request contains duplicate address pair.", "DuplicateAddressPairInRequest")
    return found


def dhcp_options(sent: Sequence[DhcpOption] | None) -> list[list[Any]]:
    """DHCP options as [name, value, IP version]. They end in a DHCP server's configuration, so a name has
    letters, digits and dashes, and a value one printable line. Raises BadRequest."""
    found = []
    for option in sent or ():
        version = number(option.ip_version)
        value = option.opt_value
        if version not in (4, 6):
            raise invalid("ip_version of a DHCP option must be 4 or 6.")
        if not _OPTION.match(option.opt_name):
            raise invalid(f"'{option.opt_name}' is not the name or number of a DHCP option.")
        if value is not None and (not value.isprintable() or not value.strip()):
            raise invalid(f"the value of DHCP option {option.opt_name} must be one line of printable text.")
        found.append([option.opt_name, value, version])
    return [option for option in found if option[1] is not None]


def changed_options(have: Sequence[Sequence[Any]], sent: Sequence[DhcpOption]) -> list[list[Any]]:
    """An update adds and replaces options; one with value null is taken away."""
    gone = {(o.opt_name, number(o.ip_version)) for o in sent}
    kept = [list(option) for option in have if (option[0], option[2]) not in gone]
    return kept + dhcp_options(sent)
