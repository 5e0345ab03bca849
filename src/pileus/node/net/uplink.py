"""How a network reaches a physical network: through a bridge in the host's namespace."""

from __future__ import annotations

import socket

from pileus.node.contract import NetworkState, NodeFault
from pileus.node.net import names, namespaces
from pileus.node.net.settings import NetSettings


def join_uplink(settings: NetSettings, network: NetworkState, namespace: str, made: bool) -> None:
    """Make the uplink device in a network's namespace, or, if it is `made`, see that it leads somewhere.

    Raises NodeFault if this node has no such physical network, or the kernel cannot do VLANs."""
    bridge = settings.physical_networks.get(network.physical_network or "")
    if bridge is None:
        raise NodeFault(
            f"this node has no physical network {network.physical_network!r}; name its bridge in physical_networks"
        )
    if not _present(bridge):
        raise NodeFault(f"physical network {network.physical_network!r}: there is no bridge {bridge} on this node")
    if network.kind == "vlan":
        if not made:
            _join_vlan(network, bridge, namespace)
        return
    leg = names.host_leg(settings.prefix, network.id)
    lines = []
    if not made:
        lines += [f"link del {leg}"] if _present(leg) else []
        lines.append(f"link add {leg} type veth peer name {names.UPLINK} netns {namespace}")
    # Said again too: the bridge may be another one of the same name.
    lines.append(f"link set {leg} mtu {network.mtu} addrgenmode none master {bridge} up")
    namespaces.ip_batch(None, lines)


def _join_vlan(network: NetworkState, bridge: str, namespace: str) -> None:
    try:
        namespaces.ip_batch(
            None,
            [f"link add link {bridge} name {names.UPLINK} netns {namespace} type vlan id {network.segment}"],
        )
    except namespaces.CommandFailed as failure:
        if "not supported" not in str(failure) and "Unknown device type" not in str(failure):
            raise
        raise NodeFault(
            f"VLAN {network.segment} on {bridge}: this kernel has no 802.1Q; load 8021q or use a flat network"
        ) from None


def leave_uplink(settings: NetSettings, network_id: str) -> None:
    """Remove the host's end; said at once, because the kernel empties a deleted namespace only later."""
    leg = names.host_leg(settings.prefix, network_id)
    if _present(leg):
        namespaces.ip_batch(None, [f"link del {leg}"])


def reached(settings: NetSettings) -> tuple[str, ...]:
    """The physical networks that this node has: those whose bridge is there."""
    return tuple(sorted(name for name, bridge in settings.physical_networks.items() if _present(bridge)))


def _present(device: str) -> bool:
    return any(name == device for _, name in socket.if_nameindex())
