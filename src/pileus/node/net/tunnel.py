"""A network's way to the other nodes that carry it: a VXLAN device, told beforehand who is behind which node.

Nothing is learned and nothing is multicast. A frame to a known address goes to its node alone, from the bridge on; what
is for all, or for nobody known, goes to each node in the list. The bridge answers guests' ARP requests for known
addresses itself; it asks for others on the wire, and lets announcements pass, as those by which guests take over an
address from each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pileus.node.contract import NetworkState, NodeFault
from pileus.node.net import names, namespaces
from pileus.node.net.links import (
    FLOOD,
    Device,
    Forward,
    Neighbour,
    forward_commands,
    observe_fixed,
    observe_forwards,
    observe_neighbours,
)
from pileus.node.net.settings import NetSettings


def known_elsewhere(network: NetworkState) -> set[Neighbour]:
    """The IPv4 addresses that are known to be at other nodes, with their MAC addresses."""
    if network.kind != "vxlan":
        return set()
    remote = [host for host in network.hosts if host.vtep in network.vteps]
    return {(ip, names.mac_text(host.mac)) for host in remote for ip in host.ips if ":" not in ip}


class Tunnel:
    """The tunnel of one network, in the network's namespace."""

    def __init__(self, settings: NetSettings, namespace: str) -> None:
        self._settings = settings
        self._namespace = namespace
        self._forget()

    def _forget(self) -> None:
        self._forwards: set[Forward] = set()
        self._fixed: set[str] = set()  # MAC addresses that the bridge sends to the tunnel
        self._neighbours: set[Neighbour] = set()

    def adopt(self, devices: dict[str, Device]) -> None:
        """Know what is there."""
        self._forget()
        if names.TUNNEL in devices:
            self._forwards = observe_forwards(self._namespace, names.TUNNEL)
            self._fixed = observe_fixed(self._namespace, names.TUNNEL)
        if names.SWITCH in devices:
            self._neighbours = observe_neighbours(self._namespace, names.SWITCH)

    def neighbours_lost(self) -> None:
        """The bridge has forgotten its neighbours."""
        self._neighbours = set()

    def make(self, network: NetworkState, devices: dict[str, Device], change: Callable[[Device], list[str]]) -> None:
        """Make the tunnel so; `change` gives the commands for a device's attributes, where they differ.
        There is none as long as no other node carries the network. Raises NodeFault."""
        vteps = {vtep for vtep in network.vteps if vtep != self._settings.vtep} if network.kind == "vxlan" else set()
        remote = [(names.mac_text(host.mac), host) for host in network.hosts if host.vtep in vteps]
        label = f"{self._settings.vtep}/{network.segment}"
        if vteps or names.TUNNEL in devices:
            self._make_device(network, devices, label)
            device = Device(names.TUNNEL, "", network.mtu, names.SWITCH, True, label)
            lines = change(device)
            # Known addresses are answered for here and not asked for behind the tunnel. Not `neigh_suppress`: that
            # would also keep back the announcements by which guests share an address.
            again = [f"link set {names.TUNNEL} type bridge_slave proxy_arp_wifi on"] if lines else []
            namespaces.ip_batch(self._namespace, [*lines, *again])
        flood = {(FLOOD, vtep) for vtep in vteps}
        self._forward(flood | {(mac, host.vtep) for mac, host in remote if host.vtep})
        self._fix({mac for mac, _ in remote})

    def _make_device(self, network: NetworkState, devices: dict[str, Device], label: str) -> None:
        there = devices.get(names.TUNNEL)
        if there is not None and there.alias == label:
            return
        if self._settings.vtep is None:
            raise NodeFault("other nodes carry this network, but this node has no underlay address: set vtep")
        if there is not None:  # this node's address is another one now
            namespaces.ip_batch(self._namespace, [f"link del {names.TUNNEL}"])
            del devices[names.TUNNEL]
        namespaces.ip_batch(None, [
            f"link add {names.TUNNEL} netns {self._namespace} type vxlan id {network.segment} "
            f"local {self._settings.vtep} dstport {self._settings.vxlan_port} nolearning"
        ])
        self._forwards, self._fixed = set(), set()

    def _forward(self, wanted: set[Forward]) -> None:
        self._bridge(list(forward_commands(names.TUNNEL, self._forwards, wanted)))
        self._forwards = wanted

    def _fix(self, wanted: set[str]) -> None:
        """Which addresses the bridge knows to be behind the tunnel, so that it does not flood them."""
        self._bridge([f"fdb replace {mac} dev {names.TUNNEL} master static" for mac in sorted(wanted - self._fixed)])
        gone = [f"fdb del {mac} dev {names.TUNNEL} master" for mac in sorted(self._fixed - wanted)]
        with contextlib.suppress(namespaces.CommandFailed):
            # One whose guest has come here since is behind a tap now: the bridge has seen it there.
            self._bridge(gone, "-force")
        self._fixed = wanted

    def know(self, network: NetworkState) -> None:
        """What the bridge answers for; said when the firewall lets no answers out to where these addresses are."""
        wanted = known_elsewhere(network)
        stay = dict(wanted)
        gone = sorted(ip for ip, _ in self._neighbours - wanted if ip not in stay)
        lines = [f"neigh del {ip} dev {names.SWITCH}" for ip in gone]
        lines += [
            f"neigh replace {ip} lladdr {mac} dev {names.SWITCH} nud permanent"
            for ip, mac in sorted(wanted - self._neighbours)
        ]
        namespaces.ip_batch(self._namespace, lines)
        self._neighbours = wanted

    def _bridge(self, lines: list[str], *options: str) -> None:
        if lines:
            namespaces.run(self._namespace, ("bridge", *options, "-batch", "-"), "\n".join(lines) + "\n")
