from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pileus.node.contract import HostEntry, NetworkState, SubnetState
from pileus.node.net.dhcp import DhcpFiles, render
from pileus.node.net.dhcp_options import option_number
from pileus.node.net.settings import NetSettings

SETTINGS = NetSettings(state_dir=Path("/run/x"), dns_forwarders=("9.9.9.9",))
SUBNET = SubnetState(id="s4", cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dhcp_ip="10.0.0.2")
HOST = HostEntry(port_id="p1", mac="fa:16:3e:00:00:01", ips=("10.0.0.5",))
SERVER = HostEntry(port_id="d", mac="fa:16:3e:00:00:02", ips=("10.0.0.2",))
replace = msgspec.structs.replace


def files(*hosts: HostEntry, subnets: tuple[SubnetState, ...] = (SUBNET,), **more: object) -> DhcpFiles:
    network = NetworkState(id="n", kind="vxlan", subnets=subnets, hosts=hosts, dhcp_port=SERVER, **more)  # type: ignore[arg-type]
    return render(network, SETTINGS, Path("/run/x/dhcp/n"))


def test_config_is_static_unprivileged_and_bound() -> None:
    lines = files(mtu=1400, dns_domain="example.org.").config.splitlines()
    for line in (
        "interface=switch",
        "user=dnsmasq",
        "dhcp-range=set:subnet-s4,10.0.0.0,static,255.255.255.0,86400s",
        "dhcp-option-force=option:mtu,1400",
        "domain=example.org",
        "server=9.9.9.9",
        "no-resolv",
    ):
        assert line in lines


def test_hosts_by_mac_with_their_name() -> None:
    found = files(HOST, replace(HOST, port_id="p2", hostname="Web"))
    assert found.hosts.splitlines() == [
        "fa:16:3e:00:00:01,10.0.0.5,host-10-0-0-5",
        "fa:16:3e:00:00:01,10.0.0.5,web",
    ]
    assert found.addresses.splitlines()[1] == "10.0.0.5 web"


def test_classless_routes_carry_metadata_and_default() -> None:
    subnet = replace(SUBNET, host_routes=(("10.9.0.0/16", "10.0.0.7"),))
    options = files(HOST, subnets=(subnet,)).options
    assert "tag:subnet-s4,121,10.9.0.0/16,10.0.0.7,169.254.169.254/32,10.0.0.2,0.0.0.0/0,10.0.0.1\n" in options
    assert "tag:subnet-s4,249," in options
    assert "tag:subnet-s4,option:router,10.0.0.1\n" in options
    assert "tag:subnet-s4,option:dns-server,10.0.0.2\n" in options


def test_own_name_servers_and_no_gateway() -> None:
    options = files(subnets=(replace(SUBNET, gateway_ip=None, dns_nameservers=("1.1.1.1", "8.8.8.8")),)).options
    assert "option:dns-server,1.1.1.1,8.8.8.8\n" in options
    assert "tag:subnet-s4,option:router\n" in options
    assert "0.0.0.0/0" not in options


def test_subnets_without_dhcp_are_left_out() -> None:
    slaac = SubnetState(id="s6", cidr="fd00::/64", ip_version=6, ipv6_address_mode="slaac")
    found = files(replace(HOST, ips=("10.0.0.5", "fd00::5")), subnets=(replace(SUBNET, enable_dhcp=False), slaac))
    assert "dhcp-range" not in found.config
    assert found.hosts == ""
    assert "fd00::5" in found.addresses


def test_dhcpv6() -> None:
    six = SubnetState(
        id="s6", cidr="fd00::/64", ip_version=6, ipv6_address_mode="dhcpv6-stateful", dns_nameservers=("fd00::53",)
    )
    found = files(replace(HOST, ips=("fd00::5",)), subnets=(six,))
    assert "dhcp-range=set:subnet-s6,fd00::,static,64,86400s" in found.config
    assert "fa:16:3e:00:00:01,[fd00::5]," in found.hosts
    assert "option6:dns-server,[fd00::53]" in found.options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ntp-server\nport", "1"),
        ("mtu,tag:x", "1"),
        ("no-such-option", "1"),
        ("option:mtu", "1"),
        ("mtu", "1\ndhcp-script=/bin/sh"),
        ("mtu", "1\rx"),
        ("bootfile-name", 'a"b'),
        ("bootfile-name", "a\\nb"),
        ("bootfile-name", "a #b"),
        ("0", "1"),
    ],
)
def test_hostile_options_are_left_out_and_told(name: str, value: str) -> None:
    found = files(replace(HOST, dhcp_options=((name, value, 4),)))
    assert list(found.problems) == ["p1"]
    assert "port-p1" not in found.options


def test_good_options_are_sent_by_number_to_one_port() -> None:
    asked = (("bootfile-name", "pxelinux.0", 4), ("150", "10.0.0.3", 4), ("59", "x", 6))
    found = files(replace(HOST, dhcp_options=asked))
    assert found.problems == {}
    for line in ("tag:port-p1,67,pxelinux.0", "tag:port-p1,150,10.0.0.3", "tag:port-p1,option6:59,x"):
        assert line + "\n" in found.options
    assert "port-p1" not in found.plain_options
    assert found.hosts == "fa:16:3e:00:00:01,set:port-p1,10.0.0.5,host-10-0-0-5\n"


@pytest.mark.parametrize("name", ["a\nb", "a b", "-a", "a,b", "x" * 64])
def test_bad_hostnames_are_replaced(name: str) -> None:
    assert files(replace(HOST, hostname=name)).hosts.endswith(",host-10-0-0-5\n")


def test_addresses_are_parsed_before_they_are_written() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        files(subnets=(replace(SUBNET, dns_nameservers=("1.1.1.1\nserver=2.2.2.2",)),))


def test_option_numbers() -> None:
    assert option_number("mtu", 4) == 26
    assert option_number("dns-server", 6) == 23
    assert option_number("mtu", 6) is None
    assert option_number("254", 4) == 254
    assert option_number("255", 4) is None
