"""Tenant networks on several nodes, shown by packets: the network service says what each node carries."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from net_bench import AT_ONCE, Wire, command, must, seen_as
from net_lab import Lab, Pings

from pileus.network import moving, ports, wiring
from pileus.network.tables import port as port_table
from pileus.node.net import names
from pileus.node.net.arp import announce
from pileus.node.withdrawal import without_services

pytestmark = pytest.mark.system
V = "/network/v2.0"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Two nodes for guests, two that serve."""
    lab = Lab(tmp_path, a=(), b=(), c=("network",), d=("network",))
    try:
        yield lab
    finally:
        lab.close()


def test_one_network_on_two_nodes_with_its_servers_on_a_third(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one, two, three = lab.port(net, "a"), lab.port(net, "b"), lab.port(net, "b")
    router = lab.router(*lab.subnets(net))
    lab.settled()
    served = lab.agents(f"networks/{net}/dhcp-agents")
    routed = lab.agents(f"routers/{router['id']}/l3-agents")
    assert {*served, *routed} <= {"c", "d"}
    assert len(served) == len(routed) == 1
    a, b, c = (lab.guest(port) for port in (one, two, three))
    lab.settled()
    for guest in (a, b, c):
        guest.carried()
        lease = guest.dhcp()
        assert "mtu=1450" in lease
    ip = two.fixed_ips[0][1]
    wire, neighbour = Wire(c.namespace), Wire(b.namespace)
    assert a.pings(ip)
    assert b.pings(one.fixed_ips[0][1])
    assert a.run(f"ping -n -c 1 -W 1 -M do -s 1422 {ip}").returncode == 0, "the whole MTU passes"
    asked = bytes.fromhex("08060001080006040001" + one.mac.replace(":", ""))
    pinged = bytes.fromhex((two.mac + one.mac).replace(":", "")) + b"\x08\x00"
    assert wire.heard([asked, pinged]) == set(), "what is known is neither asked for at other nodes nor flooded there"
    assert neighbour.heard([b"\x08\x00\x45"]) == {b"\x08\x00\x45"}
    wire.close()
    neighbour.close()
    assert a.run("busybox wget -qO- http://169.254.169.254/v").stdout == f"{net} {one.fixed_ips[0][1]} /v"
    assert a.pings("172.24.4.1"), "out through the router on another node"
    with a.listen(80):
        assert b.connects(one.fixed_ips[0][1], 80)
    table = must(a.network, f"bridge fdb show dev {names.TUNNEL}").replace(" link-netnsid 0", "")
    assert f"{two.mac} dst 192.0.2.2 self permanent" in table
    assert f"{two.mac} master switch static" in table


def test_addresses_that_guests_share_are_taken_over_across_nodes(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one, two, client = lab.port(net, "a"), lab.port(net, "b"), lab.port(net, "b")
    for each in (one, two):
        body = {"port": {"allowed_address_pairs": [{"ip_address": "10.0.0.200"}]}}
        assert lab.admin.put(f"{V}/ports/{each.id}", body).status_code == 200
    lab.settled()
    a, b, c = (lab.guest(port) for port in (one, two, client))
    lab.settled()
    for guest in (a, b, c):
        guest.carried()
        guest.static()
    # Who announces or probes for what it has is not told by other nodes that somebody has it.
    own, answer = one.fixed_ips[0][1], bytes.fromhex("08060001080006040002")
    wire = Wire(a.namespace)
    announce(a.namespace, "eth0", one.mac, [own])
    probe = b"\xff" * 6 + bytes.fromhex(one.mac.replace(":", "") + "08060001080006040001" + one.mac.replace(":", ""))
    wire.send(probe + bytes(10) + socket.inet_aton(own))
    assert wire.heard([answer]) == set()
    wire.close()
    must(a.namespace, "ip addr add 10.0.0.200/24 dev eth0")
    assert c.pings("10.0.0.200")
    must(a.namespace, "ip addr del 10.0.0.200/24 dev eth0")
    must(b.namespace, "ip addr add 10.0.0.200/24 dev eth0")
    announce(b.namespace, "eth0", two.mac, ["10.0.0.200"])
    assert c.pings("10.0.0.200")
    # and back over the tunnel, by an announcement
    must(b.namespace, "ip addr del 10.0.0.200/24 dev eth0")
    must(a.namespace, "ip addr add 10.0.0.200/24 dev eth0")
    announce(a.namespace, "eth0", one.mac, ["10.0.0.200"])
    assert c.pings("10.0.0.200")


def test_routers_and_dhcp_leave_a_dead_node(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one, two = lab.port(net, "a"), lab.port(net, "b")
    router = lab.router(*lab.subnets(net))
    made = lab.admin.post(f"{V}/floatingips", {"floatingip": {
        "floating_network_id": lab.public(), "port_id": one.id,
    }}).json()["floatingip"]
    lab.settled()
    a, b = lab.guest(one), lab.guest(two)
    lab.settled()
    for guest in (a, b):
        guest.carried()
        guest.dhcp()
    outside = made["floating_ip_address"]
    assert command(lab.wire, f"ping -n -c 1 -W 1 {outside}").returncode == 0
    assert lab.admin.get(f"{V}/floatingips/{made['id']}").json()["floatingip"]["status"] == "ACTIVE"
    (old,) = lab.agents(f"routers/{router['id']}/l3-agents")
    # Cut off: it gives up its routers and DHCP by itself, and only after that they move.
    lab.cut.add(old)
    node = lab.nodes[old]
    assert node.state.lease > 0
    node.apply(without_services(node.state))
    assert command(lab.wire, f"ping -n -c 1 -W 1 {outside}").returncode != 0
    assert not node.do(node.driver.inventory)["routers"]
    for _ in range(3):
        lab.do(lambda tx: moving.place(tx, lab.cloud))
        assert lab.agents(f"routers/{router['id']}/l3-agents") == [old], "not before it is surely given up"
        lab.clock.ahead += 10
        lab.turn()
    lab.clock.ahead += 2
    lab.do(lambda tx: moving.place(tx, lab.cloud))
    (new,) = lab.agents(f"routers/{router['id']}/l3-agents")
    assert new != old
    lab.settled()
    assert command(lab.wire, f"ping -n -c 2 -i 0.2 -w 5 {outside}").returncode == 0
    assert seen_as(a.namespace, "172.24.4.1", 9, patience=AT_ONCE) is None
    assert "ip=" + two.fixed_ips[0][1] in b.dhcp()
    assert b.run("busybox wget -qO- http://169.254.169.254/w").stdout.endswith("/w")
    # It comes back, and is told that it has them no more.
    lab.cut.clear()
    lab.settled()
    assert not node.do(node.driver.inventory)["routers"]
    assert command(lab.wire, f"ping -n -c 2 -i 0.2 -w 5 {outside}").returncode == 0


def test_a_drained_nodes_router_moves_while_it_is_used(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24", "fd00::/64")
    one = lab.port(net, "a")
    router = lab.router(*lab.subnets(net))
    lab.settled()
    a = lab.guest(one)
    lab.settled()
    a.carried()
    a.static("10.0.0.1", "fd00::1")
    (old,) = lab.agents(f"routers/{router['id']}/l3-agents")
    six, out = Pings(a.namespace, "fd00::1"), Pings(a.namespace, "172.24.4.1")
    agents = lab.admin.get(f"{V}/agents?host={old}&agent_type=L3 agent").json()["agents"]
    assert lab.admin.put(f"{V}/agents/{agents[0]['id']}", {"agent": {"admin_state_up": False}}).status_code == 200
    assert lab.agents(f"routers/{router['id']}/l3-agents") != [old]
    began = time.monotonic()
    lab.turn()
    took = time.monotonic() - began
    for name, pings in (("inside, IPv6", six), ("outside", out)):
        lost, silence = pings.stop()
        print(f"router moved in {took:.2f} s: {name}: {lost} pings lost, {silence:.2f} s of silence")
        assert silence < took + 1.5


def test_a_live_migration_switches_all_nodes_at_once(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one, two, local = lab.port(net, "a", server="s1"), lab.port(net, "c"), lab.port(net, "b")
    lab.settled()
    a, c, b = lab.guest(one), lab.guest(two), lab.guest(local)
    lab.settled()
    for guest in (a, b, c):
        guest.carried()
        guest.static()
    ip = one.fixed_ips[0][1]
    assert b.pings(ip)
    pings, near = Pings(c.namespace, ip), Pings(b.namespace, ip)
    lab.do(lambda tx: ports.prepare_move(tx, lab.cloud, "s1", "b"))
    lab.settled()
    shown = lab.admin.get(f"{V}/ports/{one.id}").json()["port"]
    assert shown["binding:host_id"] == "a"
    assert shown["binding:profile"]["migrating_to"] == "b"
    assert {p.id for p in lab.state("b").ports} >= {one.id}
    twin = lab.guest(one, host="b")  # as the destination's QEMU, with a guest that does not run yet
    must(twin.namespace, "ip link set eth0 down")
    lab.settled()
    wire = Wire(a.namespace)
    assert wire.heard([b"\x08\x00\x45"]), "all traffic still goes to the source"
    wire.close()
    # the guest stops here and goes on there; QEMU announces it by RARP
    a.close()
    lab.nodes["a"].guests.remove(a)
    must(twin.namespace, "ip link set eth0 up")
    twin.static()
    twin.carried()
    mac = bytes.fromhex(one.mac.replace(":", ""))
    rarp = b"\xff" * 6 + mac + bytes.fromhex("80350001080006040003") + mac + bytes(4) + mac + bytes(4)
    wire = Wire(twin.namespace)
    for _ in range(3):
        wire.send(rarp)
    wire.close()
    began = time.monotonic()
    lab.do(lambda tx: ports.move(tx, lab.cloud, "s1", "b"))
    assert [report.errors for report in lab.turn().values()] == [{}] * 4
    took = time.monotonic() - began
    for name, each in (("another node's", pings), ("its new neighbour's", near)):
        lost, silence = each.stop()
        print(f"all nodes switched in {took:.2f} s: {name}: {lost} pings lost, {silence:.2f} s of silence")
        assert silence < took + 1.5
    status = lab.do(lambda tx: tx.first(port_table.select().where(port_table.c.id == one.id)))
    assert (status.host, status.moving_to, status.status) == ("b", None, "ACTIVE")
    assert one.id not in {p.id for p in lab.state("a").ports}
    assert twin.pings(two.fixed_ips[0][1])


def test_an_abandoned_move_leaves_nothing(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one = lab.port(net, "a", server="s1")
    lab.settled()
    lab.do(lambda tx: ports.prepare_move(tx, lab.cloud, "s1", "b"))
    lab.settled()
    assert lab.nodes["b"].do(lab.nodes["b"].driver.inventory)["networks"] == {net}
    assert "192.0.2.2" in lab.state("a").networks[0].vteps
    lab.do(lambda tx: ports.abandon_move(tx, lab.cloud, "s1"))
    lab.settled()
    assert lab.nodes["b"].do(lab.nodes["b"].driver.inventory)["networks"] == set()
    assert "192.0.2.2" not in lab.state("a").networks[0].vteps
    assert [p.id for p in lab.state("a").ports] == [one.id]


def test_a_node_changes_its_address(lab: Lab) -> None:
    net = lab.network("10.0.0.0/24")
    one, two = lab.port(net, "a"), lab.port(net, "b")
    lab.settled()
    a, b = lab.guest(one), lab.guest(two)
    lab.settled()
    for guest in (a, b):
        guest.carried()
        guest.static()
    assert a.pings(two.fixed_ips[0][1])
    from pileus.cluster.tables import node as cluster_node

    place = lab.cloud.bus.subscribe("net:a")

    def change(tx: object) -> None:
        tx.execute(cluster_node.update().where(cluster_node.c.name == "b").values(address="192.0.2.77"))  # type: ignore[attr-defined]
        wiring.node_moved(tx, lab.cloud, "b")  # type: ignore[arg-type]

    lab.do(change)
    assert place._event.is_set()
    second = lab.nodes["b"]
    must(second.host, "ip addr del 192.0.2.2/24 dev u0; ip addr add 192.0.2.77/24 dev u0")
    second.end()
    import msgspec

    second.settings = msgspec.structs.replace(second.settings, vtep="192.0.2.77")
    second.begin()
    lab.settled()
    assert a.pings(two.fixed_ips[0][1])
    assert b.pings(one.fixed_ips[0][1])


def test_a_port_on_a_network_that_its_node_lacks_says_so(lab: Lab) -> None:
    flat = lab.admin.post(f"{V}/networks", {"network": {
        "name": "flat", "provider:network_type": "vlan", "provider:physical_network": "public",
        "provider:segmentation_id": 9,
    }}).json()["network"]["id"]
    port = lab.port(flat, "a")
    report = lab.turn("a")["a"]
    assert "no physical network 'public'" in report.errors[flat]
    shown = lab.admin.get(f"{V}/ports/{port.id}").json()["port"]
    assert shown["binding:vif_type"] == "binding_failed"
    from pileus.node.contract import NicSpec, NodeFault

    with pytest.raises(NodeFault, match=r"Binding failed for port .* no physical network 'public'"):
        lab.nodes["a"].do(lab.nodes["a"].driver.open_tap, NicSpec(port_id=port.id, network_id=flat, mac=port.mac))


def test_tunnels_over_ipv6(tmp_path: Path) -> None:
    lab = Lab(tmp_path, six=True, a=(), b=("network",))
    try:
        net = lab.network("10.0.0.0/24")
        one, two = lab.port(net, "a"), lab.port(net, "b")
        lab.settled()
        a, b = lab.guest(one), lab.guest(two)
        lab.settled()
        for guest in (a, b):
            guest.carried()
        assert "mtu=1430" in a.dhcp()
        b.dhcp()
        assert a.run(f"ping -n -c 1 -W 1 -M do -s 1402 {two.fixed_ips[0][1]}").returncode == 0
    finally:
        lab.close()
