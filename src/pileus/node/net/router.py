"""One router on this node: a namespace with a leg in each of its networks.

All of it blocks, and is run by a worker thread. As with a network, the first `apply` reads the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from pileus.node.contract import NetworkState, NodeFault, RouterPort, RouterState
from pileus.node.net import announcements, conntrack, names, namespaces, router_rules, ruleset
from pileus.node.net.arp import announce
from pileus.node.net.dnsmasq import Dnsmasq
from pileus.node.net.links import (
    PROTOCOL,
    Address,
    Device,
    Layer3,
    checked,
    layer3_commands,
    observe_devices,
    observe_layer3,
    remove_namespace,
)
from pileus.node.net.rules import Flow
from pileus.node.net.settings import NetSettings

_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    # 169.254.169.254 is on lo; only who routes to it through this router is answered.
    "ipv4/conf/all/arp_ignore": "1",
    "ipv4/conf/all/arp_announce": "2",
    # Advertisements start at once; the link-local address comes from a MAC address that is unique.
    "ipv6/conf/default/accept_dad": "0",
}


Greetings = dict[tuple[str, str], list[str]]  # addresses by leg and its MAC address


class Router:
    """A router's namespace. Not for use by two threads at once."""

    def __init__(self, settings: NetSettings, router_id: str) -> None:
        self.id = router_id
        self.namespace = names.router_namespace(settings.prefix, router_id)
        self._settings = settings
        self._folder = settings.dhcp_dir / self.namespace
        self._dnsmasq = Dnsmasq(self.namespace, self._folder)
        self._devices: dict[str, Device] = {}
        self._layer3 = Layer3()
        self._rules: ruleset.Ruleset | None = None
        self._known: int | None = None  # identity of the namespace that the rest here tells of
        self._fresh = False  # whether the namespace is new and has no rules at all
        self._applied: tuple[RouterState, dict[str, NetworkState]] | None = None
        self._floating: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Read the host at the next apply: a network that the router had a leg in was removed."""
        self._known, self._applied, self._rules = None, None, None

    def apply(self, router: RouterState, networks: dict[str, NetworkState]) -> Greetings:
        """Make the router so; the addresses that are new here, to `greet` with. Raises NodeFault or OSError; the next
        call then starts from the host.

        `networks` are those on this node; a leg into another one cannot be made."""
        legs = [*router.interfaces, *([router.gateway] if router.gateway else [])]
        near = {port.network_id: _facts(networks, router, port) for port in legs}
        if self._applied == (router, near) and self._healthy(router, near):
            return {}
        try:
            greetings = self._change(router, near)
        except BaseException:
            self.forget()
            raise
        self._applied = (router, near)
        return greetings

    def _here(self) -> bool:
        return self._known is not None and self._known == namespaces.identity(self.namespace)

    def _healthy(self, router: RouterState, networks: dict[str, NetworkState]) -> bool:
        announces = router.admin_state_up and announcements.announced(router, networks)
        return self._here() and (not announces or self._dnsmasq.pid() is not None)

    def _change(self, router: RouterState, networks: dict[str, NetworkState]) -> Greetings:
        if not self._here():
            self._adopt(router)
        self._make_legs(router if router.admin_state_up else RouterState(id=router.id), networks)
        if not router.admin_state_up:
            router = RouterState(id=router.id)
        rules = router_rules.render(router)
        old = self._rules
        script = ruleset.replace(rules, self._fresh) if old is None else ruleset.difference(old, rules)
        namespaces.nft(self.namespace, script)
        self._fresh = False
        self._rules = rules
        wanted = layer3(router)
        namespaces.ip_batch(self.namespace, layer3_commands(self._layer3, wanted))
        fresh, self._layer3 = wanted.addresses - self._layer3.addresses, wanted
        self._announce(router, networks)
        self._flush(router)
        greetings = _greetings(router, fresh)
        self.greet(greetings)
        return greetings

    def _adopt(self, router: RouterState) -> None:
        self._rules = None
        self._fresh = not namespaces.exists(self.namespace)
        if not self._fresh:
            self._devices = observe_devices(self.namespace)
            self._layer3 = observe_layer3(self.namespace)
        else:
            namespaces.make(self.namespace)
            self._devices, self._layer3 = {}, Layer3()
        with namespaces.inside(self.namespace):
            namespaces.write_sysctls(_SYSCTLS)
        namespaces.ip_batch(self.namespace, [f"link set lo alias {router.id} up"])
        self._known = namespaces.identity(self.namespace)

    # --------------------------------------------------------------------------------------- legs

    def _make_legs(self, router: RouterState, networks: dict[str, NetworkState]) -> None:
        wanted = {names.router_leg(port.port_id, gateway=False): port for port in router.interfaces}
        if router.gateway is not None:
            wanted[names.router_leg(router.gateway.port_id, gateway=True)] = router.gateway
        gone = [name for name in self._devices if name.startswith(("qr-", "qg-")) and name not in wanted]
        namespaces.ip_batch(self.namespace, [f"link del {name}" for name in gone])
        for name in gone:
            del self._devices[name]
            self._lose(name)
        for name, port in wanted.items():
            if port.network_id not in networks or not self._network_here(port):
                raise NodeFault(f"network {port.network_id} is not on this node, so the router has no leg in it")
            device = Device(name, names.mac_text(port.mac), networks[port.network_id].mtu, "", True)
            if self._devices.get(name) != device:
                self._make_leg(device, port)

    def _network_here(self, port: RouterPort) -> bool:
        return namespaces.exists(names.network_namespace(self._settings.prefix, port.network_id))

    def _make_leg(self, device: Device, port: RouterPort) -> None:
        network = names.network_namespace(self._settings.prefix, port.network_id)
        other = names.network_leg(port.port_id)
        if device.name not in self._devices:
            namespaces.ip_batch(
                None,
                [
                    f"link add {device.name} netns {self.namespace} address {device.mac} type veth "
                    f"peer name {other} netns {network}"
                ],
            )
            self._lose(device.name)
        namespaces.ip_batch(network, [f"link set {other} master {names.SWITCH} mtu {device.mtu} up"])
        namespaces.ip_batch(
            self.namespace, [f"link set {device.name} address {device.mac} mtu {device.mtu} up"]
        )
        self._devices[device.name] = device

    def _lose(self, name: str) -> None:
        """A device that goes takes its addresses and the routes over it along; which ones is the kernel's affair."""
        addresses = frozenset(pair for pair in self._layer3.addresses if pair[0] != name)
        self._layer3 = Layer3(addresses, frozenset())
        with contextlib.suppress(namespaces.CommandFailed):  # there may be none
            for version in ("-4", "-6"):
                namespaces.run(self.namespace, ("ip", version, "route", "flush", "proto", PROTOCOL))

    # ----------------------------------------------------------------------------------- services

    def _announce(self, router: RouterState, networks: dict[str, NetworkState]) -> None:
        if announcements.announced(router, networks):
            self._dnsmasq.ensure(announcements.render(router, networks, self._settings, self._folder))
        else:
            self._dnsmasq.remove()

    def _flush(self, router: RouterState) -> None:
        """Connections of a floating IP that is gone, or serves another address now, end with it."""
        now = {(floating.floating_ip, floating.fixed_ip) for floating in router.floating_ips}
        gone, first = self._floating - now, self._applied is None
        self._floating = now
        if gone or first:
            addresses = {address for address, _ in gone}
            conntrack.delete(self.namespace, stale(conntrack.flows(self.namespace), addresses, now))

    def greet(self, greetings: Greetings) -> None:
        """Tell neighbours and bridges on every leg who has the new addresses now. Said again a little later it also
        reaches those who could not hear it yet, or heard the router's former node last."""
        here = {(leg, text.partition("/")[0]) for leg, text in self._layer3.addresses}
        for (leg, mac), addresses in greetings.items():
            with contextlib.suppress(OSError, NodeFault):
                announce(self.namespace, leg, mac, [address for address in addresses if (leg, address) in here])

    def remove(self) -> None:
        """Remove the router from this node. Its sockets must be closed before, or the namespace lives on."""
        self._dnsmasq.remove()
        remove_namespace(self.namespace)
        self.forget()


def _facts(networks: dict[str, NetworkState], router: RouterState, port: RouterPort) -> NetworkState:
    """Of a network, only what a router depends on, so that a new port in it does not touch the router."""
    network = networks.get(port.network_id)
    if network is None:
        raise NodeFault(
            f"router {router.id} has a port in network {port.network_id}, which this node was not told of"
        )
    return msgspec.structs.replace(network, hosts=(), dhcp_port=None, vteps=(), dns_domain="")


def _greetings(router: RouterState, fresh: Iterable[Address]) -> Greetings:
    legs = {names.router_leg(port.port_id, gateway=False): port.mac for port in router.interfaces}
    if router.gateway is not None:
        legs[names.router_leg(router.gateway.port_id, gateway=True)] = router.gateway.mac
    found: Greetings = {}
    for device, text in sorted(fresh):
        if device in legs:
            found.setdefault((device, legs[device]), []).append(text.partition("/")[0])
    return found


def layer3(router: RouterState) -> Layer3:
    """A router's addresses and routes."""
    addresses = {("lo", f"{names.METADATA4}/32")}
    routes: set[tuple[str, str, str]] = set()
    for port in router.interfaces:
        addresses |= {(names.router_leg(port.port_id, gateway=False), text) for text in port.addresses}
    if router.gateway is not None:
        leg = names.router_leg(router.gateway.port_id, gateway=True)
        addresses |= {(leg, text) for text in (*router.gateway.addresses, *router_rules.floating_addresses(router))}
        for nexthop in router.gateway_nexthops:
            routes.add(("::/0" if ":" in nexthop else "0.0.0.0/0", nexthop, ""))
    static = {(destination, nexthop, "") for destination, nexthop in router.routes}
    # A static default route stands in place of the gateway's.
    replaced = {destination for destination, _, _ in static}
    chosen = static | {route for route in routes if route[0] not in replaced}
    return checked(Layer3(frozenset(addresses), frozenset(chosen)))


def stale(flows: list[Flow], gone: set[str], now: set[tuple[str, str]]) -> list[Flow]:
    """Connections through floating IPs that are gone, or that lead to another fixed address than now."""
    current: dict[str, str] = dict(now)
    found = []
    for flow in flows:
        inward = flow.destination != flow.reply_source  # translated on the way in
        outward = flow.source != flow.reply_destination
        if (
            (inward and (flow.destination in gone or current.get(flow.destination) != flow.reply_source))
            or (outward and flow.reply_destination in gone)
        ):
            found.append(flow)
    return found
