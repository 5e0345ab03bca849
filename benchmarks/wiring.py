"""A node by its driver, in real namespaces: what a network takes, and one more port where a hundred are."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time

import msgspec
from tests.system.net_bench import Node, new_id

from benchmarks.promises import Measured
from pileus.node.contract import (
    HostEntry,
    NetworkState,
    NodeNetwork,
    PortState,
    RuleState,
    SecurityGroupState,
    SubnetState,
)
from pileus.node.net import names, namespaces

_PORTS = 101
_RUNS = 5


async def measure() -> list[Measured]:
    """Medians of five networks, each with its DHCP server and a hundred ports in one security group."""
    runs = [await asyncio.to_thread(_one) for _ in range(_RUNS)]
    made, wired, again = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        Measured("a network with its DHCP server on a node", made, "ms", 150.0),
        Measured("one more port on a network with a hundred, all in one group that admits itself", wired, "ms", 60.0),
        Measured("the same state once more", again, "ms", 30.0),
    ]


def _one() -> tuple[float, float, float]:
    node = Node("b" + secrets.token_hex(3))
    try:
        network, ports, group = _state()
        empty = NodeNetwork(revision=1, networks=(network,))
        made = _timed(node, empty)
        node.apply(_with(network, ports[:-1], group))
        for port in ports:  # as their guests would
            with namespaces.inside(names.network_namespace(node.prefix, network.id)):
                namespaces.ip_batch(None, [f"tuntap add dev {names.tap(port.id)} mode tap"])
        node.apply()
        full = _with(network, ports, group)
        return made, _timed(node, full), _timed(node, full)
    finally:
        node.close()


def _timed(node: Node, state: NodeNetwork) -> float:
    began = time.perf_counter()
    report = node.apply(state)
    taken = (time.perf_counter() - began) * 1000
    if report.errors or len(report.ports_up) != len(state.ports):
        raise RuntimeError(f"{len(report.ports_up)} of {len(state.ports)} ports are up: {report.errors}")
    return taken


def _state() -> tuple[NetworkState, list[PortState], SecurityGroupState]:
    subnet = SubnetState(id=new_id(), cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dhcp_ip="10.0.0.2")
    dhcp = HostEntry(port_id=new_id(), mac="fa:16:3e:00:00:02", ips=("10.0.0.2",))
    network = NetworkState(id=new_id(), kind="vxlan", segment=77, subnets=(subnet,), dhcp_port=dhcp)
    group_id = new_id()
    ports = [
        PortState(
            id=new_id(), network_id=network.id, mac=f"fa:16:3e:00:01:{number:02x}", ips=(f"10.0.0.{number + 20}",),
            security_groups=(group_id,),
        )
        for number in range(_PORTS)
    ]
    rules = (
        RuleState(id=new_id(), direction="egress", ethertype="IPv4"),
        RuleState(id=new_id(), direction="ingress", ethertype="IPv4", remote_group=group_id),
    )
    return network, ports, SecurityGroupState(
        id=group_id, rules=rules, members=tuple(port.ips[0] for port in ports)
    )


def _with(network: NetworkState, ports: list[PortState], group: SecurityGroupState) -> NodeNetwork:
    hosts = tuple(HostEntry(port_id=port.id, mac=port.mac, ips=port.ips) for port in ports)
    return NodeNetwork(
        revision=1, networks=(msgspec.structs.replace(network, hosts=(*network.hosts, *hosts)),), ports=tuple(ports),
        security_groups=(group,),
    )
