"""What a node is told to carry, for real guests."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.network import networks, ports, subnets, wiring
from pileus.network.ports import PortInfo
from pileus.network.schemas import NetworkNew, SubnetNew
from pileus.network.tables import network, security_group_rule
from pileus.node.contract import NetworkReport, NodeNetwork
from pileus.settings import Settings

ME = Context(user_id="u", project_id="p", roles=("member", "reader"))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud of real guests whose only node is `n1`."""
    settings = Settings(state_dir=str(tmp_path), hypervisor="qemu", admin_password="x", bcrypt_rounds=4)
    cloud = Cloud(settings, rooms=("identity", "network"))
    cloud.open()
    cloud.db.run_sync(lambda tx: wiring.heartbeat(tx, cloud, "n1"))
    yield cloud
    cloud.close()


def _network(tx: Tx, cloud: Cloud, *cidrs: str) -> str:
    identity = networks.insert(tx, cloud, "p", NetworkNew(name="net"))
    row = networks.visible_row(tx, ME, identity)
    for cidr in cidrs:
        found = ipaddress.ip_network(cidr)
        subnets.insert(tx, cloud, row, "p", SubnetNew(network_id=identity, ip_version=found.version), found)
    return identity


def _guest(tx: Tx, cloud: Cloud, network_id: str, host: str = "n1", server: str = "s1") -> PortInfo:
    return ports.create(
        tx, cloud, ME, network_id=network_id, device_id=server, device_owner="compute:nova", host=host, hostname="web"
    )


def _state(cloud: Cloud, node: str = "n1") -> NodeNetwork:
    return cloud.db.run_sync(lambda tx: wiring.node_state(tx, cloud, node), write=False)


def test_an_idle_network_is_nobodys(cloud: Cloud) -> None:
    cloud.db.run_sync(lambda tx: _network(tx, cloud, "10.0.0.0/24"))
    assert _state(cloud).networks == ()


def test_dhcp_is_served_once_somebody_has_a_port(cloud: Cloud) -> None:
    place = cloud.bus.subscribe("net:n1")
    identity = cloud.db.run_sync(lambda tx: _network(tx, cloud, "10.0.0.0/24"))
    place._event.clear()
    port = cloud.db.run_sync(lambda tx: _guest(tx, cloud, identity, host="", server=""))
    assert place._event.is_set(), "its node is not told"
    [carried] = _state(cloud).networks
    assert carried.dhcp_port is not None
    assert {host.port_id for host in carried.hosts} == {port.id}
    assert carried.vteps == ()
    server = carried.dhcp_port.port_id
    assert cloud.db.run_sync(lambda tx: ports.get(tx, server)).status == "DOWN"
    done = NetworkReport(revision=_state(cloud).revision)
    cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "n1", done))
    assert cloud.db.run_sync(lambda tx: ports.get(tx, server)).status == "ACTIVE"
    assert cloud.db.run_sync(lambda tx: ports.get(tx, port.id)).status == "DOWN", "nobody is at it"
    cloud.db.run_sync(lambda tx: ports.delete(tx, cloud, port.id))
    assert _state(cloud).networks == ()


def test_a_guests_network_comes_with_all_its_hosts_and_dhcp(cloud: Cloud) -> None:
    def work(tx: Tx) -> tuple[PortInfo, PortInfo]:
        identity = _network(tx, cloud, "10.0.0.0/24", "fd00::/64")
        return _guest(tx, cloud, identity), _guest(tx, cloud, identity, host="n2", server="s2")

    here, there = cloud.db.run_sync(work)
    state = _state(cloud)
    assert [p.id for p in state.ports] == [here.id]
    carried = state.networks[0]
    assert (carried.kind, carried.mtu) == ("vxlan", 1450)
    assert {h.port_id for h in carried.hosts} == {here.id, there.id}
    assert carried.dhcp_port is not None
    assert {s.dhcp_ip for s in carried.subnets} == set(carried.dhcp_port.ips)
    assert carried.hosts[0].hostname == "web"
    group = state.security_groups[0]
    assert set(group.members) == {ip for p in (here, there) for _, ip in p.fixed_ips}
    assert {r.direction for r in group.rules} == {"ingress", "egress"}
    elsewhere = _state(cloud, "n2")
    assert [p.id for p in elsewhere.ports] == [there.id]
    assert elsewhere.networks[0].dhcp_port is None


def test_a_port_is_active_when_its_node_has_wired_it(cloud: Cloud) -> None:
    port = cloud.db.run_sync(lambda tx: _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24")))

    def status() -> str:
        return cloud.db.run_sync(lambda tx: ports.get(tx, port.id)).status

    def report(node: str, **said: object) -> None:
        message = NetworkReport(revision=_state(cloud).revision, **said)  # type: ignore[arg-type]
        cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, node, message))

    assert status() == "DOWN"
    report("n2", ports_up=(port.id,))
    assert status() == "DOWN", "another node's word does not count"
    report("n1", ports_up=(port.id,), errors={port.id: "no tap"})
    assert status() == "DOWN"
    report("n1", ports_up=(port.id,))
    assert status() == "ACTIVE"
    report("n1", errors={port.network_id: "no bridge"})
    assert status() == "DOWN"


def test_ports_of_a_network_that_is_down_carry_nothing(cloud: Cloud) -> None:
    port = cloud.db.run_sync(lambda tx: _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24")))
    assert _state(cloud).ports[0].admin_state_up is True
    down = network.update().where(network.c.id == port.network_id).values(admin_state_up=False)
    cloud.db.run_sync(lambda tx: tx.execute(down))
    assert _state(cloud).ports[0].admin_state_up is False


def test_nodes_are_told_cidrs_without_host_bits(cloud: Cloud) -> None:
    port = cloud.db.run_sync(lambda tx: _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24")))
    group = port.security_group_ids[0]
    rule = security_group_rule.update().where(
        security_group_rule.c.security_group_id == group, security_group_rule.c.direction == "egress",
        security_group_rule.c.ethertype == "IPv4",
    ).values(remote_ip_prefix="10.1.2.3/16")
    cloud.db.run_sync(lambda tx: tx.execute(rule))
    told = _state(cloud).security_groups[0].rules
    assert {r.remote_cidr for r in told} == {None, "10.1.0.0/16"}


def test_nodes_of_a_network_are_woken_by_its_changes(cloud: Cloud) -> None:
    places = {node: cloud.bus.subscribe(f"net:{node}") for node in ("n1", "n2", "n3")}

    def work(tx: Tx) -> str:
        identity = _network(tx, cloud, "10.0.0.0/24")
        _guest(tx, cloud, identity, host="n1")
        return identity

    identity = cloud.db.run_sync(work)
    for place in places.values():
        place._event.clear()
    cloud.db.run_sync(lambda tx: _guest(tx, cloud, identity, host="n2", server="s2"))
    woken = {node for node, place in places.items() if place._event.is_set()}
    assert woken == {"n1", "n2"}


def test_what_was_made_before_any_node_lived_is_placed(tmp_path: Path) -> None:
    settings = Settings(state_dir=str(tmp_path), hypervisor="qemu", admin_password="x", bcrypt_rounds=4)
    cloud = Cloud(settings, rooms=("identity", "network"))
    cloud.open()
    identity = cloud.db.run_sync(lambda tx: _network(tx, cloud, "10.0.0.0/24"))
    cloud.db.run_sync(lambda tx: _guest(tx, cloud, identity))
    assert _state(cloud).networks[0].dhcp_port is None
    cloud.db.run_sync(lambda tx: wiring.heartbeat(tx, cloud, "n1"))
    assert _state(cloud).networks[0].dhcp_port is not None
    cloud.close()
