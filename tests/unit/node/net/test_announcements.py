from __future__ import annotations

from pathlib import Path

import pytest

from pileus.node.contract import NetworkState, RouterPort, RouterState, SubnetState
from pileus.node.net.announcements import announced, render
from pileus.node.net.outside import table
from pileus.node.net.settings import HostBridge, NetSettings

PORT = RouterPort(port_id="inner", network_id="n", mac="fa:16:3e:00:00:02", addresses=("10.0.0.1/24", "fd00::1/64"))
ROUTER = RouterState(id="r", interfaces=(PORT,))


def networks(mode: str | None) -> dict[str, NetworkState]:
    four = SubnetState(id="s4", cidr="10.0.0.0/24")
    six = SubnetState(id="s6", cidr="fd00::/64", ip_version=6, ipv6_ra_mode=mode, dns_nameservers=("fd00::53",))
    return {"n": NetworkState(id="n", kind="vxlan", mtu=1400, subnets=(four, six))}


@pytest.mark.parametrize(
    ("mode", "words"),
    [("slaac", "ra-only,64"), ("dhcpv6-stateless", "ra-stateless,64"), ("dhcpv6-stateful", "static,64")],
)
def test_each_mode_has_its_flags(mode: str, words: str) -> None:
    files = render(ROUTER, networks(mode), NetSettings(state_dir=Path("/x")), Path("/x"))
    lines = files.config.splitlines()
    assert f"dhcp-range=set:subnet-s6,fd00::,{words},86400s" in lines
    assert "ra-param=qr-inner,mtu:1400,high,30,1800" in lines
    assert "interface=qr-inner" in lines
    assert files.options == "tag:subnet-s6,option6:dns-server,[fd00::53]\n"


def test_subnets_that_others_announce_are_left_alone() -> None:
    assert announced(ROUTER, networks(None)) == []
    assert announced(ROUTER, {}) == []
    elsewhere = RouterPort(port_id="p", network_id="n", mac=PORT.mac, addresses=("10.0.0.1/24",))
    assert announced(RouterState(id="r", interfaces=(elsewhere,)), networks("slaac")) == []


def test_host_masquerades_only_what_leaves_its_bridge() -> None:
    bridge = HostBridge(name="pub", addresses=("172.24.4.1/24", "fd00::1/64"), masquerade=True)
    found = table("pil", [bridge])
    assert found.path == "ip pil_host"
    assert found.chains["out"].rules == ('ip saddr 172.24.4.0/24 oifname != "pub" masquerade',)
