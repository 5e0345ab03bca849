"""What a node is told to carry, for real guests."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.network import networks, ports, subnets, subports, wiring
from pileus.network.ports import PortInfo
from pileus.network.schemas import NetworkNew, SubnetNew
from pileus.network.tables import network, port, security_group_rule, subport, trunk
from pileus.node.contract import Branch, NetworkReport, NodeNetwork
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


def test_a_report_is_wanted_while_something_waits_for_it(cloud: Cloud) -> None:
    def told(**errors: str) -> None:
        done = NetworkReport(revision=_state(cloud).revision, ports_up=(port.id,), errors=errors)
        cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "n1", done))

    assert not _state(cloud).report_wanted, "nothing is here"
    identity = cloud.db.run_sync(lambda tx: _network(tx, cloud, "10.0.0.0/24"))
    port = cloud.db.run_sync(lambda tx: _guest(tx, cloud, identity))
    assert _state(cloud).report_wanted, "the port and its DHCP are not ACTIVE yet"
    told()
    assert not _state(cloud).report_wanted
    told(**{port.id: "no such bridge"})
    assert _state(cloud).report_wanted, "that it is well again must be heard"
    told()
    assert not _state(cloud).report_wanted
    below = cloud.db.run_sync(lambda tx: _guest(tx, cloud, identity, host="", server=""))
    cloud.db.run_sync(lambda tx: _trunk(tx, cloud, port, below))
    assert _state(cloud).report_wanted, "the status of a trunk follows from what its node says"


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


def _trunk(tx: Tx, cloud: Cloud, parent: PortInfo, below: PortInfo, tag: int = 101) -> str:
    identity = cloud.world.uuid()
    tx.execute(trunk.insert().values(
        id=identity, project_id="p", description="", created=0.0, updated=0.0, revision=0, name="t",
        admin_state_up=True, status="DOWN", port_id=parent.id,
    ))
    tx.execute(subport.insert().values(
        port_id=below.id, trunk_id=identity, segmentation_type="vlan", segmentation_id=tag
    ))
    tx.execute(port.update().where(port.c.id == below.id).values(
        device_id=identity, device_owner=subports.OWNER, host=""
    ))
    subports.follow(tx, cloud, [parent.id])
    return identity


def test_a_subport_comes_to_its_parents_node_with_its_network(cloud: Cloud) -> None:
    def work(tx: Tx) -> tuple[PortInfo, PortInfo]:
        parent = _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24"))
        below = _guest(tx, cloud, _network(tx, cloud, "10.1.0.0/24"), host="", server="")
        _trunk(tx, cloud, parent, below)
        return parent, below

    place = cloud.bus.subscribe("net:n1")
    place._event.clear()
    parent, below = cloud.db.run_sync(work)
    assert place._event.is_set(), "its node is not told"
    found = {found.id: found for found in _state(cloud).ports}
    assert found[parent.id].trunk
    assert found[parent.id].branch is None
    assert found[below.id].branch == Branch(
        parent_id=parent.id, network_id=parent.network_id, mtu=1450, vlan=101
    )
    assert not found[below.id].trunk
    assert found[below.id].security_groups == below.security_group_ids
    assert {n.id for n in _state(cloud).networks} == {parent.network_id, below.network_id}
    cloud.db.run_sync(lambda tx: ports.prepare_move(tx, cloud, "s1", "n2"))
    assert {p.id for p in _state(cloud, "n2").ports} == {parent.id, below.id}, "wired before the guest comes"
    assert {p.id: p.branch for p in _state(cloud, "n2").ports} == {p.id: p.branch for p in _state(cloud).ports}
    cloud.db.run_sync(lambda tx: ports.move(tx, cloud, "s1", "n2"))
    assert _state(cloud).ports == ()
    assert {p.id for p in _state(cloud, "n2").ports} == {parent.id, below.id}


def test_a_trunks_status_is_what_its_node_says(cloud: Cloud) -> None:
    def work(tx: Tx) -> tuple[PortInfo, list[PortInfo], str]:
        parent = _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24"))
        below = [_guest(tx, cloud, _network(tx, cloud, f"10.{n}.0.0/24"), host="", server="") for n in (1, 2)]
        identity = _trunk(tx, cloud, parent, below[0])
        tx.execute(subport.insert().values(
            port_id=below[1].id, trunk_id=identity, segmentation_type="vlan", segmentation_id=102
        ))
        tx.execute(port.update().where(port.c.id == below[1].id).values(
            device_id=identity, device_owner=subports.OWNER
        ))
        subports.follow(tx, cloud, [parent.id])
        return parent, below, identity

    parent, (one, two), identity = cloud.db.run_sync(work)

    def says(*up: PortInfo, node: str = "n1", **errors: str) -> tuple[str, str, str]:
        said = NetworkReport(revision=_state(cloud).revision, ports_up=tuple(p.id for p in up), errors=errors)
        cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, node, said))
        return cloud.db.run_sync(lambda tx: (
            tx.scalar(trunk.select().with_only_columns(trunk.c.status).where(trunk.c.id == identity)),
            ports.get(tx, one.id).status, ports.get(tx, two.id).status,
        ))

    assert says() == ("DOWN", "DOWN", "DOWN")
    assert says(parent) == ("BUILD", "DOWN", "DOWN")
    assert says(parent, one) == ("BUILD", "ACTIVE", "DOWN")
    assert says(parent, one, two) == ("ACTIVE", "ACTIVE", "ACTIVE")
    assert says(parent, one, two, node="n2") == ("ACTIVE", "ACTIVE", "ACTIVE"), "another node"
    assert says(parent, one, **{two.id: "no 802.1Q"}) == ("DEGRADED", "ACTIVE", "DOWN")
    assert says(parent, **{two.id: "no 802.1Q", one.id: "no 802.1Q"}) == ("ERROR", "DOWN", "DOWN")
    assert says(parent, two, **{one.network_id: "broken"}) == ("DEGRADED", "DOWN", "ACTIVE")
    assert says(parent, one, two) == ("ACTIVE", "ACTIVE", "ACTIVE")
    cloud.db.run_sync(lambda tx: ports.mark_down(tx, cloud, [parent.id]))
    assert cloud.db.run_sync(lambda tx: ports.get(tx, one.id)).status == "DOWN"


def test_a_subport_that_was_bound_at_the_same_time_is_put_right(cloud: Cloud) -> None:
    """A transaction that gives the parent to a server may not see a subport that another one adds."""

    def work(tx: Tx) -> tuple[PortInfo, PortInfo]:
        parent = _guest(tx, cloud, _network(tx, cloud, "10.0.0.0/24"))
        below = _guest(tx, cloud, _network(tx, cloud, "10.1.0.0/24"), host="", server="")
        _trunk(tx, cloud, parent, below)
        tx.execute(port.update().where(port.c.id == below.id).values(host=""))
        return parent, below

    _, below = cloud.db.run_sync(work)
    assert below.id not in {p.id for p in _state(cloud).ports}
    said = NetworkReport(revision=_state(cloud).revision)
    cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "n1", said))
    assert below.id in {p.id for p in _state(cloud).ports}
