"""Trunks by packets: guests that reach several networks through one port, by VLAN tags.

Kernels without 802.1Q skip most of this: `scripts/debian-guest tests/system/test_net_trunk.py` runs it in one that has.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from net_bench import Guest, Wire, command, must
from net_lab import Lab
from test_net_vlan import has_vlans

from pileus.network import ports
from pileus.network.ports import PortInfo
from pileus.node.net import names, namespaces

pytestmark = pytest.mark.system
V = "/network/v2.0"
WITHOUT = "this kernel has no 802.1Q: scripts/debian-guest runs it in a guest that has"


@pytest.fixture(scope="module")
def vlans() -> bool:
    return has_vlans()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Two nodes; what they carry is theirs alone, but for the wire between them."""
    lab = Lab(tmp_path, a=("network",), b=("network",))
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def tagged(vlans: bool, lab: Lab) -> Lab:
    """The same, where the kernel can do VLANs."""
    if not vlans:
        pytest.skip(WITHOUT)
    return lab


def new(lab: Lab, network: str, **more: Any) -> PortInfo:
    """A port of no server."""
    made = lab.admin.post(f"{V}/ports", {"port": {"network_id": network, **more}})
    assert made.status_code == 201, made.text
    port: PortInfo = lab.do(lambda tx: ports.get(tx, made.json()["port"]["id"]))
    if port.security_group_ids:
        lab.open(port)
    return port


def trunk(lab: Lab, parent: PortInfo, **subs: PortInfo) -> str:
    """A trunk with subports by their tags, `t101=port`; its id."""
    body = {"port_id": parent.id, "sub_ports": [sub(tag, port) for tag, port in subs.items()]}
    made = lab.admin.post(f"{V}/trunks", {"trunk": body})
    assert made.status_code == 201, made.text
    return str(made.json()["trunk"]["id"])


def sub(tag: str, port: PortInfo) -> dict[str, Any]:
    return {"port_id": port.id, "segmentation_type": "vlan", "segmentation_id": int(tag[1:])}


def change(lab: Lab, trunk_id: str, action: str, **subs: PortInfo) -> None:
    done = lab.admin.put(
        f"{V}/trunks/{trunk_id}/{action}", {"sub_ports": [sub(tag, port) for tag, port in subs.items()]}
    )
    assert done.status_code == 200, done.text
    lab.settled()


def status(lab: Lab, trunk_id: str) -> str:
    return str(lab.admin.get(f"{V}/trunks/{trunk_id}").json()["trunk"]["status"])


def leg(guest: Guest, tag: int, port: PortInfo, address: str = "") -> None:
    """The guest's interface for a tag, with the subport's MAC and address."""
    address = address or port.fixed_ips[0][1]
    must(guest.namespace, f"ip link add link eth0 name v{tag} address {port.mac} type vlan id {tag}; "
                          f"ip link set v{tag} up; ip addr add {address}/24 dev v{tag}")


def pings(guest: Guest, tag: int, address: str, count: int = 2) -> bool:
    """Whether an answer comes to the guest's interface for a tag, 0: the one without."""
    name = f"v{tag}" if tag else "eth0"
    return command(guest.namespace, f"ping -n -I {name} -c {count} -i 0.2 -W 1 {address}").returncode == 0


def leased(guest: Guest, tag: int) -> str:
    """The address that the DHCP server gives to the guest's interface for a tag."""
    script = Path(f"/run/{guest.namespace}-{tag}.sh")
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && echo "leased=$ip"\nexit 0\n')
    script.chmod(0o755)
    try:
        said = must(guest.namespace, f"busybox udhcpc -i v{tag} -n -q -t 5 -T 1 -s {script}")
    finally:
        script.unlink()
    return next(line.partition("=")[2] for line in said.splitlines() if line.startswith("leased="))


def device(lab: Lab, node: str, port: PortInfo) -> str:
    """The subport's device on a node as `ip` shows it; "": there is none."""
    space = names.network_namespace(lab.nodes[node].prefix, port.network_id)
    if not namespaces.exists(space):
        return ""
    return command(space, f"ip -d link show {names.tap(port.id)}").stdout


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Story:
    """A guest on node a whose trunk leads to the red and the blue network, one on node b that has red under another
    tag, and two on the red and the blue network alone."""

    def __init__(self, lab: Lab, **first: Any) -> None:
        self.lab = lab
        self.home, self.red, self.blue = lab.network("10.0.0.0/24"), lab.network("10.5.0.0/24"), lab.network(
            "10.6.0.0/24"
        )
        self.parent, self.other = lab.port(self.home, "a"), lab.port(self.home, "b")
        self.red1, self.red2 = new(lab, self.red), new(lab, self.red)
        self.blue1 = new(lab, self.blue)
        self.trunk = trunk(lab, self.parent, t101=self.red1, t102=self.blue1)
        self.second = trunk(lab, self.other, t7=self.red2)
        self.plain_red, self.plain_blue = lab.port(self.red, "a"), lab.port(self.blue, "b")
        lab.settled()
        self.a, self.b, self.r, self.l = (
            lab.guest(port) for port in (self.parent, self.other, self.plain_red, self.plain_blue)
        )
        lab.settled()
        for guest in (self.a, self.b, self.r, self.l):
            guest.carried()
            guest.static()
        leg(self.a, 101, self.red1)
        leg(self.a, 102, self.blue1)
        leg(self.b, 7, self.red2)

    @staticmethod
    def ip(port: PortInfo) -> str:
        return port.fixed_ips[0][1]

    def talks(self) -> None:
        """Everybody reaches those on his own networks."""
        until(lambda: pings(self.a, 101, self.ip(self.plain_red)), "an ordinary port of the red network")
        assert pings(self.a, 101, self.ip(self.red2)), "a subport of the red network, on another node, by another tag"
        assert pings(self.a, 102, self.ip(self.plain_blue)), "the blue network, on another node"
        assert self.a.pings(self.ip(self.other)), "the parent's own network, without a tag"


def test_one_port_reaches_several_networks_and_each_only_by_its_tag(tagged: Lab) -> None:
    story = Story(tagged)
    story.talks()
    assert status(tagged, story.trunk) == status(tagged, story.second) == "ACTIVE"
    shown = tagged.admin.get(f"{V}/ports/{story.red1.id}").json()["port"]
    assert (shown["status"], shown["binding:host_id"]) == ("ACTIVE", "a")
    assert "vlan protocol 802.1Q id 101" in device(tagged, "a", story.red1)
    assert not pings(story.a, 102, story.ip(story.plain_red)), "red is not reached by the tag of blue"
    assert not pings(story.a, 101, story.ip(story.plain_blue))
    assert not pings(story.a, 0, story.ip(story.plain_red)), "nor without a tag"
    leg(story.b, 101, story.red2)  # the tag that red has in the other trunk
    assert not pings(story.b, 101, story.ip(story.plain_red))
    must(story.a.namespace, "ip addr flush dev v101")
    assert leased(story.a, 101) == story.ip(story.red1)


def frame(tags: list[int], port: PortInfo, word: bytes) -> bytes:
    """A gratuitous ARP request as the port may send it, with these tags, the outermost first, and padded by a word."""
    mac, ip = names.mac_octets(port.mac), socket.inet_aton(port.fixed_ips[0][1])
    head = b"\xff" * 6 + mac + b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags)
    question = struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + mac + ip + bytes(6) + ip
    return head + question + word * 4


@pytest.mark.parametrize("secured", [True, False])
def test_frames_of_other_tags_reach_no_network(tagged: Lab, secured: bool) -> None:
    home, red = tagged.network("10.0.0.0/24"), tagged.network("10.5.0.0/24")
    parent, near, below = tagged.port(home, "a"), tagged.port(home, "a"), new(tagged, red)
    inside = tagged.port(red, "a")
    trunk(tagged, parent, t101=below)
    if not secured:
        for port in (parent, near, below, inside):
            change_of = {"port_security_enabled": False, "security_groups": []}
            assert tagged.admin.put(f"{V}/ports/{port.id}", {"port": change_of}).status_code == 200
    tagged.settled()
    sender, neighbour, red_one = (tagged.guest(port) for port in (parent, near, inside))
    tagged.settled()
    for guest in (sender, neighbour, red_one):
        guest.carried()
    wires = [Wire(guest.namespace) for guest in (sender, neighbour, red_one)]
    out, at_home, at_red = wires
    try:
        for tags, word in (([102], b"OTHER"), ([0x0FFF], b"LAST4"), ([102, 101], b"INNER")):
            out.send(frame(tags, parent, word))
        assert at_home.heard([b"OTHER", b"LAST4", b"INNER"]) == set()
        assert at_red.heard([b"OTHER", b"LAST4", b"INNER"]) == set()
        # What a neighbour sends with a tag must not look to the guest as if it came from the red network.
        at_home.send(frame([101], near, b"FALSE"))
        assert out.heard([b"FALSE"]) == set()
        out.send(frame([101], below, b"RIGHT"))
        assert at_red.heard([b"RIGHT"]) == {b"RIGHT"}, "what has the subport's tag is of its network"
        out.send(frame([], parent, b"PLAIN"))
        assert at_home.heard([b"PLAIN"]) == {b"PLAIN"}
    finally:
        for wire in wires:
            wire.close()


def test_a_subport_has_its_own_security_groups_and_no_other_address(tagged: Lab) -> None:
    story = Story(tagged)
    story.talks()
    with story.r.listen(80):
        address = story.ip(story.plain_red)
        assert reaches(story.a, 101, address, 80)
        closed = tagged.admin.post(f"{V}/security-groups", {"security_group": {"name": "closed"}})
        group = closed.json()["security_group"]
        for rule in group["security_group_rules"]:
            tagged.admin.delete(f"{V}/security-group-rules/{rule['id']}")
        tagged.admin.put(f"{V}/ports/{story.red1.id}", {"port": {"security_groups": [group["id"]]}})
        tagged.settled()
        assert not reaches(story.a, 101, address, 80), "the subport may send nothing now"
        assert pings(story.a, 102, story.ip(story.plain_blue)), "the other subport may"
        assert story.a.pings(story.ip(story.other)), "and so may the parent"
        tagged.admin.post(f"{V}/security-group-rules", {"security_group_rule": {
            "security_group_id": group["id"], "direction": "egress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 80, "port_range_max": 80,
        }})
        tagged.settled()
        assert reaches(story.a, 101, address, 80)
        assert not pings(story.a, 101, address)
        must(story.a.namespace, "ip addr flush dev v101; ip addr add 10.5.0.222/24 dev v101")
        assert not reaches(story.a, 101, address, 80), "an address that is not the subport's"


def reaches(guest: Guest, tag: int, address: str, port: int) -> bool:
    """Whether a TCP connection through the interface of a tag comes to stand."""
    with namespaces.inside(guest.namespace):
        client = socket.socket()
    with client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"v{tag}".encode())
        client.settimeout(1)
        return client.connect_ex((address, port)) == 0


def test_subports_come_and_go_while_the_guest_runs(tagged: Lab) -> None:
    story = Story(tagged)
    story.talks()
    change(tagged, story.trunk, "remove_subports", t101=story.red1)
    assert device(tagged, "a", story.red1) == ""
    assert not pings(story.a, 101, story.ip(story.plain_red))
    assert pings(story.a, 102, story.ip(story.plain_blue)), "the rest goes on"
    assert (status(tagged, story.trunk), tagged.do(lambda tx: ports.get(tx, story.red1.id)).status) == (
        "ACTIVE", "DOWN"
    )
    change(tagged, story.trunk, "add_subports", t55=story.red1)
    leg(story.a, 55, story.red1)
    must(story.a.namespace, "ip link del v101")
    until(lambda: pings(story.a, 55, story.ip(story.plain_red)), "the same port by another tag")
    # Two tags that change places: neither is free before both are taken off.
    for action, red, blue in (("remove_subports", "t55", "t102"), ("add_subports", "t102", "t55")):
        body = {"sub_ports": [sub(red, story.red1), sub(blue, story.blue1)]}
        assert tagged.admin.put(f"{V}/trunks/{story.trunk}/{action}", body).status_code == 200
    tagged.settled()
    assert "id 102 " in device(tagged, "a", story.red1)
    assert "id 55 " in device(tagged, "a", story.blue1)
    assert status(tagged, story.trunk) == "ACTIVE"


def test_what_is_wired_outlives_the_agent_and_goes_with_the_guest(tagged: Lab) -> None:
    story = Story(tagged)
    story.talks()
    node = tagged.nodes["a"]
    before = device(tagged, "a", story.red1)
    node.end()
    assert pings(story.a, 101, story.ip(story.plain_red))
    change_while_away = tagged.admin.put(
        f"{V}/trunks/{story.trunk}/remove_subports", {"sub_ports": [sub("t102", story.blue1)]}
    )
    assert change_while_away.status_code == 200
    node.begin()
    tagged.settled()
    assert device(tagged, "a", story.red1) == before, "adopted, not made anew"
    assert device(tagged, "a", story.blue1) == "", "what was taken away meanwhile"
    assert pings(story.a, 101, story.ip(story.plain_red))
    story.a.close()
    tagged.settled()
    assert device(tagged, "a", story.red1) == "", "no tap, no subport"
    again = tagged.guest(story.parent)
    tagged.settled()
    again.carried()
    leg(again, 101, story.red1)
    until(lambda: pings(again, 101, story.ip(story.plain_red)), "wired again with the next tap")
    # A network that a node gives up, with the subport's device still in it.
    tagged.do(lambda tx: ports.release(tx, tagged.cloud, story.parent.id))
    tagged.do(lambda tx: ports.delete(tx, tagged.cloud, story.plain_red.id))
    tagged.settled()
    assert names.tap(story.red1.id) not in must(None, "ip -all netns exec ip link show")
    assert status(tagged, story.trunk) == "DOWN"
    assert story.red1.id not in node.do(node.driver.inventory)["ports"]


def test_subports_move_with_the_guest(tagged: Lab) -> None:
    story = Story(tagged)
    story.talks()
    server = story.parent.device_id
    tagged.do(lambda tx: ports.prepare_move(tx, tagged.cloud, server, "b"))
    tagged.settled()
    assert pings(story.a, 101, story.ip(story.plain_red)), "it is still at a"
    arrived = tagged.guest(story.parent, "b")
    tagged.settled()
    assert "id 101 " in device(tagged, "b", story.red1), "wired before it comes"
    tagged.do(lambda tx: ports.move(tx, tagged.cloud, server, "b"))
    story.a.close()
    tagged.settled()
    assert device(tagged, "a", story.red1) == ""
    assert status(tagged, story.trunk) == "ACTIVE"
    arrived.carried()
    leg(arrived, 101, story.red1)
    leg(arrived, 102, story.blue1)
    until(lambda: pings(arrived, 101, story.ip(story.plain_red)), "from its new node")
    assert pings(arrived, 102, story.ip(story.plain_blue))
    assert pings(story.b, 7, story.ip(story.red1))


def test_a_kernel_without_vlans_wires_the_rest_and_says_why(
    lab: Lab, vlans: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if vlans:
        pytest.skip("this kernel has 802.1Q")
    home, red = lab.network("10.0.0.0/24"), lab.network("10.5.0.0/24")
    parent, near, below = lab.port(home, "a"), lab.port(home, "a"), new(lab, red)
    identity = trunk(lab, parent, t101=below)
    lab.settled()
    guests = [lab.guest(port) for port in (parent, near)]
    said = lab.turn()["a"]
    assert set(said.errors) == {below.id}
    assert "modprobe 8021q" in said.errors[below.id]
    lab.turn()
    assert [r.getMessage() for r in caplog.records if below.id in r.getMessage() and "8021q" in r.getMessage()] != []
    assert status(lab, identity) == "ERROR"
    assert lab.do(lambda tx: ports.get(tx, below.id)).status == "DOWN"
    assert lab.do(lambda tx: ports.get(tx, parent.id)).status == "ACTIVE"
    for guest in guests:
        guest.carried()
        guest.static()
    assert guests[0].pings(near.fixed_ips[0][1])
