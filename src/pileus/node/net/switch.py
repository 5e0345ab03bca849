"""One network on this node: its namespace, with the bridge, the guests' taps, the tunnel, and DHCP.

All of it blocks, and is run by a worker thread. `apply` compares with what it did last; the first time it
reads the host instead, so that it goes on where an earlier process stopped, wherever that was.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Collection

import msgspec

from pileus.node.contract import NetworkState, NodeFault, PortState, SecurityGroupState
from pileus.node.net import cuts, dhcp, names, namespaces, ruleset, subports
from pileus.node.net.dnsmasq import Dnsmasq
from pileus.node.net.firewall import Firewall, SenderRules, groups_for, render
from pileus.node.net.links import (
    Device,
    Layer3,
    checked,
    layer3_commands,
    observe_devices,
    observe_layer3,
    remove_namespace,
)
from pileus.node.net.settings import NetSettings
from pileus.node.net.taps import open_tap
from pileus.node.net.tunnel import Tunnel
from pileus.node.net.uplink import join_uplink, leave_uplink

_BRIDGE = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
_SYSCTLS = {
    # Devices of the bridge need no addresses of their own.
    "ipv6/conf/default/disable_ipv6": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv4/ip_forward": "0",
    "bridge/bridge-nf-call-iptables": "1",
    "bridge/bridge-nf-call-ip6tables": "1",
    "bridge/bridge-nf-call-arptables": "0",
}


class Outcome(msgspec.Struct):
    """What came of applying one network."""

    ports_up: set[str]
    errors: dict[str, str]
    metadata: bool  # whether the metadata address is here


class Switch:
    """A network's namespace. Not for use by two threads at once."""

    def __init__(self, settings: NetSettings, network_id: str) -> None:
        self.id = network_id
        self.namespace = names.network_namespace(settings.prefix, network_id)
        self._settings = settings
        self._folder = settings.dhcp_dir / self.namespace
        self._dnsmasq = Dnsmasq(self.namespace, self._folder)
        self._devices: dict[str, Device] = {}
        self._layer3 = Layer3()
        self._tunnel = Tunnel(settings, self.namespace)
        self._firewall: Firewall | None = None
        self._rules: ruleset.Ruleset | None = None
        self._numbers: dict[str, int] = {}
        self._sender_rules: SenderRules = {}
        self._cut = False  # whether some connection is marked as cut
        self._known: int | None = None  # identity of the namespace that the rest here tells of
        self._fresh = False  # whether the namespace is new and has no rules at all
        self._applied: tuple[NetworkState, tuple[PortState, ...], dict[str, SecurityGroupState]] | None = None

    def apply(
        self, network: NetworkState, ports: tuple[PortState, ...], groups: dict[str, SecurityGroupState]
    ) -> Outcome:
        """Make the network so. Raises NodeFault or OSError; the next call then starts from the host."""
        wanted = (network, ports, groups_for(ports, groups))
        errors: dict[str, str] = {}
        try:
            if self._applied == wanted and self._healthy():
                self._join_taps(ports)
            else:
                errors = self._change(*wanted)
                self._applied = wanted
        except BaseException:
            self._known, self._applied, self._rules, self._firewall = None, None, None, None
            raise
        return Outcome(self.wired(ports), errors, network.dhcp_port is not None)

    def wired(self, ports: tuple[PortState, ...]) -> set[str]:
        """The enabled ones of these ports whose taps are joined, as last known. Of subports `branch` tells."""
        return {port.id for port in ports if port.admin_state_up and port.branch is None and self.joined(port.id)}

    def _healthy(self) -> bool:
        applied = self._applied
        return self._here() and (
            applied is None or not self._serves(applied[0]) or self._dnsmasq.pid() is not None
        )

    def _here(self) -> bool:
        return self._known is not None and self._known == namespaces.identity(self.namespace)

    def _change(
        self, network: NetworkState, ports: tuple[PortState, ...], groups: dict[str, SecurityGroupState]
    ) -> dict[str, str]:
        if not self._here():
            self._adopt()
        self._make_devices(network)
        self._leave_taps(ports)
        self._filter(Firewall(network, ports, groups))
        self._tunnel.know(network)
        self._join_taps(ports)
        self._set_layer3(network)
        return self._serve(network)

    # ------------------------------------------------------------------------------------ devices

    def _adopt(self) -> None:
        """Know what is there, or make an empty namespace."""
        self._rules = self._firewall = None
        self._fresh = not namespaces.exists(self.namespace)
        if not self._fresh:
            self._devices = observe_devices(self.namespace)
            self._layer3 = observe_layer3(self.namespace)
            self._tunnel.adopt(self._devices)
        else:
            namespaces.require_bridge_filter()
            namespaces.make(self.namespace)
            self._devices, self._layer3 = {}, Layer3()
            self._tunnel.adopt(self._devices)
        with namespaces.inside(self.namespace):
            namespaces.write_sysctls(_SYSCTLS)
        self._known = namespaces.identity(self.namespace)

    def _make_devices(self, network: NetworkState) -> None:
        lines: list[str] = []
        if names.SWITCH not in self._devices:
            lines += ["link set lo up", f"link add {names.SWITCH} {_BRIDGE}"]
        before = self._devices.get(names.SWITCH)
        mac = _mac(network, before)
        if before is None or before.mac != mac:
            self._tunnel.neighbours_lost()  # the kernel forgets them all when the device's address changes
        lines += self._set(Device(names.SWITCH, mac, network.mtu, "", True, network.id))
        namespaces.ip_batch(self.namespace, lines)
        if lines or self._rules is None:  # also at adoption: an earlier process may have ended just before this
            with namespaces.inside(self.namespace):
                namespaces.write_sysctls({f"ipv6/conf/{names.SWITCH}/disable_ipv6": "0"})
        self._make_uplink(network)
        self._tunnel.make(network, self._devices, self._set)

    def _set(self, device: Device) -> list[str]:
        """Commands for a device's attributes, where they differ; remembers them as done."""
        before = self._devices.get(device.name, Device(device.name))
        wanted = msgspec.structs.replace(
            device, mac=names.mac_text(device.mac) if device.mac else before.mac, alias=device.alias or before.alias
        )
        if wanted == before:
            return []
        self._devices[device.name] = wanted
        words = f"link set {device.name} mtu {device.mtu}"
        words += f" address {device.mac}" if device.mac else ""
        words += f" alias {device.alias}" if device.alias else ""
        words += f" master {device.master}" if device.master else ""
        return [words + " up"]

    def _make_uplink(self, network: NetworkState) -> None:
        wanted = network.kind in ("flat", "vlan")
        if wanted:
            join_uplink(self._settings, network, self.namespace, made=names.UPLINK in self._devices)
        elif names.UPLINK in self._devices:
            namespaces.ip_batch(self.namespace, [f"link del {names.UPLINK}"])
            del self._devices[names.UPLINK]
        if wanted:
            lines = self._set(Device(names.UPLINK, "", network.mtu, names.SWITCH, True))
            namespaces.ip_batch(self.namespace, lines)

    # --------------------------------------------------------------------------------------- taps

    def _present(self) -> set[str]:
        with namespaces.inside(self.namespace):
            return {name for _, name in socket.if_nameindex() if name.startswith("tap")}

    def joined(self, port_id: str) -> bool:
        """Whether the port's tap is joined to the network, as last known."""
        device = self._devices.get(names.tap(port_id))
        return device is not None and device.master == names.SWITCH

    def _leave_taps(self, ports: tuple[PortState, ...]) -> None:
        """Cut off taps of ports that are gone, before their rules go."""
        branches = subports.observe(self.namespace)
        roots = {names.tap(port.id): subports.root_of(port.branch) for port in ports if port.branch is not None}
        lost = sorted(name for name, root in branches.items() if roots.get(name) != root)
        subports.remove(self.namespace, lost)
        present, wanted = self._present(), {names.tap(port.id) for port in ports}
        gone = sorted(present - wanted)
        namespaces.ip_batch(self.namespace, [f"link set {name} down nomaster" for name in gone])
        for name in [name for name in self._devices if name.startswith("tap")]:
            if name not in present or name in gone or name in lost:
                del self._devices[name]

    def _join_taps(self, ports: tuple[PortState, ...]) -> None:
        """Join the taps that are there; called when their rules are in place."""
        present = self._present()
        lines: list[str] = []
        for port in ports:
            if port.branch is not None:
                continue
            if names.tap(port.id) in present:
                lines += self._join(port)
            else:
                self._devices.pop(names.tap(port.id), None)
        namespaces.ip_batch(self.namespace, lines)

    def _join(self, port: PortState) -> list[str]:
        mtu = self._devices[names.SWITCH].mtu
        if port.branch is not None:
            mtu = min(mtu, port.branch.mtu)
        return self._set(Device(names.tap(port.id), "", mtu, names.SWITCH, True, port.id))

    def branch(self, ready: Collection[str]) -> Outcome:
        """Wire the subports that were applied; `ready` are those whose parents' taps are joined to their networks."""
        ports = [port for port in self._applied[1] if port.branch is not None] if self._applied else []
        # Not what only has the name: a tap that a guest had the port by before.
        present = subports.observe(self.namespace) if ports else {}
        for port in ports:
            if names.tap(port.id) not in present:
                self._devices.pop(names.tap(port.id), None)  # the kernel took it away together with the parent's tap
        up, errors = subports.wire(self._settings.prefix, self.namespace, ports, present, ready, self._join)
        for port_id in errors:
            self._devices.pop(names.tap(port_id), None)
        return Outcome(up, errors, False)

    def open_tap(self, port_id: str) -> int:
        """A descriptor on the tap of a port that has been applied; the tap is joined to the network.

        Raises NodeFault if the port is not known here."""
        applied = self._applied
        port = next((port for port in applied[1] if port.id == port_id), None) if applied else None
        if port is None or port.branch is not None:
            raise NodeFault(f"port {port_id} is not among the ports of network {self.id} on this node")
        descriptor = open_tap(self.namespace, names.tap(port_id))
        # A tap of the same name may have come and gone since.
        self._devices.pop(names.tap(port_id), None)
        self._join_taps((port,))
        return descriptor

    def close_tap(self, port_id: str) -> None:
        """Take a port's tap away if something still keeps it."""
        if namespaces.exists(self.namespace) and names.tap(port_id) in self._present():
            namespaces.ip_batch(self.namespace, [f"link del {names.tap(port_id)}"])
        self._devices.pop(names.tap(port_id), None)

    def knows(self, port_id: str) -> bool:
        """Whether the port has been applied, and has a tap of its own."""
        return self._applied is not None and any(
            port.id == port_id and port.branch is None for port in self._applied[1]
        )

    # -------------------------------------------------------------------------------------- rules

    def _filter(self, firewall: Firewall) -> None:
        self._number(firewall.ports)
        rules = render(firewall, self._numbers, self._sender_rules)
        old, before = self._rules, self._firewall
        script = ruleset.replace(rules, self._fresh) if old is None else ruleset.difference(old, rules)
        namespaces.nft(self.namespace, script)
        self._fresh = False
        self._rules, self._firewall = rules, firewall
        if before is None:
            self._cut = bool(firewall.ports) and cuts.enforce(self.namespace, firewall)
        elif cuts.narrowed(before, firewall) or (self._cut and cuts.widened(before, firewall)):
            self._cut = cuts.enforce(self.namespace, firewall)

    def _number(self, ports: tuple[PortState, ...]) -> None:
        wanted = {port.id for port in ports}
        self._numbers = {port: number for port, number in self._numbers.items() if port in wanted}
        used = set(self._numbers.values())
        free = (number for number in range(1, 1 << 31) if number not in used)
        for port in ports:
            if port.id not in self._numbers:
                self._numbers[port.id] = next(free)

    # ----------------------------------------------------------------------------------- services

    def _set_layer3(self, network: NetworkState) -> None:
        wanted = layer3(network)
        namespaces.ip_batch(self.namespace, layer3_commands(self._layer3, wanted))
        self._layer3 = wanted

    def _serves(self, network: NetworkState) -> bool:
        return network.dhcp_port is not None and any(dhcp.served(subnet) for subnet in network.subnets)

    def _serve(self, network: NetworkState) -> dict[str, str]:
        if not self._serves(network):
            self._dnsmasq.remove()
            return {}
        return self._dnsmasq.ensure(dhcp.render(network, self._settings, self._folder))

    def remove(self) -> None:
        """Remove the network from this node. Its sockets must be closed before, or the namespace lives on."""
        self._dnsmasq.remove()
        leave_uplink(self._settings, self.id)
        remove_namespace(self.namespace)
        self._known, self._applied, self._rules, self._firewall = None, None, None, None


def _mac(network: NetworkState, before: Device | None) -> str:
    """The bridge's own address: the DHCP server's where that is served, elsewhere a random one. Never one that the
    kernel takes from a port: it would change with the ports."""
    if network.dhcp_port is not None:
        return names.mac_text(network.dhcp_port.mac)
    if before is not None and before.mac.startswith(names.BRIDGE_MACS):
        return before.mac
    return names.BRIDGE_MACS + secrets.token_bytes(3).hex(":")


def layer3(network: NetworkState) -> Layer3:
    """Addresses and routes of a network's own servers; none where this node does not serve it."""
    if network.dhcp_port is None:
        return Layer3()
    addresses = {(names.SWITCH, f"{names.METADATA4}/32"), (names.SWITCH, f"{names.METADATA6}/128")}
    routes: set[tuple[str, str, str]] = set()
    for subnet in network.subnets:
        net = ipaddress.ip_network(subnet.cidr)
        own = [ip for ip in network.dhcp_port.ips if ipaddress.ip_address(ip) in net]
        addresses |= {(names.SWITCH, f"{ip}/{net.prefixlen}") for ip in own}
        if not own:
            routes.add((str(net), "", names.SWITCH))
        elif subnet.gateway_ip and net.version == 4 and not any(route[0] == "0.0.0.0/0" for route in routes):
            # for DNS: the forwarders are reached as the guests would
            routes.add(("0.0.0.0/0", subnet.gateway_ip, ""))
    return checked(Layer3(frozenset(addresses), frozenset(routes)))
