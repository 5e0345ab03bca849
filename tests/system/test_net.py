"""The node's network, shown by packets: what is allowed arrives, what is not does not."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from net_bench import AT_ONCE, Applier, Guest, Listener, Node, Talk, Wire, command, connects, must, new_id, seen_as
from tests.cache import CACHE

from pileus.node.contract import (
    FloatingState,
    HostEntry,
    NetworkState,
    NicSpec,
    NodeFault,
    NodeNetwork,
    PortState,
    RouterPort,
    RouterState,
    RuleState,
    SecurityGroupState,
    SubnetState,
)
from pileus.node.guestimage import cached
from pileus.node.net import names, namespaces

pytestmark = pytest.mark.system
replace = msgspec.structs.replace
KILLS = int(os.environ.get("PILEUS_TEST_KILLS", "4"))


def mac() -> str:
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def rule(direction: str, ethertype: str = "IPv4", **more: object) -> RuleState:
    return RuleState(id=new_id(), direction=direction, ethertype=ethertype, **more)  # type: ignore[arg-type]


EGRESS = (rule("egress"), rule("egress", "IPv6"))


def group(*rules: RuleState, members: tuple[str, ...] = ()) -> SecurityGroupState:
    return SecurityGroupState(id=new_id(), rules=(*EGRESS, *rules), members=members)


OPEN = group(rule("ingress"), rule("ingress", "IPv6"))


def network(cidr: str = "10.0.0.0/24", served: bool = True, **more: object) -> NetworkState:
    start = cidr.rpartition(".")[0]
    four = SubnetState(id=new_id(), cidr=cidr, gateway_ip=f"{start}.1", dhcp_ip=f"{start}.2" if served else None)
    dhcp = HostEntry(port_id=new_id(), mac=mac(), ips=(f"{start}.2",)) if served else None
    values = {"kind": "vxlan", "subnets": (four,), "dhcp_port": dhcp, "segment": 77} | more
    return NetworkState(id=new_id(), **values)  # type: ignore[arg-type]


def port(net: NetworkState, *ips: str, groups: tuple[SecurityGroupState, ...] = (OPEN,), **more: object) -> PortState:
    return PortState(
        id=new_id(), network_id=net.id, mac=mac(), ips=ips, security_groups=tuple(g.id for g in groups), **more
    )  # type: ignore[arg-type]


def hosted(net: NetworkState, *ports: PortState, **more: object) -> NetworkState:
    hosts = tuple(HostEntry(port_id=p.id, mac=p.mac, ips=p.ips, **more) for p in ports)  # type: ignore[arg-type]
    return replace(net, hosts=(*net.hosts, *hosts))


def wanted(*things: object) -> NodeNetwork:
    """A state with all these networks, ports, groups and routers."""
    pick = lambda kind: tuple(thing for thing in things if isinstance(thing, kind))  # noqa: E731
    return NodeNetwork(
        revision=1,
        networks=pick(NetworkState),
        ports=pick(PortState),
        security_groups=pick(SecurityGroupState),
        routers=pick(RouterState),
    )


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node("t" + secrets.token_hex(3))
    try:
        yield node
    finally:
        node.close()


def start(node: Node, *things: object) -> list[Guest]:
    """Apply, wire a guest to each port, and see that all are up."""
    report = node.apply(wanted(*things))
    assert report.errors == {}
    ports = [thing for thing in things if isinstance(thing, PortState)]
    guests = [node.guest(each) for each in ports]
    assert set(node.apply().ports_up) == {each.id for each in ports if each.admin_state_up}
    for guest in guests:
        guest.carried()
    return guests


def test_dhcp_gives_address_routes_mtu_and_names(node: Node) -> None:
    net = replace(network(), dns_domain="cloud.example.", mtu=1400)
    one, two = port(net, "10.0.0.11"), port(net, "10.0.0.12")
    net = hosted(net, one, hostname="web", dhcp_options=(("ntp-server", "10.0.0.99", 4), ("bad\nname", "x", 4)))
    net = hosted(net, two)
    report = node.apply(wanted(net, one, two, OPEN))
    assert set(report.errors) == {one.id}
    assert "is not known" in report.errors[one.id]
    a, b = node.guest(one), node.guest(two)
    node.apply()
    lease = a.dhcp()
    assert "ip=10.0.0.11" in lease
    assert "ntpsrv=10.0.0.99" in lease
    assert "mtu=1400" in lease
    assert "domain=cloud.example" in lease
    assert "router=10.0.0.1" in lease
    assert "169.254.169.254/32 10.0.0.2" in lease
    assert "ntpsrv" not in b.dhcp()
    assert a.pings("10.0.0.12")
    assert "10.0.0.11" in b.run("busybox nslookup web.cloud.example 10.0.0.2").stdout
    # A stranger gets nothing; a new owner of an address gets it at once.
    third = port(net, "10.0.0.11")
    moved = replace(net, hosts=(net.hosts[1],))
    node.apply(wanted(hosted(moved, third), two, third, OPEN))
    assert node.guest(third)
    node.apply()
    assert "ip=10.0.0.11" in node.guests[-1].dhcp()
    assert a.run("busybox udhcpc -i eth0 -n -q -t 2 -T 1 -s /bin/true").returncode != 0


@pytest.mark.parametrize("options", [(), (("ntp-server", "10.0.0.99", 4),)])
def test_dhcp_goes_on_as_ports_come_and_go(node: Node, options: tuple[tuple[str, str, int], ...]) -> None:
    empty = network()
    one, two = port(empty, "10.0.0.11"), port(empty, "10.0.0.12")
    net = hosted(empty, one, dhcp_options=options)
    (a,) = start(node, net, one, OPEN)
    for ports in ((one, two), (one,), (one, two)):
        assert ("ntpsrv=10.0.0.99" in a.dhcp()) == bool(options)
        node.apply(wanted(hosted(net, *ports[1:]), *ports, OPEN))
    b = node.guest(two)
    node.apply()
    assert "ip=10.0.0.12" in b.dhcp()


def test_metadata_from_guest_four_and_six(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11", groups=(group(),))
    (a,) = start(node, hosted(net, one), one, group())
    a.dhcp()
    assert a.run("busybox wget -qO- http://169.254.169.254/latest").stdout == f"{net.id} 10.0.0.11 /latest"
    answer = a.run("curl -sg 'http://[fe80::a9fe:a9fe%25eth0]/openstack'").stdout
    assert answer.startswith(f"{net.id} fe80::")
    assert answer.endswith("/openstack")


def test_security_groups_by_protocol_and_direction(node: Node) -> None:
    net = network()
    web = group(
        rule("ingress", protocol="tcp", port_min=80, port_max=81),
        rule("ingress", protocol="udp", port_min=53, port_max=53, remote_cidr="10.0.0.12/32"),
        rule("ingress", "IPv6", protocol="tcp", port_min=80, port_max=80),
        rule("ingress", "IPv6", protocol="icmp", port_min=128),
    )
    client = group()
    shut = SecurityGroupState(id=new_id(), rules=(rule("egress", protocol="tcp", port_min=80, port_max=80),))
    one = port(net, "10.0.0.11", "fd01::11", groups=(web,))
    two = port(net, "10.0.0.12", "fd01::12", groups=(client,))
    three = port(net, "10.0.0.13", "fd01::13", groups=(shut,))
    a, b, c = (guest.static() for guest in start(node, net, one, two, three, web, client, shut))
    with a.listen(80), a.listen(81), a.listen(82), a.listen(53, "udp"), a.listen(54, "udp"), b.listen(80):
        assert b.connects("10.0.0.11", 80)
        assert b.connects("10.0.0.11", 81)
        assert not b.connects("10.0.0.11", 82, patience=AT_ONCE)
        assert b.connects("10.0.0.11", 53, "udp")
        assert not b.connects("10.0.0.11", 54, "udp", patience=AT_ONCE)
        assert b.connects("fd01::11", 80)
        assert not b.connects("fd01::11", 81, patience=AT_ONCE)
        assert b.pings("fd01::11")
        assert not b.pings("10.0.0.11", patience=1)
        assert not a.connects("10.0.0.12", 80, patience=AT_ONCE)
        assert not a.connects("fd01::12", 80, patience=AT_ONCE)
        assert c.connects("10.0.0.11", 80)
        assert not c.connects("10.0.0.11", 81, patience=AT_ONCE)
        assert not c.connects("fd01::11", 80, patience=AT_ONCE)


def test_remote_group_follows_its_members(node: Node) -> None:
    net = network()
    base = group(members=("10.0.0.11",))
    own = replace(base, rules=(*base.rules, rule("ingress", remote_group=base.id)))
    one, two = port(net, "10.0.0.11", groups=(own,)), port(net, "10.0.0.12", groups=())
    a, b = (guest.static() for guest in start(node, net, one, two, own))
    assert not b.pings("10.0.0.11", patience=1)
    joined, both = replace(two, security_groups=(own.id,)), replace(own, members=("10.0.0.11", "10.0.0.12"))
    node.apply(wanted(net, one, joined, both))
    assert b.pings("10.0.0.11")
    assert a.pings("10.0.0.12")


def test_established_connections_outlive_changes_but_not_their_rule(node: Node) -> None:
    net = network()
    ssh, http = (rule("ingress", protocol="tcp", port_min=number) for number in (22, 80))
    both = group(ssh, http)
    one, two = port(net, "10.0.0.11", groups=(both,)), port(net, "10.0.0.12", groups=(both,))
    a, b = (guest.static() for guest in start(node, net, one, two, both))
    with a.listen(22), a.listen(80):
        kept, cut = Talk(b.namespace, "10.0.0.11", 22), Talk(b.namespace, "10.0.0.11", 80)
        assert kept.says()
        assert cut.says()
        node.apply(wanted(net, one, two, replace(both, rules=(*EGRESS, ssh))))
        assert kept.says()
        assert cut.says() is None
        assert not b.connects("10.0.0.11", 80, patience=AT_ONCE)
        node.apply(wanted(net, one, two, both))
        assert kept.says()
        assert b.connects("10.0.0.11", 80)
        kept.close()
        cut.close()


def test_forged_senders_are_dropped(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11", "fd01::11")
    two = port(net, "10.0.0.12", "fd01::12", allowed_pairs=(("", "10.0.0.100"), ("", "fd01::100")))
    loose = port(net, "10.0.0.13", port_security=False)
    a, b, c = (guest.static() for guest in start(node, net, one, two, loose, OPEN))
    assert b.pings("10.0.0.11")
    assert b.pings("fd01::11")
    must(b.namespace, "ip addr add 10.0.0.99/24 dev eth0; ip addr add 10.0.0.100/24 dev eth0")
    must(b.namespace, "ip addr add fd01::99/64 dev eth0 nodad; ip addr add fd01::100/64 dev eth0 nodad")
    assert not b.pings("-I 10.0.0.99 10.0.0.11", patience=1)
    assert b.pings("-I 10.0.0.100 10.0.0.11")
    assert not b.pings("-I fd01::99 fd01::11", patience=1)
    assert b.pings("-I fd01::100 fd01::11")
    # ARP and neighbour discovery do not answer for what is not the port's
    must(a.namespace, "ip neigh flush all")
    assert not a.pings("10.0.0.99", patience=1)
    assert not a.pings("fd01::99", patience=1)
    assert a.pings("10.0.0.100")
    assert a.pings("fd01::100")
    must(c.namespace, "ip addr add 10.0.0.98/24 dev eth0")
    assert c.pings("-I 10.0.0.98 10.0.0.11")
    must(b.namespace, "ip link set eth0 down; ip link set eth0 address fa:16:3e:00:00:01; ip link set eth0 up")
    assert not b.pings("10.0.0.11", patience=1)


def udp(sender: str, target: str, ports: tuple[int, int], payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0)
    words = header + socket.inet_aton(sender) + socket.inet_aton(target)
    total = sum(struct.unpack("!10H", words))
    check = 0xFFFF ^ (total % 0xFFFF or 0xFFFF)
    words = words[:10] + struct.pack("!H", check) + words[12:]
    return words + struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload


def test_hostile_frames_are_dropped(node: Node) -> None:
    net = network()
    one, two = port(net, "10.0.0.11"), port(net, "10.0.0.12")
    a, b = (guest.static() for guest in start(node, net, one, two, OPEN))
    assert b.pings("10.0.0.11")
    to, own = (bytes.fromhex(each.mac.replace(":", "")) for each in (one, two))
    head, plain = to + own, b"\x08\x00"
    here, there = Wire(a.namespace), Wire(b.namespace)
    forged_arp = struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2) + own + socket.inet_aton("10.0.0.1") + to
    frames = {
        b"honest--": head + plain + udp("10.0.0.12", "10.0.0.11", (999, 999), b"honest--"),
        b"dhcp-srv": head + plain + udp("10.0.0.12", "10.0.0.11", (67, 68), b"dhcp-srv"),
        b"other-ip": head + plain + udp("10.0.0.66", "10.0.0.11", (999, 999), b"other-ip"),
        b"othermac": to + bytes(5) + b"\x02" + plain + udp("10.0.0.12", "10.0.0.11", (999, 999), b"othermac"),
        b"tagged--": head + b"\x81\x00\x00\x05" + plain + udp("10.0.0.12", "10.0.0.11", (999, 999), b"tagged--"),
        b"unknown-": head + b"\x88\xb5" + bytes(40) + b"unknown-",
        b"arp-for1": head + forged_arp + socket.inet_aton("10.0.0.11") + b"arp-for1",
    }
    for frame in frames.values():
        there.send(frame)
    assert here.heard(frames) == {b"honest--"}
    free = [replace(each, port_security=False) for each in (one, two)]
    node.apply(wanted(net, *free, OPEN))
    for frame in frames.values():
        there.send(frame)
    assert here.heard(frames) == set(frames)
    node.apply(wanted(net, one, two, OPEN))
    here.close()
    there.close()
def test_router_advertisements_of_guests_are_dropped(node: Node) -> None:
    net = network()
    one, two = port(net, "10.0.0.11"), port(net, "10.0.0.12")
    a, b = start(node, net, one, two, OPEN)
    advertise = (
        "import socket,struct\n"
        "s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,58)\n"
        "s.setsockopt(41,socket.IPV6_MULTICAST_HOPS,255)\n"
        "s.sendto(struct.pack('!BBHBBHII',134,0,0,64,0,1800,0,0),('ff02::1%eth0',0))\n"
    )
    must(b.namespace, f'python3 -c "{advertise}"')
    time.sleep(0.3)
    assert "proto ra" not in must(a.namespace, "ip -6 route")
    node.apply(wanted(net, one, replace(two, port_security=False), OPEN))
    must(b.namespace, f'python3 -c "{advertise}"')
    time.sleep(0.3)
    assert "proto ra" in must(a.namespace, "ip -6 route")


def test_tap_speaks_and_is_filtered(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11")
    node.apply(wanted(net, one, OPEN))
    tap = node.do(node.driver.open_tap, NicSpec(port_id=one.id, network_id=net.id, mac=one.mac))
    try:
        own, server = bytes.fromhex(one.mac.replace(":", "")), socket.inet_aton("10.0.0.2")

        def asks(sender: str) -> bool:
            """An ARP request behind ten bytes of virtio header, and whether an answer comes."""
            words = struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + own + socket.inet_aton(sender)
            os.write(tap, bytes(10) + b"\xff" * 6 + own + words + bytes(6) + server)
            deadline = time.monotonic() + 0.4
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    if b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02" in os.read(tap, 2000):
                        return True
                time.sleep(0.005)
            return False

        assert asks("10.0.0.11")
        assert not asks("10.0.0.12")
    finally:
        os.close(tap)


def test_real_guest_gets_lease_and_metadata_and_is_reached(node: Node, tmp_path: Path) -> None:
    node.world()
    out, red = public(), network()
    ssh = group(rule("ingress", protocol="tcp", port_min=22, port_max=22))
    one, two = port(red, "10.0.0.11", groups=(ssh,)), port(red, "10.0.0.12")
    floating = FloatingState(id=new_id(), floating_ip="172.24.4.60", fixed_ip="10.0.0.11", port_id=one.id)
    router = RouterState(
        id=new_id(), gateway=leg(out, "172.24.4.50/24"), gateway_nexthops=("172.24.4.1",),
        interfaces=(leg(red, "10.0.0.1/24"),), floating_ips=(floating,),
    )  # fmt: skip
    assert node.apply(wanted(out, hosted(red, one, two), one, two, ssh, OPEN, router)).errors == {}
    b = node.guest(two)
    tap = node.do(node.driver.open_tap, NicSpec(port_id=one.id, network_id=red.id, mac=one.mac))
    qemu = subprocess.Popen(
        [
            "qemu-system-x86_64", "-accel", "tcg,tb-size=32", "-m", "128", "-nodefaults", "-display", "none",
            "-serial", f"file:{tmp_path / 'console'}", "-snapshot", "-drive", f"file={cached(CACHE)},if=virtio",
            "-netdev", f"tap,id=n0,fd={tap}", "-device", f"virtio-net-pci,netdev=n0,mac={one.mac}",
        ],
        pass_fds=[tap],
    )  # fmt: skip
    os.close(tap)
    try:
        assert set(node.apply().ports_up) == {one.id, two.id}
        b.dhcp()
        deadline = time.monotonic() + 60
        while "SSH-2.0" not in command(node.outside, "timeout 1 busybox nc 172.24.4.60 22 < /dev/null").stdout:
            assert time.monotonic() < deadline, (tmp_path / "console").read_text()[-2000:]
        assert "SSH-2.0" in b.run("timeout 1 busybox nc 10.0.0.11 22 < /dev/null").stdout
        assert not b.pings("10.0.0.11", patience=1)
        assert any(path.startswith("/openstack") for path in node.asked)
    finally:
        qemu.kill()
        qemu.wait()


def test_port_down_carries_nothing(node: Node) -> None:
    net = network()
    one, two = port(net, "10.0.0.11"), port(net, "10.0.0.12")
    a, b = (guest.static() for guest in start(node, net, one, two, OPEN))
    assert a.pings("10.0.0.12")
    report = node.apply(wanted(net, one, replace(two, admin_state_up=False), OPEN))
    assert report.ports_up == (one.id,)
    assert not a.pings("10.0.0.12", patience=1)
    assert not b.pings("10.0.0.2", patience=1)
    node.apply(wanted(net, one, OPEN))
    assert not a.pings("10.0.0.12", patience=1)


def test_same_addresses_in_two_networks_do_not_meet(node: Node) -> None:
    red, blue = network(), network(segment=78)
    one, two, other = port(red, "10.0.0.11"), port(red, "10.0.0.12"), port(blue, "10.0.0.11")
    a, b, c = (guest.static() for guest in start(node, red, blue, one, two, other, OPEN))
    with a.listen(80), c.listen(81):
        assert b.connects("10.0.0.11", 80)
        assert not b.connects("10.0.0.11", 81, patience=AT_ONCE)
        assert c.connects("10.0.0.11", 81)  # itself
        assert not c.pings("10.0.0.12", patience=1)
        assert c.pings("10.0.0.2")


def public() -> NetworkState:
    return network("172.24.4.0/24", served=False, kind="flat", physical_network="public", mtu=1500)


def leg(net: NetworkState, *addresses: str) -> RouterPort:
    return RouterPort(port_id=new_id(), network_id=net.id, mac=mac(), addresses=addresses)


def test_router_snat_floating_ip_and_metadata(node: Node) -> None:
    node.world()
    world = node.outside
    out, red, blue = public(), network(), network("10.1.0.0/24", segment=78)
    one, two, far = port(red, "10.0.0.11"), port(red, "10.0.0.12"), port(blue, "10.1.0.11")
    router = RouterState(
        id=new_id(),
        gateway=leg(out, "172.24.4.50/24"),
        gateway_nexthops=("172.24.4.1",),
        interfaces=(leg(red, "10.0.0.1/24"), leg(blue, "10.1.0.1/24")),
    )
    a, b, c = start(node, out, hosted(red, one, two), hosted(blue, far), one, two, far, router, OPEN)
    a.dhcp()
    b.dhcp()
    c.static("10.1.0.1")
    assert a.pings("10.1.0.11")
    assert c.pings("10.0.0.11")
    with Listener(world, 80, "tcp"), a.listen(80):
        assert seen_as(a.namespace, "172.24.4.200", 80) == "172.24.4.50"
        assert c.run("busybox wget -qO- http://169.254.169.254/x").stdout == f"{router.id} 10.1.0.11 /x"
        assert a.run("busybox wget -qO- http://169.254.169.254/x").stdout == f"{red.id} 10.0.0.11 /x"
        assert not connects(world, "172.24.4.60", 80, patience=AT_ONCE)
        floating = FloatingState(id=new_id(), floating_ip="172.24.4.60", fixed_ip="10.0.0.11", port_id=one.id)
        with_floating = replace(router, floating_ips=(floating,))
        state = wanted(out, hosted(red, one, two), hosted(blue, far), one, two, far, OPEN)
        assert node.apply(replace(state, routers=(with_floating,))).errors == {}
        talk = Talk(world, "172.24.4.60", 80)
        assert talk.says() == "172.24.4.200"
        assert seen_as(a.namespace, "172.24.4.200", 80) == "172.24.4.60"
        assert seen_as(b.namespace, "172.24.4.60", 80) is not None  # through the router, to a neighbour
        assert seen_as(c.namespace, "172.24.4.60", 80) is not None
        assert seen_as(b.namespace, "172.24.4.200", 80) == "172.24.4.50"
        node.apply(replace(state, routers=(router,)))
        assert talk.says() is None
        talk.close()
        assert not connects(world, "172.24.4.60", 80, patience=AT_ONCE)
        assert seen_as(a.namespace, "172.24.4.200", 80) == "172.24.4.50"
        # static route, and a router that is down
        must(world, "ip addr add 192.0.2.77/32 dev lo")
        node.apply(replace(state, routers=(replace(router, routes=(("192.0.2.0/24", "172.24.4.200"),)),)))
        assert seen_as(a.namespace, "192.0.2.77", 80) == "172.24.4.50"
        node.apply(replace(state, routers=(replace(router, admin_state_up=False),)))
        assert not a.connects("172.24.4.200", 80, patience=AT_ONCE)
        node.apply(replace(state, routers=(replace(router, interfaces=router.interfaces[:1]),)))
        assert a.connects("172.24.4.200", 80)
        assert not a.pings("10.1.0.11", patience=1)


def test_ipv6_by_router_advertisement(node: Node) -> None:
    base = network()
    six = SubnetState(
        id=new_id(), cidr="fd02::/64", ip_version=6, gateway_ip="fd02::1",
        ipv6_address_mode="slaac", ipv6_ra_mode="slaac",
    )  # fmt: skip
    net, other = replace(base, subnets=(*base.subnets, six)), network("10.1.0.0/24", segment=78)
    address = "fd02::f816:3eff:fe00:11"
    one = replace(port(net, "10.0.0.11", address), mac="fa:16:3e:00:00:11")
    far = port(other, "10.1.0.11", "fd03::11")
    interfaces = (leg(net, "10.0.0.1/24", "fd02::1/64"), leg(other, "10.1.0.1/24", "fd03::1/64"))
    router = RouterState(id=new_id(), interfaces=interfaces)
    a, c = start(node, net, other, one, far, router, OPEN)
    c.static("10.1.0.1", "fd03::1")
    deadline = time.monotonic() + 12
    must(a.namespace, "ip link set eth0 down; ip link set eth0 up")  # solicits
    while address not in must(a.namespace, "ip -6 addr show dev eth0") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert address in must(a.namespace, "ip -6 addr show dev eth0")
    route = must(a.namespace, "ip -6 route show default")
    assert "via fe80::" in route
    assert "proto ra" in route
    assert a.pings("fd03::11")
    assert c.pings(address)


def test_dhcpv6_gives_the_ports_address(node: Node) -> None:
    six = SubnetState(
        id=new_id(), cidr="fd02::/64", ip_version=6, gateway_ip="fd02::1",
        ipv6_address_mode="dhcpv6-stateful", ipv6_ra_mode="dhcpv6-stateful", dns_nameservers=("fd09::9",),
    )  # fmt: skip
    net = NetworkState(
        id=new_id(), kind="vxlan", subnets=(six,), dhcp_port=HostEntry(port_id=new_id(), mac=mac(), ips=("fd02::2",))
    )
    one = port(net, "fd02::11")
    router = RouterState(id=new_id(), interfaces=(leg(net, "fd02::1/64"),))
    (a,) = start(node, hosted(net, one), one, OPEN, router)
    ask = (
        "import socket;s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM);s.bind((\"::\",546));s.settimeout(5);"
        f"d=bytes.fromhex(\"00030001{one.mac.replace(':', '')}\");"
        "o=lambda n,b:n.to_bytes(2,\"big\")+len(b).to_bytes(2,\"big\")+b;"
        "s.sendto(b\"\\1abc\"+o(1,d)+o(3,bytes(12))+o(6,b\"\\0\\27\"),(\"ff02::1:2%eth0\",547));"
        "print(s.recv(1000).hex())"
    )
    answer = must(a.namespace, f"python3 -c '{ask}'")
    assert socket.inet_pton(socket.AF_INET6, "fd02::11").hex() in answer
    assert socket.inet_pton(socket.AF_INET6, "fd09::9").hex() in answer


def test_restart_keeps_traffic_and_adopts_all(node: Node) -> None:
    net = network()
    ssh = group(rule("ingress", protocol="tcp", port_min=22))
    one, two = port(net, "10.0.0.11", groups=(ssh,)), port(net, "10.0.0.12", groups=(ssh,))
    net = hosted(net, one, two)
    a, b = start(node, net, one, two, ssh)
    a.dhcp()
    b.dhcp()
    dnsmasq = (node.settings.dhcp_dir / a.network / "pid").read_text()
    with a.listen(22):
        talk = Talk(b.namespace, "10.0.0.11", 22)
        assert talk.says()
        node.end()
        assert talk.says()
        node.begin()
        assert node.do(node.driver.inventory) == {"networks": {net.id}, "ports": {one.id, two.id}, "routers": set()}
        report = node.apply()
        assert report.errors == {}
        assert set(report.ports_up) == {one.id, two.id}
        assert talk.says()
        talk.close()
        assert (node.settings.dhcp_dir / a.network / "pid").read_text() == dnsmasq
        assert b.connects("10.0.0.11", 22)
        assert not b.pings("10.0.0.11", patience=1)
        assert "10.0.0.11" in a.dhcp()
        assert a.run("busybox wget -qO- http://169.254.169.254/y").stdout.endswith("/y")


def test_killed_dhcp_server_and_lost_namespace_come_back(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11")
    net = hosted(net, one)
    (a,) = start(node, net, one, OPEN)
    os.kill(int((node.settings.dhcp_dir / a.network / "pid").read_text()), 9)
    time.sleep(0.1)
    assert node.apply().errors == {}
    assert "10.0.0.11" in a.dhcp()
    a.close()
    namespaces.remove(a.network)
    assert node.apply().errors == {}
    b = node.guest(one)
    assert node.apply().ports_up == (one.id,)
    assert "10.0.0.11" in b.dhcp()
    assert b.run("busybox wget -qO- http://169.254.169.254/z").stdout.endswith("/z")


def test_half_made_things_are_finished_and_strangers_removed(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11")
    router = RouterState(id=new_id(), interfaces=(leg(net, "10.0.0.1/24"),))
    here, there = names.network_namespace(node.prefix, net.id), names.router_namespace(node.prefix, router.id)
    # As if killed after one step, in the middle of one, and while removing
    namespaces.make(here)
    (namespaces.ROOT / there).touch()
    stranger = names.network_namespace(node.prefix, new_id())
    namespaces.make(stranger)
    other = f"{node.prefix}x-n-12345678-12"  # another agent's
    namespaces.make(other)
    try:
        (a,) = start(node, hosted(net, one), one, OPEN, router)
        a.dhcp()
        assert a.pings("10.0.0.1")
        assert stranger not in namespaces.names()
        assert other in namespaces.names()
    finally:
        namespaces.remove(other)


def test_open_tap_waits_for_its_port(node: Node) -> None:
    net = network()
    one = port(net, "10.0.0.11")
    nic = NicSpec(port_id=one.id, network_id=net.id, mac=one.mac)
    with pytest.raises(NodeFault, match="did not come to this node"):
        node.do(node.driver.open_tap, nic)
    node.state = wanted(net, one, OPEN)  # known to the controller, not yet applied
    descriptor = node.do(node.driver.open_tap, nic)
    assert node.apply().ports_up == (one.id,)
    with pytest.raises(NodeFault, match="holds it"):
        node.do(node.driver.open_tap, nic)
    os.close(descriptor)
    assert node.apply().ports_up == ()
    descriptor = node.do(node.driver.open_tap, nic)
    assert node.apply().ports_up == (one.id,)
    node.do(node.driver.close_tap, one.id)
    assert node.apply().ports_up == ()
    os.close(descriptor)


def test_one_failing_network_does_not_stop_others(node: Node) -> None:
    bad = network(kind="flat", physical_network="nowhere")
    tagged = network(kind="vlan", physical_network="public", segment=9)
    good = network()
    one, lost = port(good, "10.0.0.11"), port(bad, "10.0.0.11")
    report = node.apply(wanted(bad, good, one, lost, OPEN))
    assert set(report.errors) == {bad.id}
    assert "no physical network 'nowhere'" in report.errors[bad.id]
    node.guest(one)
    assert node.apply().ports_up == (one.id,)
    errors = node.apply(wanted(tagged, good, one, OPEN)).errors
    assert not errors or "802.1Q" in errors[tagged.id]
    assert names.network_namespace(node.prefix, bad.id) not in namespaces.names()


def test_killed_at_any_moment(node: Node) -> None:
    out, red, blue = public(), network(), network("10.1.0.0/24", segment=78)
    one, two, far = port(red, "10.0.0.11"), port(red, "10.0.0.12"), port(blue, "10.1.0.11")
    router = RouterState(
        id=new_id(), gateway=leg(out, "172.24.4.50/24"), gateway_nexthops=("172.24.4.1",),
        interfaces=(leg(red, "10.0.0.1/24"), leg(blue, "10.1.0.1/24")),
    )  # fmt: skip
    all_of_it = wanted(out, hosted(red, one, two), hosted(blue, far), one, two, far, router, OPEN)
    less = wanted(out, hosted(red, one), one, replace(router, interfaces=router.interfaces[:1]), OPEN)
    for _ in range(KILLS):
        node.end()
        applier = Applier(node, [all_of_it, less, NodeNetwork(revision=3)])
        time.sleep(secrets.randbelow(700) / 1000)
        assert applier.kill() == ""
        node.begin()
        assert node.apply(all_of_it).errors == {}
        found = node.do(node.driver.inventory)
        assert found == {"networks": {out.id, red.id, blue.id}, "routers": {router.id}, "ports": set()}
        a, c = node.guest(one), node.guest(far)
        node.apply()
        a.carried()
        c.carried()
        assert "ip=10.0.0.11" in a.dhcp()
        c.static("10.1.0.1")
        assert a.pings("10.1.0.11", 2)
        assert a.pings("172.24.4.1", 2)
        assert a.run("busybox wget -qO- http://169.254.169.254/k").stdout == f"{red.id} 10.0.0.11 /k"
        a.close()
        c.close()
    (node.settings.state_dir / "states").unlink()


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_teardown_leaves_the_host_as_it_was() -> None:
    prefix = "t" + secrets.token_hex(3)
    node = Node(prefix, masquerade=True)
    try:
        node.do(node.driver.teardown)
        look = "ip -o link | cut -d@ -f1 | cut -d: -f2; nft list tables; cat /proc/sys/net/ipv4/ip_forward"
        # The bridge of the host's owner: present before the driver starts, so not the driver's to remove
        must(node.host, "ip link add owned type bridge; ip addr add 192.0.2.1/24 dev owned; nft add table ip mine")
        before, spaces = must(node.host, look), {name for name in namespaces.names() if name.startswith(prefix)}
        node.do(node.driver.start)
        out, red = public(), network()
        one = port(red, "10.0.0.11")
        router = RouterState(
            id=new_id(), gateway=leg(out, "172.24.4.50/24"), gateway_nexthops=("172.24.4.1",),
            interfaces=(leg(red, "10.0.0.1/24"),),
        )  # fmt: skip
        (a,) = start(node, out, hosted(red, one), one, OPEN, router)
        a.dhcp()
        assert a.pings("172.24.4.1")
        # The host masquerades what leaves it
        must(node.host, f"ip link add up0 type veth peer name up0 netns {node.outside}; ip link set up0 up")
        must(node.host, "ip addr add 198.51.100.1/24 dev up0")
        must(node.outside, "ip link set up0 up; ip addr add 198.51.100.2/24 dev up0")
        with Listener(node.outside, 80, "tcp"):
            assert seen_as(a.namespace, "198.51.100.2", 80) == "198.51.100.1"
        must(node.host, "ip link del up0")
        assert must(node.host, look) != before
        a.close()
        node.do(node.driver.teardown)
        assert must(node.host, look) == before
        assert {name for name in namespaces.names() if name.startswith(prefix)} == spaces
        assert list(node.settings.state_dir.iterdir()) == []
        assert not node.settings.dhcp_dir.exists()
        assert not any(bytes(node.settings.dhcp_dir) in words for words in command_lines())
    finally:
        node.close()


def test_two_nodes_share_a_network() -> None:
    first, second = (Node("t" + secrets.token_hex(3), vtep=f"192.0.2.{n}") for n in (1, 2))
    try:
        must(first.host, f"ip link add u0 type veth peer name u0 netns {second.host}")
        for number, each in ((1, first), (2, second)):
            must(each.host, f"ip addr add 192.0.2.{number}/24 dev u0; ip link set u0 up")
        net = network()
        one, two = port(net, "10.0.0.11"), port(net, "10.0.0.12")
        there = HostEntry(port_id=two.id, mac=two.mac, ips=two.ips, vtep="192.0.2.2")
        here = HostEntry(port_id=one.id, mac=one.mac, ips=one.ips, vtep="192.0.2.1")
        served = HostEntry(port_id=new_id(), mac=mac(), ips=("10.0.0.2",), vtep="192.0.2.1")
        near = replace(hosted(net, one), hosts=(replace(here, vtep=None), there), vteps=("192.0.2.2",))
        far = replace(
            net, dhcp_port=None, hosts=(here, replace(there, vtep=None), served), vteps=("192.0.2.1",)
        )
        (a,) = start(first, near, one, OPEN)
        (b,) = start(second, far, two, OPEN)
        b.dhcp()
        a.dhcp()
        assert a.pings("10.0.0.12")
        assert b.run("busybox wget -qO- http://169.254.169.254/v").stdout == f"{net.id} 10.0.0.12 /v"
        with a.listen(80):
            assert b.connects("10.0.0.11", 80)
    finally:
        first.close()
        second.close()


def test_one_more_port_among_a_hundred(node: Node) -> None:
    net = network()
    ports = [port(net, f"10.0.0.{n}") for n in range(20, 121)]
    web = replace(OPEN, members=tuple(each.ips[0] for each in ports))
    node.apply(wanted(hosted(net, *ports[:-1]), *ports[:-1], web))
    for each in ports:
        with namespaces.inside(names.network_namespace(node.prefix, net.id)):
            must(None, f"ip tuntap add dev {names.tap(each.id)} mode tap")
    assert len(node.apply().ports_up) == 100
    assert len(node.apply(wanted(hosted(net, *ports), *ports, web)).ports_up) == 101
