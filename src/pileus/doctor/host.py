"""What the host shows: guests, volumes, namespaces, taps, DHCP servers, files. Only reads; needs no running agent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pileus.doctor import storage
from pileus.doctor.findings import Carried, Guest, Host
from pileus.node.assemble import net_settings, node_names
from pileus.node.contract import NodeFault
from pileus.settings import Settings

if TYPE_CHECKING:
    from pileus.node.net.links import Device

_PROCESSES = Path("/proc")


def look(settings: Settings, node: str | None = None) -> Host:
    """Everything of this host that is judged; of one of its nodes, where it plays many."""
    nodes = tuple(node_names(settings)) if node is None else (node,)
    fake = settings.hypervisor == "fake"
    commands = list(_commands())
    state = settings.state
    volumes, backups = storage.fake(state, nodes) if fake else storage.files(state, nodes[0], commands)
    guests, others = _fake(settings, nodes) if fake else (_qemu(settings, nodes[0], commands), ())
    return Host(
        nodes=nodes,
        guests=guests,
        others=others,
        volumes=volumes,
        backups=backups,
        carried=None if fake else _network(settings, commands),
        prefix=settings.namespace_prefix,
        images=_sizes(settings.state / "images"),
        controller=_controller(settings),
        staged=frozenset(_sizes(settings.state / "images" / "staged")),
        cache=None if fake else _sizes(settings.state / "cache"),
    )


def _commands() -> Iterator[tuple[int, list[str]]]:
    """Pid and command line of every process."""
    for name in os.listdir(_PROCESSES):
        if name.isdigit():
            try:
                raw = (_PROCESSES / name / "cmdline").read_bytes()
            except OSError:
                continue
            if raw:
                yield int(name), raw.decode(errors="surrogateescape").split("\0")[:-1]


def store(settings: Settings) -> Host:
    """What there is of a controller that is no node: the image store."""
    return Host(
        nodes=(), guests={}, carried=None, images=_sizes(settings.state / "images"),
        staged=frozenset(_sizes(settings.state / "images" / "staged")), controller=_controller(settings),
    )


def _controller(settings: Settings) -> str:
    """The name by which the database knows this controller."""
    return settings.node_name or socket.gethostname().split(".")[0]


def _fake(settings: Settings, nodes: tuple[str, ...]) -> tuple[dict[str, Guest], tuple[tuple[str, Guest], ...]]:
    """A guest of each server, and those that are on one more node, as between a move and its confirmation."""
    from pileus.node.hypervisor.fake.journal import Journal

    found: dict[str, Guest] = {}
    others = []
    for node in nodes:
        journal = Journal(settings.state / "nodes" / node / "guests")
        journal.read()
        for guest in journal.guests.values():
            here = Guest(node, guest.power in ("running", "paused"), power=guest.power)
            if found.setdefault(guest.id, here) is not here:
                others.append((guest.id, here))
    return found, tuple(others)


def _qemu(settings: Settings, node: str, commands: list[tuple[int, list[str]]]) -> dict[str, Guest]:
    """Guests by server id: those with files, and those with a process."""
    folder = settings.state / "instances"
    counts = {path.name: 0 for path in folder.iterdir()} if folder.is_dir() else {}
    marker = f"{folder}/"
    for _, words in commands:
        if "qemu-system" not in words[0]:
            continue
        named = {word.split(marker, 1)[1].split("/", 1)[0] for word in words if marker in word}
        for server in named:
            counts[server] = counts.get(server, 0) + 1
    return {server: Guest(node, count > 0, count) for server, count in counts.items()}


def _network(settings: Settings, commands: list[tuple[int, list[str]]]) -> Carried:
    from pileus.node.net import names, namespaces

    network = net_settings(settings)
    pattern = names.own_namespace(network.prefix)
    networks, routers, taps = set[str](), set[str](), set[str]()
    addresses: dict[str, frozenset[str]] = {}
    for namespace in namespaces.names():
        match = pattern.fullmatch(namespace)
        seen = _namespace(namespace) if match is not None else None
        if match is None or seen is None:
            continue
        devices, held = seen
        taps |= {device.alias or name for name, device in devices.items() if name.startswith("tap")}
        router = match[1] == "r"
        marker = devices.get("lo" if router else names.SWITCH)
        identity = (marker.alias if marker else "") or namespace
        (routers if router else networks).add(identity)
        if router:
            addresses[identity] = held
    return Carried(
        networks=frozenset(networks), routers=frozenset(routers), taps=frozenset(taps), addresses=addresses,
        dhcp=_dhcp(network.dhcp_dir, commands),
    )


def _namespace(name: str) -> tuple[dict[str, Device], frozenset[str]] | None:
    """Devices and addresses in a namespace; None if there is none, or none any more."""
    from pileus.node.net import namespaces
    from pileus.node.net.links import observe_devices, observe_layer3

    if not namespaces.exists(name):
        return None
    try:
        devices = observe_devices(name)
        held = observe_layer3(name).addresses
    except (NodeFault, OSError):
        if namespaces.exists(name):
            raise
        return None  # a cloud that works took it away meanwhile
    return devices, frozenset(text.split("/")[0] for _, text in held)


def _dhcp(folder: Path, commands: list[tuple[int, list[str]]]) -> dict[str, int]:
    """How many DHCP servers serve each namespace; those whose namespace is another one by now count as none."""
    from pileus.node.net import namespaces

    marker, found = f"--conf-file={folder}/", dict[str, int]()
    for pid, words in commands:
        named = next((word.removeprefix(marker) for word in words if word.startswith(marker)), None)
        if named is None:
            continue
        namespace = named.split("/")[0]
        try:
            here = os.stat(f"/proc/{pid}/ns/net").st_ino == namespaces.identity(namespace)
        except OSError:
            continue
        found[namespace] = found.get(namespace, 0) + here
    return found


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder, by name."""
    if not folder.is_dir():
        return {}
    found = {}
    for entry in os.scandir(folder):
        try:
            if entry.is_file(follow_symlinks=False):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return found
