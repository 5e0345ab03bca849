from __future__ import annotations

import msgspec
import pytest

from pileus.node.contract import NetworkState, NodeFault, PortState, RuleState, SecurityGroupState
from pileus.node.net.cuts import judge, narrowed, widened
from pileus.node.net.firewall import CUT, Firewall, groups_for, link_local, render, sender_rules
from pileus.node.net.rules import Flow, allows, rule_text

NET = NetworkState(id="net", kind="vxlan")
MAC = "fa:16:3e:00:00:01"
replace = msgspec.structs.replace


def rule(direction: str = "ingress", ethertype: str = "IPv4", **more: object) -> RuleState:
    return RuleState(id="r", direction=direction, ethertype=ethertype, **more)  # type: ignore[arg-type]


def port(**more: object) -> PortState:
    values = {"id": "port-1", "network_id": "net", "mac": MAC, "ips": ("10.0.0.5",)} | more
    return PortState(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (rule(), "meta nfproto ipv4 accept"),
        (rule(remote_cidr="0.0.0.0/0"), "meta nfproto ipv4 accept"),
        (rule(protocol="tcp", port_min=22, port_max=22), "meta nfproto ipv4 meta l4proto 6 th dport 22 accept"),
        (rule(protocol="17", port_min=1, port_max=9), "meta nfproto ipv4 meta l4proto 17 th dport 1-9 accept"),
        (rule(protocol="icmp", port_min=8), "meta nfproto ipv4 meta l4proto 1 icmp type 8 accept"),
        (rule(protocol="icmp", ethertype="IPv6"), "meta nfproto ipv6 meta l4proto 58 accept"),
        (rule(protocol="vrrp"), "meta nfproto ipv4 meta l4proto 112 accept"),
        (rule("egress", remote_cidr="10.1.2.3/8"), "meta nfproto ipv4 ip daddr 10.0.0.0/8 accept"),
        (rule(remote_group="g-1"), "meta nfproto ipv4 ip saddr @m4_g1 accept"),
        (rule(remote_group="gone"), None),
    ],
)
def test_rule_text(given: RuleState, text: str | None) -> None:
    assert rule_text(given, {"g-1": SecurityGroupState(id="g-1")}) == text


def test_unknown_protocol_is_named() -> None:
    with pytest.raises(NodeFault, match="'tpc'"):
        rule_text(rule(protocol="tpc"), {})


@pytest.mark.parametrize("attack", ["10.0.0.0/8 accept; drop", "1.2.3.4\nflush ruleset"])
def test_text_from_outside_never_becomes_nft(attack: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        rule_text(rule(remote_cidr=attack), {})
    with pytest.raises(ValueError, match="does not appear"):
        sender_rules(port(ips=(attack,)))
    with pytest.raises(ValueError, match=r"hexadecimal|MAC"):
        sender_rules(port(mac=attack))


def test_link_local_is_eui64() -> None:
    assert link_local("fa:16:3e:01:02:03") == "fe80::f816:3eff:fe01:203"


def test_sender_rules_end_in_drop_and_know_pairs() -> None:
    pairs = (("", "10.0.1.0/24"), ("02:00:00:00:00:02", "10.9.9.9"))
    rules = sender_rules(port(ips=("10.0.0.5", "fd00::5"), allowed_pairs=pairs))
    assert rules[-1] == "drop"
    assert rules[0] == f"ether saddr != {{ {MAC}, 02:00:00:00:00:02 }} drop"
    assert f"ether saddr {MAC} ip saddr {{ 10.0.0.5, 10.0.1.0/24 }} return" in rules
    assert "ether saddr 02:00:00:00:00:02 ip saddr 10.9.9.9 return" in rules


def test_overlapping_addresses_are_merged() -> None:
    rules = sender_rules(port(allowed_pairs=(("", "10.0.0.0/24"), ("", "10.0.0.5/32"))))
    assert "ip saddr 10.0.0.0/24 return" in rules


def test_insecure_port_has_no_rules_and_down_port_is_shut() -> None:
    ports = (port(port_security=False, admin_state_up=False),)
    bridge, inet = render(Firewall(NET, ports, {}), {"port-1": 1})
    assert bridge.containers["marks"].elements == frozenset()
    assert bridge.containers["down"].elements == {'"tapport-1"'}
    assert inet.containers["receivers"].elements == frozenset()


def test_port_without_groups_is_closed_and_stateless_groups_do_not_track() -> None:
    plain = render(Firewall(NET, (port(),), {}), {"port-1": 1})[1]
    assert plain.chains["i_1"].rules == ("ct state established,related accept", "ct state invalid drop", "drop")
    group = SecurityGroupState(id="g", stateful=False, rules=(rule(),))
    stateless = render(Firewall(NET, (port(security_groups=("g",)),), {"g": group}), {"port-1": 1})[1]
    assert stateless.chains["i_1"].rules == ("jump i_g", "drop")


def test_only_groups_that_matter_are_kept_and_remote_ones_without_rules() -> None:
    groups = {
        "a": SecurityGroupState(id="a", rules=(rule(remote_group="b"),)),
        "b": SecurityGroupState(id="b", rules=(rule(),), members=("10.0.0.9",)),
        "c": SecurityGroupState(id="c"),
    }
    found = groups_for([port(security_groups=("a",))], groups)
    assert set(found) == {"a", "b"}
    assert found["b"].rules == ()
    assert found["b"].members == ("10.0.0.9",)


def test_remembered_rules_follow_the_ports() -> None:
    known: dict[PortState, tuple[str, ...]] = {}
    render(Firewall(NET, (port(),), {}), {"port-1": 1}, known)
    moved = port(ips=("10.0.0.6",))
    tables = render(Firewall(NET, (moved,), {}), {"port-1": 1}, known)
    assert list(known) == [moved]
    assert "ip saddr 10.0.0.6 return" in tables[0].chains["s_1"].rules


TCP = Flow(protocol=6, source="10.0.0.9", destination="10.0.0.5", source_port=4000, port=22, key=b"k")


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        (rule(), True),
        (rule(ethertype="IPv6"), False),
        (rule("egress"), False),
        (rule(protocol="udp"), False),
        (rule(protocol="tcp", port_min=20, port_max=30), True),
        (rule(protocol="tcp", port_min=23, port_max=30), False),
        (rule(remote_cidr="10.0.0.8/29"), True),
        (rule(remote_cidr="10.0.0.0/29"), False),
        (rule(remote_group="g"), True),
        (rule(remote_group="h"), False),
    ],
)
def test_judgement_agrees_with_the_rule(given: RuleState, passes: bool) -> None:
    groups = {"g": SecurityGroupState(id="g", members=("fd00::9", "10.0.0.0/24")), "h": SecurityGroupState(id="h")}
    assert allows([given], "ingress", TCP, groups) is passes


def firewall(*rules: RuleState) -> Firewall:
    return Firewall(NET, (port(security_groups=("g",)),), {"g": SecurityGroupState(id="g", rules=rules)})


def test_flows_are_cut_and_taken_back() -> None:
    assert judge(firewall(rule()), [TCP]) == []
    assert judge(firewall(), [TCP]) == [(TCP, CUT)]
    cut = replace(TCP, mark=CUT)
    assert judge(firewall(), [cut]) == []
    assert judge(firewall(rule()), [cut]) == [(cut, 0)]
    assert judge(Firewall(NET, (port(port_security=False),), {}), [TCP]) == []


def test_dhcp_and_metadata_are_never_cut() -> None:
    dhcp = Flow(protocol=17, source="10.0.0.5", destination="255.255.255.255", source_port=68, port=67)
    metadata = Flow(protocol=6, source="10.0.0.5", destination="169.254.169.254", port=80)
    assert judge(firewall(), [dhcp, metadata]) == []


def test_narrowed_and_widened() -> None:
    wide, tight = firewall(rule()), firewall()
    assert narrowed(wide, tight)
    assert not narrowed(tight, wide)
    assert widened(tight, wide)
    assert not narrowed(wide, wide)
    assert narrowed(Firewall(NET, (port(port_security=False),), {}), tight)
