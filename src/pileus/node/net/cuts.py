"""Connections that a removed rule had allowed are cut, and those still allowed go on.

Forgetting a connection would not do: its next packet, coming the other way, would be judged by the rules of
the wrong direction. So the whole table is judged again by each connection's first packet, and what is no longer
allowed is marked; the filter drops what is marked. A mark is taken back when a rule allows the connection again.
"""

from __future__ import annotations

import ipaddress

from pileus.node.contract import PortState, RuleState
from pileus.node.net import conntrack, names
from pileus.node.net.firewall import CUT, Firewall
from pileus.node.net.rules import Flow, allows

_IMPLICIT = frozenset({(68, 67), (67, 68), (546, 547), (547, 546)})


def narrowed(old: Firewall, new: Firewall) -> bool:
    """Whether anything that the old filter let pass might not pass the new one."""
    before = {port.id: port for port in old.ports}
    for port in new.ports:
        earlier = before.get(port.id)
        if earlier is None or not port.port_security:
            continue
        if not earlier.port_security or set(old.rules_of(earlier)) - set(new.rules_of(port)):
            return True
    return any(
        name in new.groups and set(group.members) - set(new.groups[name].members)
        for name, group in old.groups.items()
    )


def widened(old: Firewall, new: Firewall) -> bool:
    """Whether something may pass that did not: marks may have to be taken back."""
    return narrowed(new, old)


def judge(firewall: Firewall, flows: list[Flow]) -> list[tuple[Flow, int]]:
    """The connections whose mark must change, and to what."""
    owners = _Owners(firewall)
    changes = []
    for flow in flows:
        mark = 0 if _allowed(firewall, owners, flow) else CUT
        if mark != flow.mark:
            changes.append((flow, mark))
    return changes


def enforce(namespace: str, firewall: Firewall) -> bool:
    """Judge every connection in a network's namespace by the rules as they are now.

    Returns whether any is cut now: only then can a wider rule have something to take back."""
    flows = conntrack.flows(namespace)
    changes = judge(firewall, flows)
    conntrack.mark(namespace, changes)
    marks = {flow.key: flow.mark for flow in flows} | {flow.key: mark for flow, mark in changes}
    return CUT in marks.values()


def _allowed(firewall: Firewall, owners: _Owners, flow: Flow) -> bool:
    if flow.protocol == 17 and (flow.source_port, flow.port) in _IMPLICIT:
        return True
    if flow.destination in owners.servers or flow.source in owners.servers:
        return True
    sender, receiver = owners.rules(flow.source), owners.rules(flow.destination)
    return (sender is None or allows(sender, "egress", flow, firewall.groups)) and (
        receiver is None or allows(receiver, "ingress", flow, firewall.groups)
    )


class _Owners:
    """Which port an address belongs to."""

    def __init__(self, firewall: Firewall) -> None:
        network = firewall.network
        self.servers = {names.METADATA4, names.METADATA6}
        self.servers |= {subnet.dhcp_ip for subnet in network.subnets if subnet.dhcp_ip}
        self.servers |= set(network.dhcp_port.ips if network.dhcp_port else ())
        self._firewall = firewall
        self._single: dict[str, PortState] = {}
        self._wide: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, PortState]] = []
        for port in firewall.ports:
            if not port.port_security or self._stateless(port):
                continue
            for _, address in port.allowed_pairs:
                self._wide.append((ipaddress.ip_network(address, strict=False), port))
            for address in port.ips:
                self._single[str(ipaddress.ip_address(address))] = port

    def _stateless(self, port: PortState) -> bool:
        groups = [self._firewall.groups[name] for name in port.security_groups if name in self._firewall.groups]
        return bool(groups) and not any(group.stateful for group in groups)

    def rules(self, address: str) -> list[RuleState] | None:
        """The rules of the port with this address; None if no filtered port has it."""
        port = self._single.get(address)
        if port is None and self._wide:
            parsed = ipaddress.ip_address(address)
            port = next((owner for network, owner in self._wide if parsed in network), None)
        return None if port is None else self._firewall.rules_of(port)
