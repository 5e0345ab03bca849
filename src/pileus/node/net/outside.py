"""Bridges in the host's namespace that the driver was told to make, and the host as their way out.

What was made is recorded before it is made, so that teardown removes that and never a bridge of the host's owner.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import msgspec

from pileus.node.net import names, namespaces, ruleset
from pileus.node.net.ruleset import Chain, Table
from pileus.node.net.settings import HostBridge, NetSettings

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


class Made(msgspec.Struct):
    """What the driver changed in the host's namespace."""

    bridges: list[str] = []
    table: bool = False
    ip_forward: str | None = None  # as it was before


class Outside:
    """The host's part of the driver."""

    def __init__(self, settings: NetSettings) -> None:
        self._settings = settings
        self._file = settings.state_dir / "host.json"

    def _load(self) -> Made:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Made)
        except FileNotFoundError:
            return Made()

    def _save(self, made: Made) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(made))
        new.rename(self._file)

    def make(self) -> None:
        """Make the bridges that are missing, with their addresses, and the masquerade."""
        made = self._load()
        for bridge in self._settings.host_bridges:
            self._make_bridge(bridge, made)
        masqueraded = [bridge for bridge in self._settings.host_bridges if bridge.masquerade]
        if not masqueraded:
            return
        before = _FORWARD.read_text().strip()
        if made.ip_forward is None or not made.table:
            made.table, made.ip_forward = True, made.ip_forward or before
            self._save(made)
        if before != "1":
            _FORWARD.write_text("1")
        namespaces.nft(None, ruleset.replace((table(self._settings.prefix, masqueraded),)))

    def _make_bridge(self, bridge: HostBridge, made: Made) -> None:
        present = any(name == bridge.name for _, name in socket.if_nameindex())
        if not present:
            if bridge.name not in made.bridges:
                made.bridges.append(bridge.name)
                self._save(made)
            namespaces.ip_batch(None, [f"link add {bridge.name} type bridge forward_delay 0 stp_state 0"])
        if bridge.name in made.bridges:
            lines = [f"addr replace {address} dev {bridge.name}" for address in bridge.addresses]
            namespaces.ip_batch(None, [f"link set {bridge.name} up", *lines])

    def remove(self) -> None:
        """Undo what was made."""
        made = self._load()
        if made.table:
            path = f"ip {names.host_table(self._settings.prefix)}"
            namespaces.nft(None, f"add table {path}\ndelete table {path}\n")
        present = {name for _, name in socket.if_nameindex()}
        namespaces.ip_batch(None, [f"link del {name}" for name in made.bridges if name in present])
        if made.ip_forward is not None:
            _FORWARD.write_text(made.ip_forward)
        self._file.unlink(missing_ok=True)


def table(prefix: str, bridges: list[HostBridge]) -> Table:
    """The masquerade: from a bridge's own addresses, out of any other interface."""
    rules = []
    for bridge in bridges:
        for address in bridge.addresses:
            network = ipaddress.ip_interface(address).network
            if network.version == 4:
                rules.append(f'ip saddr {network} oifname != "{bridge.name}" masquerade')
    hook = "type nat hook postrouting priority 100; policy accept;"
    return Table("ip", names.host_table(prefix), {"out": Chain(tuple(rules), hook)})
