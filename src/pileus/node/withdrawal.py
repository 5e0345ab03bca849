"""What a node stops to serve when it has reached no controller for longer than its lease.

Its routers and DHCP servers may be on another node by then, with the same addresses. What is its guests' alone goes on.
"""

from __future__ import annotations

import msgspec

from pileus.node.contract import NodeNetwork


def has_services(state: NodeNetwork) -> bool:
    """Whether the node serves anything that may be moved to another."""
    return bool(state.routers) or any(network.dhcp_port is not None for network in state.networks)


def without_services(state: NodeNetwork) -> NodeNetwork:
    """The same state without routers and DHCP."""
    networks = tuple(msgspec.structs.replace(network, dhcp_port=None) for network in state.networks)
    return msgspec.structs.replace(state, networks=networks, routers=())
