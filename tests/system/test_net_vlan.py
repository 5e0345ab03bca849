"""Provider networks on VLANs, shown by tagged packets between two nodes and a machine that is not of the cloud.

Kernels without 802.1Q skip this; `scripts/debian-guest tests/system/test_net_vlan.py` runs it where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from net_bench import command, must
from net_lab import Lab

from pileus.node.net import names, namespaces

pytestmark = pytest.mark.system
V = "/network/v2.0"
RED, BLUE = 101, 102


def has_vlans() -> bool:
    """Whether this kernel makes VLAN devices."""
    space = "pileus-vlan-probe"
    namespaces.ip_batch(None, [f"netns add {space}"])
    try:
        made = "ip link add d0 type dummy || ip link add d0 type bridge; ip link add link d0 name v0 type vlan id 9"
        return command(space, made).returncode == 0
    finally:
        namespaces.remove(space)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Two nodes with guests, DHCP and routers, whose physical network `public` is one wire."""
    if not has_vlans():
        pytest.skip("this kernel has no 802.1Q: scripts/debian-guest runs it in a guest that has")
    lab = Lab(tmp_path, a=("network",), b=("network",))
    try:
        yield lab
    finally:
        lab.close()


def vlan(lab: Lab, segment: int, **more: object) -> str:
    """A network on this VLAN, with the subnet 10.5.0.0/24."""
    made = lab.admin.post(f"{V}/networks", {"network": {
        "name": f"vlan{segment}", "provider:network_type": "vlan", "provider:physical_network": "public",
        "provider:segmentation_id": segment, **more,
    }})
    assert made.status_code == 201, made.text
    network: str = made.json()["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.5.0.0/24"}
    assert lab.admin.post(f"{V}/subnets", {"subnet": subnet}).status_code == 201
    return network


def machine(lab: Lab, segment: int, address: str) -> str:
    """A machine that is not of the cloud, plugged into the wire as a port of this VLAN (0: untagged); its namespace."""
    space = f"{lab.prefix}-m{segment}"
    namespaces.ip_batch(None, [f"netns add {space}"])
    if segment:
        must(lab.wire, f"ip link add link public name eth0 netns {space} type vlan id {segment}")
    else:
        must(lab.wire, f"ip link add m0 type veth peer name eth0 netns {space}; ip link set m0 master public up")
    must(space, f"ip link set lo up; ip link set eth0 up; ip addr add {address}/24 dev eth0")
    return space


def pings(space: str, address: str) -> bool:
    return command(space, f"ping -n -c 2 -i 0.2 -W 1 {address}").returncode == 0


def test_networks_on_vlans_are_tagged_and_apart(lab: Lab) -> None:
    red, blue = vlan(lab, RED), vlan(lab, BLUE)
    one, two = lab.port(red, "a", ip="10.5.0.11"), lab.port(red, "b", ip="10.5.0.12")
    three, four = lab.port(blue, "a", ip="10.5.0.11"), lab.port(blue, "b", ip="10.5.0.13")
    lab.settled()
    a, b, c, d = (lab.guest(port) for port in (one, two, three, four))
    lab.settled()
    outside, plain = machine(lab, RED, "10.5.0.200"), machine(lab, 0, "10.5.0.201")
    try:
        for guest in (a, b, c, d):
            guest.carried()
            assert "mtu=1500" in guest.dhcp()
        assert a.pings("10.5.0.12"), "from node to node on one VLAN"
        assert b.run("ping -n -c 1 -W 1 -M do -s 1472 10.5.0.11").returncode == 0, "a whole packet, tag and all"
        assert c.pings("10.5.0.13"), "the other VLAN, with the same addresses"
        assert not a.pings("10.5.0.13", patience=1), "what is on another VLAN is not there"
        assert not c.pings("10.5.0.12", patience=1)
        assert pings(outside, "10.5.0.12")
        assert not pings(outside, "10.5.0.13"), "a machine on the red VLAN reaches nothing of the blue one"
        assert not pings(plain, "10.5.0.12"), "without a tag nothing is reached"
    finally:
        namespaces.remove(outside)
        namespaces.remove(plain)


def test_a_router_to_a_vlan_outside_translates_and_forwards(lab: Lab) -> None:
    outer = vlan(lab, RED, **{"router:external": True})
    inner = lab.network("10.0.0.0/24")
    port = lab.port(inner, "b")
    made = lab.admin.post(f"{V}/routers", {"router": {"name": "r", "external_gateway_info": {"network_id": outer}}})
    router = made.json()["router"]["id"]
    assert lab.admin.put(
        f"{V}/routers/{router}/add_router_interface", {"subnet_id": lab.subnets(inner)[0]}
    ).status_code == 200
    floating = lab.admin.post(f"{V}/floatingips", {
        "floatingip": {"floating_network_id": outer, "port_id": port.id},
    }).json()["floatingip"]["floating_ip_address"]
    lab.settled()
    guest = lab.guest(port)
    lab.settled()
    outside = machine(lab, RED, "10.5.0.1")
    try:
        guest.carried()
        guest.dhcp()
        assert guest.pings("10.5.0.1", 2), "out through the router, as the floating address"
        must(outside, f"ping -n -c 2 -W 2 {floating}")
    finally:
        namespaces.remove(outside)


def test_what_is_unplugged_leaves_no_device(lab: Lab) -> None:
    red = vlan(lab, RED)
    port = lab.port(red, "a")
    lab.settled()
    node = lab.nodes["a"]
    space = names.network_namespace(node.prefix, red)
    assert f"vlan protocol 802.1Q id {RED}" in must(space, f"ip -d link show {names.UPLINK}")
    lab.admin.delete(f"{V}/ports/{port.id}")
    assert lab.admin.delete(f"{V}/networks/{red}").status_code == 204
    lab.settled()
    assert space not in namespaces.names()
    assert node.do(node.driver.inventory)["networks"] == set()
