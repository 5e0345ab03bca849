"""The devices, addresses and routes of a namespace: as wanted, as they are, and the commands between.

What the driver sets it can tell from what the kernel or others set: routes by `proto 112`, IPv6
addresses by not being the kernel's own link-local ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pileus.node.net import subports
from pileus.node.net.names import METADATA4, METADATA6, UPLINK
from pileus.node.net.namespaces import exists, ip_batch, remove, run

PROTOCOL = "112"  # of routes: unassigned in rt_protos
Address = tuple[str, str]  # device, "10.0.0.1/24"
Route = tuple[str, str, str]  # destination, nexthop or "", device or ""
Forward = tuple[str, str]  # MAC address, VTEP
Neighbour = tuple[str, str]  # IPv4 address, MAC address
FLOOD = "00:00:00:00:00:00"


class Device(msgspec.Struct, frozen=True):
    """A device that exists, as the host tells it."""

    name: str
    mac: str = ""
    mtu: int = 0
    master: str = ""
    up: bool = False
    alias: str = ""


class Layer3(msgspec.Struct, frozen=True):
    """Addresses and routes of one namespace."""

    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()


def observe_devices(namespace: str | None) -> dict[str, Device]:
    """Every device in a namespace, read from the host."""
    found: dict[str, Device] = {}
    for row in _json(namespace, "link", "show"):
        name = str(row["ifname"])
        found[name] = Device(
            name,
            str(row.get("address", "")),
            int(row.get("mtu", 0)),
            str(row.get("master", "")),
            "UP" in row.get("flags", ()),
            str(row.get("ifalias", "")),
        )
    return found


def observe_layer3(namespace: str) -> Layer3:
    """The addresses and routes in a namespace that the driver may have set, read from the host."""
    addresses = {
        (str(row["ifname"]), f"{info['local']}/{info['prefixlen']}")
        for row in _json(namespace, "addr", "show")
        for info in row.get("addr_info", ())
        if (not _automatic(str(info["local"])) and row["ifname"] != "lo") or info["local"] == METADATA4
    }
    routes = {
        (_destination(str(row["dst"]), version), str(row.get("gateway", "")), "" if row.get("gateway") else row["dev"])
        for version in ("-4", "-6")
        for row in _json(namespace, version, "route", "show", "proto", PROTOCOL)
    }
    return Layer3(frozenset(addresses), frozenset(routes))


def _json(namespace: str | None, *words: str) -> list[dict[str, Any]]:
    text = run(namespace, ("ip", "-json", *words))
    rows: list[dict[str, Any]] = msgspec.json.decode(text) if text.strip() else []
    return [row for row in rows if row]


def _automatic(address: str) -> bool:
    return address.startswith("fe80:") and address != METADATA6


def _destination(text: str, version: str) -> str:
    if text == "default":
        return "0.0.0.0/0" if version == "-4" else "::/0"
    return str(ipaddress.ip_network(text))


def layer3_commands(old: Layer3, new: Layer3) -> list[str]:
    """`ip` commands from one to the other: first what goes, then addresses, then the routes over them."""
    gone = sorted(old.routes - new.routes)
    lines = [f"route del {_route(route)} proto {PROTOCOL}" for route in gone]
    lines += [f"addr del {address} dev {device}" for device, address in sorted(old.addresses - new.addresses)]
    lines += [_address(device, address) for device, address in sorted(new.addresses - old.addresses)]
    # An address that goes takes routes over it along, so all of them are said again then.
    fresh = new.routes if old.addresses - new.addresses else new.routes - old.routes
    lines += [f"route replace {_route(route)} proto {PROTOCOL}" for route in sorted(fresh, key=_direct_first)]
    return lines


def _direct_first(route: Route) -> tuple[bool, Route]:
    return bool(route[1]), route


def checked(layer3: Layer3) -> Layer3:
    """The same with every address in the kernel's spelling; raises ValueError for what is none."""
    addresses = {(device, str(ipaddress.ip_interface(text))) for device, text in layer3.addresses}
    routes = {
        (str(ipaddress.ip_network(to)), str(ipaddress.ip_address(via)) if via else "", device)
        for to, via, device in layer3.routes
    }
    return Layer3(frozenset(addresses), frozenset(routes))


def remove_namespace(namespace: str) -> None:
    """Delete a network's or router's namespace; missing is fine.

    Devices with an end elsewhere go first, and so at once: the kernel empties a deleted namespace later, and
    until then the other end would look alive."""
    if exists(namespace):
        subports.remove(namespace, subports.observe(namespace))
        paired = [name for name in observe_devices(namespace) if name.startswith(("qr-", "qg-", "rt-", UPLINK))]
        ip_batch(namespace, [f"link del {name}" for name in paired])
    remove(namespace)


def _address(device: str, address: str) -> str:
    # Without duplicate detection an IPv6 address can be bound at once; the database hands it out once.
    return f"addr replace {address} dev {device}" + (" nodad" if ":" in address else "")


def _route(route: Route) -> str:
    destination, nexthop, device = route
    return f"{destination}" + (f" via {nexthop}" if nexthop else "") + (f" dev {device}" if device else "")


def forward_commands(device: str, old: Iterable[Forward], new: Iterable[Forward]) -> Iterator[str]:
    """`bridge` commands for a tunnel's table of who is behind which node; the zero MAC is for floods.

    One who is behind another node now is so from one frame to the next."""
    before, after = set(old), set(new)
    stay = {mac for mac, _ in after if mac != FLOOD}
    for mac, vtep in sorted(after - before):
        yield f"fdb {'append' if mac == FLOOD else 'replace'} {mac} dev {device} dst {vtep} self permanent"
    for mac, vtep in sorted(before - after):
        if mac not in stay:
            yield f"fdb del {mac} dev {device} dst {vtep} self"


def observe_forwards(namespace: str, device: str) -> set[Forward]:
    """A tunnel's table as it is."""
    text = run(namespace, ("bridge", "-json", "fdb", "show", "dev", device))
    rows = msgspec.json.decode(text, type=list[dict[str, Any]]) if text.strip() else []
    return {(str(row["mac"]), str(row["dst"])) for row in rows if row.get("dst")}


def observe_fixed(namespace: str, device: str) -> set[str]:
    """The MAC addresses that the bridge was told to be behind one of its ports."""
    text = run(namespace, ("bridge", "-json", "fdb", "show", "dev", device))
    rows = msgspec.json.decode(text, type=list[dict[str, Any]]) if text.strip() else []
    return {str(row["mac"]) for row in rows if row.get("master") and row.get("state") == "static"}


def observe_neighbours(namespace: str, device: str) -> set[Neighbour]:
    """The IPv4 neighbours that are known for good on a device."""
    rows = _json(namespace, "-4", "neigh", "show", "dev", device, "nud", "permanent")
    return {(str(row["dst"]), str(row["lladdr"])) for row in rows if row.get("lladdr")}
