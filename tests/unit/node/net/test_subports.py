from __future__ import annotations

from collections.abc import Sequence

import pytest

from pileus.node.contract import Branch, NetworkState, NodeFault, PortState
from pileus.node.net import names, namespaces, subports
from pileus.node.net.firewall import Firewall, render
from pileus.node.net.namespaces import CommandFailed

NET = NetworkState(id="net", kind="vxlan")
PARENT, BELOW = "11111111-1111", "22222222-2222"
BRANCH = Branch(parent_id=PARENT, network_id="home", mtu=1450, vlan=101)
PORT = PortState(id=BELOW, network_id="net", mac="fa:16:3e:00:00:01", branch=BRANCH)

TABLE = """\
VLAN Dev name	 | VLAN ID
Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD
uplink         | 7  | br-public
tap22222222-22 | 101  | tap11111111-11
"""


def test_the_kernels_table_names_what_a_device_is_on() -> None:
    assert subports.parse(TABLE) == {"tap22222222-22": ("tap11111111-11", 101)}
    assert subports.parse(TABLE)[names.tap(BELOW)] == subports.root_of(BRANCH)


def _fails(monkeypatch: pytest.MonkeyPatch, words: str, there: bool) -> None:
    def ip_batch(name: str | None, lines: Sequence[str]) -> None:
        raise CommandFailed(words)

    monkeypatch.setattr(namespaces, "ip_batch", ip_batch)
    monkeypatch.setattr(subports, "_is_there", lambda namespace, device: there)


@pytest.mark.parametrize("words", ["RTNETLINK answers: Operation not supported", "Error: Unknown device type."])
def test_a_kernel_without_vlans_is_told_of_with_what_to_do(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    _fails(monkeypatch, words, there=True)
    with pytest.raises(NodeFault, match="modprobe 8021q"):
        subports.make("p", BRANCH, "p-n-net", names.tap(BELOW))
    up, errors = subports.wire("p", "p-n-net", [PORT], set(), {BELOW}, lambda port: [])
    assert up == set()
    assert "8021q" in errors[BELOW]


def test_a_tap_that_went_is_no_fault_and_other_trouble_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _fails(monkeypatch, "Cannot find device", there=False)
    assert subports.wire("p", "p-n-net", [PORT], set(), {BELOW}, lambda port: []) == (set(), {})
    _fails(monkeypatch, "RTNETLINK answers: File exists", there=True)
    assert "File exists" in subports.wire("p", "p-n-net", [PORT], set(), {BELOW}, lambda port: [])[1][BELOW]


def test_a_subport_is_wired_once_its_parent_is(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str | None, list[str]]] = []
    monkeypatch.setattr(namespaces, "ip_batch", lambda name, lines: done.append((name, list(lines))))
    assert subports.wire("p", "p-n-net", [PORT], set(), set(), lambda port: ["join"]) == (set(), {})
    assert done == []
    assert subports.wire("p", "p-n-net", [PORT], set(), {BELOW}, lambda port: ["join"]) == ({BELOW}, {})
    assert done == [
        ("p-n-home", ["link add link tap11111111-11 name tap22222222-22 netns p-n-net type vlan id 101"]),
        ("p-n-net", ["join"]),
    ]
    done.clear()
    subports.wire("p", "p-n-net", [PORT], {names.tap(BELOW)}, {BELOW}, lambda port: ["join"])
    assert done == [("p-n-net", ["join"])]


def test_tags_of_no_subport_pass_no_trunk_in_either_direction() -> None:
    trunk = PortState(id=PARENT, network_id="net", mac="fa:16:3e:00:00:02", port_security=False, trunk=True)
    bridge = render(Firewall(NET, (trunk, PORT), {}), {PARENT: 1, BELOW: 2})[0]
    assert bridge.containers["trunks"].elements == {f'"{names.tap(PARENT)}"'}
    for chain, way in (("from_port", "iifname"), ("to_port", "oifname")):
        assert f"{way} @trunks ether type {{ 0x8100, 0x88a8 }} drop" in bridge.chains[chain].rules[:2]
