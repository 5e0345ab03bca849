"""Security groups and their rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Client
from tests.api.network.conftest import error_type, make

V = "/network/v2.0"


def _rule(client: Client, group: dict[str, Any], **body: Any) -> Any:
    sent = {"security_group_id": group["id"], "direction": "ingress", **body}
    return client.post(f"{V}/security-group-rules", {"security_group_rule": sent})


@pytest.fixture(scope="module")
def group(alice: Client) -> dict[str, Any]:
    return make(alice, "security-groups", name="web", description="for tests")


def test_every_project_has_a_default_group_from_the_first_look(bob: Client, admin: Client) -> None:
    listed = bob.get(f"{V}/security-groups").json()["security_groups"]
    assert [g["name"] for g in listed] == ["default"]
    rules = listed[0]["security_group_rules"]
    assert sorted((r["direction"], r["ethertype"], r["remote_group_id"] == listed[0]["id"]) for r in rules) == [
        ("egress", "IPv4", False), ("egress", "IPv6", False), ("ingress", "IPv4", True), ("ingress", "IPv6", True),
    ]
    again = bob.post(f"{V}/security-groups", {"security_group": {"name": "default"}})
    assert (again.status_code, error_type(again)) == (409, "SecurityGroupDefaultAlreadyExists")
    path = f"{V}/security-groups/{listed[0]['id']}"
    assert bob.delete(path).status_code == 409
    assert bob.put(path, {"security_group": {"name": "other"}}).status_code == 409
    assert admin.delete(path).status_code == 204


def test_a_group_starts_with_two_rules_and_is_changed(alice: Client, bob: Client, group: dict[str, Any]) -> None:
    assert [r["direction"] for r in group["security_group_rules"]] == ["egress", "egress"]
    assert group["stateful"] is True
    path = f"{V}/security-groups/{group['id']}"
    changed = alice.put(path, {"security_group": {"name": "www", "description": "x"}}).json()["security_group"]
    assert (changed["name"], changed["description"]) == ("www", "x")
    assert bob.get(path).status_code == 404
    assert bob.delete(path).status_code == 404
    assert _rule(bob, group, protocol="tcp").status_code == 404


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp", "ipv6-icmp", "17", 132])
def test_a_rule_is_shown_as_made(alice: Client, group: dict[str, Any], protocol: str | int) -> None:
    six = {"ethertype": "IPv6"} if protocol == "ipv6-icmp" else {}
    made = _rule(alice, group, protocol=protocol, remote_ip_prefix="fd00::/8" if six else "10.0.0.0/8", **six)
    assert made.status_code == 201, made.text
    rule = made.json()["security_group_rule"]
    assert rule["protocol"] == str(protocol)
    assert rule["ethertype"] == ("IPv6" if six else "IPv4")
    assert alice.get(f"{V}/security-group-rules/{rule['id']}").json()["security_group_rule"] == rule
    assert alice.delete(f"{V}/security-group-rules/{rule['id']}").status_code == 204
    assert alice.get(f"{V}/security-group-rules/{rule['id']}").status_code == 404


@pytest.mark.parametrize(
    ("protocol", "low", "high", "text"),
    [
        ("tcp", -16, 80, "Invalid value for port -16"),
        ("tcp", 80, 79, "port_range_min must be <= port_range_max"),
        ("tcp", 80, 65536, "Invalid value for port 65536"),
        ("tcp", None, 6, "port_range_min must be <= port_range_max"),
        ("tcp", -16, 65536, "Invalid value for port"),
        ("icmp", 1, 256, "Invalid value for ICMP code"),
        ("icmp", -1, 25, "Invalid value"),
        ("icmp", None, 6, "ICMP type (port-range-min) is missing"),
        ("icmp", 300, 1, "Invalid value for ICMP type"),
        (None, 1, 2, "Must also specify protocol"),
        ("gre", 1, 2, "Invalid protocol"),
        ("no such", None, None, "not supported"),
        (256, None, None, "not supported"),
    ],
)
def test_bad_ports_and_protocols_say_why(
    alice: Client, group: dict[str, Any], protocol: Any, low: Any, high: Any, text: str
) -> None:
    reply = _rule(alice, group, protocol=protocol, port_range_min=low, port_range_max=high)
    assert reply.status_code == 400
    assert text in reply.json()["NeutronError"]["message"]


def test_bad_remotes(alice: Client, group: dict[str, Any]) -> None:
    for prefix in ("192.168.1./24", "192.168.1.1/33", "bad_prefix", "256", "fd00::/8"):
        assert _rule(alice, group, remote_ip_prefix=prefix).status_code == 400, prefix
    assert _rule(alice, group, ethertype="bad").status_code == 400
    assert _rule(alice, group, remote_group_id="bad_group_id").status_code == 404
    both = _rule(alice, group, remote_group_id=group["id"], remote_ip_prefix="10.0.0.0/8")
    assert both.status_code == 400
    assert _rule(alice, {"id": "none"}, protocol="tcp").status_code == 404
    assert _rule(alice, group, protocol="ipv6-icmp").status_code == 400


def test_the_same_rule_twice_is_409(alice: Client, group: dict[str, Any]) -> None:
    body = {"protocol": "tcp", "port_range_min": 22, "port_range_max": "22", "remote_ip_prefix": "10.1.2.3/16"}
    made = _rule(alice, group, **body)
    assert made.status_code == 201
    rule = made.json()["security_group_rule"]
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.1.2.3/16", "10.1.0.0/16")
    again = _rule(alice, group, **{**body, "protocol": 6, "remote_ip_prefix": "10.1.0.0/16"})
    assert (again.status_code, error_type(again)) == (409, "SecurityGroupRuleExists")


def test_icmp_types_and_codes(alice: Client, group: dict[str, Any]) -> None:
    for kind, code in ((3, 2), (3, 0), (8, 0), (0, 0), (11, None)):
        made = _rule(alice, group, protocol="icmp", port_range_min=kind, port_range_max=code)
        assert made.status_code == 201, made.text
        rule = made.json()["security_group_rule"]
        assert (rule["port_range_min"], rule["port_range_max"]) == (kind, code)


def test_many_rules_at_once(alice: Client) -> None:
    group = make(alice, "security-groups", name="bulk")
    rules = [
        {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "port_range_min": p,
         "port_range_max": p}
        for p in (80, 443)
    ]
    assert alice.post(f"{V}/security-group-rules", {"security_group_rules": rules}).status_code == 201
    listed = alice.get(f"{V}/security-group-rules?security_group_id={group['id']}&direction=ingress").json()
    assert sorted(r["port_range_min"] for r in listed["security_group_rules"]) == [80, 443]
    assert alice.delete(f"{V}/security-groups/{group['id']}").status_code == 204
    assert alice.get(f"{V}/security-groups/{group['id']}").status_code == 404
