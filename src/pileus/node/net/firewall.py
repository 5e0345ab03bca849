"""The packet filter of one network on one node, as an nft ruleset.

Two tables, because not every kernel can track connections in nft's bridge family:

- `bridge`: frames as they enter from a tap are checked for forged senders, without state. It also marks
  them with the number of the port they come from and, when they leave to a tap, of the port they go to.
- `inet`: the same packets, handed over by br_netfilter, meet the security groups: in prerouting, with the
  sender's mark, the rules for egress; in forward, with the receiver's, the rules for ingress.

What the network's own DHCP and metadata servers send never passes `forward`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from pileus.node.contract import NetworkState, PortState, RuleState, SecurityGroupState
from pileus.node.net import names
from pileus.node.net.names import mac_octets, mac_text
from pileus.node.net.rules import member_set, rule_text
from pileus.node.net.ruleset import Chain, Container, Ruleset, Table
from pileus.node.net.tunnel import known_elsewhere

TABLE = "pileus"
CUT = 0x70696C65  # connection mark: a rule that allowed it is gone

# Neighbour discovery and multicast listening, without which IPv6 does not work at all.
_ND_EGRESS = "{ 130, 131, 132, 133, 135, 136, 143 }"
_ND_INGRESS = "{ 130, 131, 132, 134, 135, 136 }"
_PLAIN = "{ ip, ip6, arp }"
_SENT = "{ ip, ip6, arp, 0x8035 }"
"""What guests may send. RARP is how QEMU tells where a guest is that has just been moved; it goes to no guest."""

_TAGGED = "{ 0x8100, 0x88a8 }"

_ANY4 = "0.0.0.0/0"


class Firewall(msgspec.Struct, frozen=True):
    """All that the filter of one network depends on."""

    network: NetworkState
    ports: tuple[PortState, ...]
    groups: dict[str, SecurityGroupState]  # those of the ports, and those their rules speak of

    def rules_of(self, port: PortState) -> list[RuleState]:
        """Every rule that holds for a port."""
        return [rule for name in port.security_groups if name in self.groups for rule in self.groups[name].rules]


def groups_for(ports: Iterable[PortState], groups: dict[str, SecurityGroupState]) -> dict[str, SecurityGroupState]:
    """The groups that matter to these ports: their own whole, and of remote ones only the members."""
    own = {name for port in ports if port.port_security for name in port.security_groups if name in groups}
    remote = {
        rule.remote_group
        for name in own
        for rule in groups[name].rules
        if rule.remote_group is not None and rule.remote_group in groups
    }
    found = {name: groups[name] for name in own}
    for name in remote - own:
        found[name] = SecurityGroupState(id=name, members=groups[name].members)
    return {name: found[name] for name in sorted(found)}


SenderRules = dict[PortState, tuple[str, ...]]


def render(firewall: Firewall, numbers: dict[str, int], known: SenderRules | None = None) -> Ruleset:
    """The two tables of a network. `numbers` gives each port's packet mark, from 1, by port id.

    `known` remembers the rules of ports between calls; it is brought up to date."""
    known = {} if known is None else known
    secured = {port for port in firewall.ports if port.port_security}
    for port in known.keys() - secured:
        del known[port]
    for port in secured - known.keys():
        known[port] = tuple(sender_rules(port))
    return (_bridge_table(firewall, numbers, known), _inet_table(firewall, numbers))


def _quoted(port: PortState) -> str:
    return f'"{names.tap(port.id)}"'


def _bridge_table(firewall: Firewall, numbers: dict[str, int], known: SenderRules) -> Table:
    secured = [port for port in firewall.ports if port.port_security]
    marks = frozenset(f"{_quoted(port)} : {numbers[port.id]}" for port in secured)
    down = frozenset(_quoted(port) for port in firewall.ports if not port.admin_state_up)
    # Frames with a subport's tag never come to this bridge. Others are of no network; and to the guest a frame that
    # came here with a tag, from a port without filters, would look as if it were from a subport's network.
    trunks = frozenset(_quoted(port) for port in firewall.ports if port.trunk)
    chains = {
        "from_port": Chain(
            (
                "iifname @down drop",
                f"iifname @trunks ether type {_TAGGED} drop",
                # The bridge answers requests for addresses that it knows to be elsewhere. From elsewhere they are the
                # announcements and probes of those who have them: heard here, but not to be answered.
                f'iifname "{names.TUNNEL}" arp operation request arp daddr ip @elsewhere arp operation set reply',
                "meta mark set 0",
                "meta mark set iifname map @marks",
                "meta mark 0 accept",
                *_COMMON,
                "iifname vmap @senders",
            ),
            # before br_netfilter, which hands the packet to the inet table, and before the bridge learns
            "type filter hook prerouting priority -300; policy accept;",
        ),
        "to_port": Chain(
            (
                "oifname @down drop",
                f"oifname @trunks ether type {_TAGGED} drop",
                f"oifname @secured ether type != {_PLAIN} drop",
                "meta mark set 0",
                "meta mark set oifname map @marks",
            ),
            "type filter hook forward priority -10; policy accept;",
        ),
        "own_to_port": Chain(("oifname @down drop",), "type filter hook output priority 0; policy accept;"),
    }
    for port in secured:
        chains[f"s_{numbers[port.id]}"] = Chain(known[port])
    containers = {
        "marks": Container("map", "ifname : mark", marks),
        "down": Container("set", "ifname", down),
        "trunks": Container("set", "ifname", trunks),
        "elsewhere": Container("set", "ipv4_addr", frozenset(ip for ip, _ in known_elsewhere(firewall.network))),
        "secured": Container("set", "ifname", frozenset(_quoted(port) for port in secured)),
        "senders": Container(
            "map", "ifname : verdict", frozenset(f"{_quoted(p)} : jump s_{numbers[p.id]}" for p in secured)
        ),
    }
    return Table("bridge", TABLE, chains, containers)


def link_local(mac: str) -> str:
    """The link-local IPv6 address that a MAC address makes by EUI-64 (RFC 4291, appendix A)."""
    octets = mac_octets(mac)
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _senders(port: PortState) -> dict[str, list[str]]:
    """The addresses that each MAC address of a port may use."""
    found: dict[str, list[str]] = {mac_text(port.mac): list(port.ips)}
    for mac, address in port.allowed_pairs:
        found.setdefault(mac_text(mac or port.mac), []).append(address)
    return found


def _collapsed(addresses: Iterable[str], version: int) -> list[str]:
    """As few networks as cover them: nft refuses overlapping elements."""
    networks = [ipaddress.ip_network(address, strict=False) for address in addresses]
    four = [n for n in networks if isinstance(n, ipaddress.IPv4Network)]
    six = [n for n in networks if isinstance(n, ipaddress.IPv6Network)]
    merged = ipaddress.collapse_addresses(four) if version == 4 else ipaddress.collapse_addresses(six)
    return [str(net.network_address if net.prefixlen == net.max_prefixlen else net) for net in merged]


# Of all guests alike: never a DHCP server's or a router's words, and no tags around the filter.
_COMMON = (
    f"ether type != {_SENT} drop",
    "udp sport 67 udp dport 68 drop",
    "udp sport 547 udp dport 546 drop",
    "icmpv6 type { nd-router-advert, nd-redirect } drop",
)


def sender_rules(port: PortState) -> list[str]:
    """Which frames a port may send: those from its own addresses."""
    senders = _senders(port)
    rules = [
        f"ether saddr != {_one_of(senders)} drop",
        "ether type 0x8035 return",
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 return",
        # Before it has an address: duplicate detection, and joining the groups of the address it wants.
        "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, 143 } return",
    ]
    for mac, addresses in senders.items():
        prefix = f"ether saddr {mac} " if len(senders) > 1 else ""
        four = _collapsed(addresses, 4)
        probes = four if _ANY4 in four else ["0.0.0.0", *four]
        rules.append(f"{prefix}arp saddr ether {mac} arp saddr ip {_one_of(probes)} return")
        if four:
            rules.append(f"{prefix}ip saddr {_one_of(four)} return")
        six = _collapsed([*addresses, link_local(mac)], 6)
        rules += _advertisements(prefix, six)
        rules.append(f"{prefix}ip6 saddr {_one_of(six)} return")
    return [*rules, "drop"]


def _one_of(values: Iterable[str]) -> str:
    """nft text for any of these; a set of one would cost a set in the kernel."""
    found = list(values)
    return found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"


def _advertisements(prefix: str, six: list[str]) -> list[str]:
    """A neighbour advertisement's target must be the sender's; nft 1.0.6 knows the field by its offset only."""
    target = f"{prefix}icmpv6 type nd-neighbor-advert @th,64,128"
    nets = [ipaddress.IPv6Network(text) for text in six]
    if any(net.prefixlen == 0 for net in nets):
        return []
    if all(net.prefixlen == 128 for net in nets):
        return [f"{target} != {_one_of(_hex(net.network_address) for net in nets)} drop"]
    source = f"ip6 saddr {_one_of(six)}"
    rules = [
        f"{target} & {_hex(net.netmask)} == {_hex(net.network_address)} {source} return" for net in nets
    ]
    return [*rules, f"{prefix}icmpv6 type nd-neighbor-advert drop"]


def _hex(address: ipaddress.IPv6Address) -> str:
    return f"0x{int(address):032x}"


def _group_chain(group_id: str, direction: str) -> str:
    return f"{'i' if direction == 'ingress' else 'e'}_{group_id.replace('-', '')}"


def _inet_table(firewall: Firewall, numbers: dict[str, int]) -> Table:
    secured = [port for port in firewall.ports if port.port_security]
    servers = _collapsed(_server_addresses(firewall.network), 4)
    chains = {
        "egress": Chain(
            (
                "meta mark 0 accept",
                f"icmpv6 type {_ND_EGRESS} accept",
                "udp sport 68 udp dport 67 accept",
                "udp sport 546 udp dport 547 accept",
                f"ip daddr {_one_of(servers)} accept",
                f"ip6 daddr {names.METADATA6} accept",
                f"ct mark {CUT} drop",
                "meta mark vmap @senders",
            ),
            # after connection tracking (-200)
            "type filter hook prerouting priority -150; policy accept;",
        ),
        "ingress": Chain(
            (
                "meta mark 0 accept",
                f"icmpv6 type {_ND_INGRESS} accept",
                "udp sport 67 udp dport 68 accept",
                "udp sport 547 udp dport 546 accept",
                # Answers of servers on another node, for guests that track no connections; from one here they do
                # not come this way.
                f"ip saddr {_one_of(servers)} ct state established accept",
                f"ct mark {CUT} drop",
                "meta mark vmap @receivers",
            ),
            "type filter hook forward priority 0; policy accept;",
        ),
    }
    for port in secured:
        for letter, direction in (("i", "ingress"), ("e", "egress")):
            chains[f"{letter}_{numbers[port.id]}"] = Chain(_port_rules(firewall, port, direction))
    used = {name for port in secured for name in port.security_groups if name in firewall.groups}
    for name in sorted(used):
        for direction in ("ingress", "egress"):
            texts = [
                rule_text(rule, firewall.groups)
                for rule in firewall.groups[name].rules
                if rule.direction == direction
            ]
            chains[_group_chain(name, direction)] = Chain(tuple(text for text in texts if text))
    return Table("inet", TABLE, chains, _inet_containers(firewall, secured, numbers))


def _inet_containers(
    firewall: Firewall, secured: list[PortState], numbers: dict[str, int]
) -> dict[str, Container]:
    found = {
        "senders": Container(
            "map", "mark : verdict", frozenset(f"{numbers[p.id]} : jump e_{numbers[p.id]}" for p in secured)
        ),
        "receivers": Container(
            "map", "mark : verdict", frozenset(f"{numbers[p.id]} : jump i_{numbers[p.id]}" for p in secured)
        ),
    }
    remote = {rule.remote_group for group in firewall.groups.values() for rule in group.rules}
    for name in sorted(filter(None, remote)):
        if name not in firewall.groups:
            continue
        members = firewall.groups[name].members
        for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
            elements = frozenset(_collapsed(members, version))
            found[member_set(name, f"IPv{version}")] = Container("set", kind, elements, interval=True)
    return found


def _server_addresses(network: NetworkState) -> list[str]:
    own = [subnet.dhcp_ip for subnet in network.subnets if subnet.dhcp_ip]
    return [names.METADATA4, *own, *(network.dhcp_port.ips if network.dhcp_port else ())]


def _port_rules(firewall: Firewall, port: PortState, direction: str) -> tuple[str, ...]:
    known = [name for name in port.security_groups if name in firewall.groups]
    stateful = not known or any(firewall.groups[name].stateful for name in known)
    rules = ["ct state established,related accept", "ct state invalid drop"] if stateful else []
    rules += [f"jump {_group_chain(name, direction)}" for name in known]
    return (*rules, "drop")
