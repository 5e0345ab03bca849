"""The names of what the driver makes. Devices have at most 15 characters, so ids are cut to eleven.

A cut id only names; the whole id stands in the device's alias, and is what inventory reads.
"""

from __future__ import annotations

import hashlib
import re

SWITCH = "switch"  # the bridge in a network's namespace
TUNNEL = "tunnel"  # its VXLAN device
UPLINK = "uplink"  # its way to a physical network
BRIDGE_MACS = "02:50:69:"  # locally administered
METADATA4 = "169.254.169.254"
METADATA6 = "fe80::a9fe:a9fe"


def short(identity: str) -> str:
    """The first eleven characters of an id."""
    return identity[:11]


def network_namespace(prefix: str, network_id: str) -> str:
    """The namespace that holds a network."""
    return f"{prefix}-n-{short(network_id)}"


def router_namespace(prefix: str, router_id: str) -> str:
    """The namespace that is a router."""
    return f"{prefix}-r-{short(router_id)}"


def own_namespace(prefix: str) -> re.Pattern[str]:
    """Matches the namespaces of one prefix; the first group is `n` or `r`."""
    return re.compile(rf"{re.escape(prefix)}-([nr])-.{{1,11}}")


def tap(port_id: str) -> str:
    """The host's end of a guest's port."""
    return "tap" + short(port_id)


def router_leg(port_id: str, gateway: bool) -> str:
    """A router's interface, in the router's namespace: to a network of its tenant, or to the outside."""
    return ("qg-" if gateway else "qr-") + short(port_id)


def network_leg(port_id: str) -> str:
    """The other end of a router's interface, in the network's namespace."""
    return "rt-" + short(port_id)


def host_leg(prefix: str, network_id: str) -> str:
    """The host's end of a network's uplink. Hashed: agents share the host's namespace."""
    return "px" + hashlib.sha256(f"{prefix} {network_id}".encode()).hexdigest()[:11]


def host_table(prefix: str) -> str:
    """The driver's nft table in the host's namespace."""
    return f"{prefix}_host"


def mac_octets(mac: str) -> bytes:
    """The six bytes of a MAC address; raises ValueError for anything else."""
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) != 6 or mac.count(":") != 5:
        raise ValueError(f"{mac!r} is not a MAC address")
    return octets


def mac_text(mac: str) -> str:
    """A MAC address in the kernel's spelling, fit for rules and files; raises ValueError."""
    return mac_octets(mac).hex(":")
