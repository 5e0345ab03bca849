from __future__ import annotations

import msgspec
import pytest

from pileus.node.contract import FloatingState, HostEntry, NetworkState, RouterPort, RouterState, SubnetState
from pileus.node.net import router, router_rules, switch
from pileus.node.net.links import Layer3, checked, forward_commands, layer3_commands
from pileus.node.net.rules import Flow

replace = msgspec.structs.replace
GATEWAY = RouterPort(port_id="gate", network_id="out", mac="fa:16:3e:00:00:01", addresses=("192.0.2.5/24",))
INSIDE = RouterPort(port_id="inner", network_id="net", mac="fa:16:3e:00:00:02", addresses=("10.0.0.1/24",))
FLOATING = FloatingState(id="f", floating_ip="192.0.2.9", fixed_ip="10.0.0.5", port_id="p")
ROUTER = RouterState(
    id="r", gateway=GATEWAY, gateway_nexthops=("192.0.2.1",), interfaces=(INSIDE,), floating_ips=(FLOATING,)
)


def test_commands_lead_from_one_to_the_other() -> None:
    old = Layer3(frozenset({("a", "10.0.0.1/24"), ("a", "10.0.0.2/24")}), frozenset({("0.0.0.0/0", "10.0.0.9", "")}))
    new = Layer3(frozenset({("a", "10.0.0.1/24"), ("a", "fd00::1/64")}), frozenset({("0.0.0.0/0", "10.0.0.9", "")}))
    assert layer3_commands(old, new) == [
        "addr del 10.0.0.2/24 dev a",
        "addr replace fd00::1/64 dev a nodad",
        "route replace 0.0.0.0/0 via 10.0.0.9 proto 112",
    ]
    assert layer3_commands(new, new) == []


def test_direct_routes_come_first() -> None:
    new = Layer3(routes=frozenset({("0.0.0.0/0", "10.0.0.9", ""), ("10.0.0.0/24", "", "a")}))
    assert layer3_commands(Layer3(), new) == [
        "route replace 10.0.0.0/24 dev a proto 112",
        "route replace 0.0.0.0/0 via 10.0.0.9 proto 112",
    ]


def test_forwards() -> None:
    assert list(forward_commands("t", [("m1", "v1")], [("m2", "v1")])) == [
        "fdb replace m2 dev t dst v1 self permanent",
        "fdb del m1 dev t dst v1 self",
    ]


def test_what_is_no_address_never_becomes_a_command() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        checked(Layer3(frozenset({("a", "10.0.0.1/24\nlink del eth0")})))


def test_network_that_is_not_served_here_has_no_addresses() -> None:
    subnet = SubnetState(id="s", cidr="10.0.0.0/24", gateway_ip="10.0.0.1")
    network = NetworkState(id="n", kind="vxlan", subnets=(subnet,))
    assert switch.layer3(network) == Layer3()
    served = replace(network, dhcp_port=HostEntry(port_id="d", mac="fa:16:3e:00:00:03", ips=("10.0.0.2",)))
    found = switch.layer3(served)
    assert ("switch", "10.0.0.2/24") in found.addresses
    assert ("switch", "169.254.169.254/32") in found.addresses
    assert found.routes == {("0.0.0.0/0", "10.0.0.1", "")}


def test_router_addresses_and_routes() -> None:
    found = router.layer3(ROUTER)
    assert ("qg-gate", "192.0.2.9/32") in found.addresses
    assert ("qr-inner", "10.0.0.1/24") in found.addresses
    assert found.routes == {("0.0.0.0/0", "192.0.2.1", "")}
    own = replace(ROUTER, routes=(("0.0.0.0/0", "10.0.0.8"),))
    assert router.layer3(own).routes == {("0.0.0.0/0", "10.0.0.8", "")}


def test_router_translates() -> None:
    nat = router_rules.render(ROUTER)[0]
    assert nat.containers["inward"].elements == {"192.0.2.9 : 10.0.0.5"}
    assert 'oifname "qg-gate" snat to 192.0.2.5' in nat.chains["to_floating"].rules
    plain = router_rules.render(replace(ROUTER, enable_snat=False))[0]
    assert 'oifname "qg-gate" snat to 192.0.2.5' not in plain.chains["to_floating"].rules
    assert router_rules.render(replace(ROUTER, gateway=None))[0].chains["to_floating"].rules == ()


def test_stale_flows_are_those_of_gone_or_moved_floating_ips() -> None:
    outside = "192.0.2.77"
    inward = Flow(6, outside, "192.0.2.9", reply_source="10.0.0.5", reply_destination=outside)
    outward = Flow(6, "10.0.0.5", outside, reply_source=outside, reply_destination="192.0.2.9")
    plain = replace(outward, reply_destination="192.0.2.5")
    flows, now = [inward, outward, plain], {("192.0.2.9", "10.0.0.5")}
    assert router.stale(flows, set(), now) == []
    assert router.stale(flows, {"192.0.2.9"}, set()) == [inward, outward]
    assert router.stale([inward], set(), {("192.0.2.9", "10.0.0.6")}) == [inward]
