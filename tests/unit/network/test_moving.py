"""Where DHCP and routers are, and when they go elsewhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.cluster.tables import node as member
from pileus.db.engine import Tx
from pileus.network import moving, networks, placing, ports, subnets, wiring
from pileus.network.schemas import NetworkNew, SubnetNew
from pileus.network.tables import agent, network, port
from pileus.node.contract import LEASE, NetworkReport, NodeNetwork
from pileus.settings import Settings
from pileus.world import World
from tests.statements import counted

ME = Context(user_id="u", project_id="p", roles=("admin", "member", "reader"))


class Clock(World):
    """A clock that stands still until it is put forward."""

    time = 1e9

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Nodes:
    """A cloud with two nodes that serve, `a` and `b`, and one that does not, `c`."""

    def __init__(self, state: Path) -> None:
        settings = Settings(state_dir=str(state), hypervisor="qemu", admin_password="x", bcrypt_rounds=4)
        self.clock = Clock()
        self.cloud = Cloud(settings, self.clock, rooms=("identity", "network"))
        self.cloud.open()
        self.physical: dict[str, tuple[str, ...] | None] = {}
        for number, name in enumerate("abc", 1):
            roles = ["compute", "network"] if name != "c" else ["compute"]
            values = {"name": name, "roles": roles, "address": f"192.0.2.{number}"}
            self.do(lambda tx, values=values: tx.execute(member.insert().values(
                key_digest="", token_id="", controller="", session="", seen=0.0, joined=0.0, draining=False,
                version="", **values,
            )))
        self.live("a", "b", "c")

    def do(self, work):  # type: ignore[no-untyped-def]
        return self.cloud.db.run_sync(work)

    def state(self, name: str) -> NodeNetwork:
        return self.do(lambda tx: wiring.node_state(tx, self.cloud, name))  # type: ignore[no-any-return]

    def live(self, *names: str) -> None:
        for name in names:
            state = self.state(name)
            said = NetworkReport(
                revision=state.revision, lease=state.lease, physical_networks=self.physical.get(name)
            )
            self.do(lambda tx, name=name, said=said: wiring.report(tx, self.cloud, name, said))

    def pass_time(self, seconds: float, *alive: str) -> None:
        """So long, in steps as the periodic job makes them, with these nodes alive."""
        for _ in range(int(seconds / moving.EVERY)):
            self.clock.time += moving.EVERY
            self.live(*alive)
            self.do(lambda tx: moving.place(tx, self.cloud))

    def network(self, cidr: str = "10.0.0.0/24", **more: object) -> str:
        def make(tx: Tx) -> str:
            identity = networks.insert(tx, self.cloud, "p", NetworkNew(name="net", **more))  # type: ignore[arg-type]
            row = networks.visible_row(tx, ME, identity)
            new = SubnetNew(network_id=identity, ip_version=4)
            subnets.insert(tx, self.cloud, row, "p", new, ipaddress.ip_network(cidr))
            return identity

        return self.do(make)  # type: ignore[no-any-return]

    def places(self) -> list[str]:
        found = sa.select(network.c.node).where(network.c.name == "net").order_by(network.c.node)
        return self.do(lambda tx: tx.scalars(found))  # type: ignore[no-any-return]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.cloud.close()


def test_agents_follow_roles(nodes: Nodes) -> None:
    def kinds(name: str) -> set[str]:
        return set(nodes.do(lambda tx: tx.scalars(sa.select(agent.c.kind).where(agent.c.node == name))))

    assert kinds("a") == {"dhcp", "l3", "bridge"}
    assert kinds("c") == {"bridge"}
    nodes.do(lambda tx: tx.execute(member.update().where(member.c.name == "c").values(roles=["network"])))
    nodes.pass_time(60, "a", "b", "c")
    assert kinds("c") == {"dhcp", "l3", "bridge"}
    nodes.do(lambda tx: tx.execute(member.update().where(member.c.name == "c").values(roles=["compute"])))
    nodes.pass_time(60, "a", "b", "c")
    assert kinds("c") == {"bridge"}


def test_the_node_with_the_least_gets_the_next(nodes: Nodes) -> None:
    for _ in range(4):
        nodes.network()
    assert sorted(nodes.places()) == ["a", "a", "b", "b"]


def test_what_is_on_a_dead_node_moves_and_all_who_carry_it_hear(nodes: Nodes) -> None:
    nodes.network()
    nodes.do(lambda tx: ports.create(
        tx, nodes.cloud, ME, network_id=networks_of(tx)[0], device_id="s", device_owner="compute:nova", host="c"
    ))
    nodes.pass_time(40, "a", "b", "c")
    (old,) = nodes.places()
    new = "b" if old == "a" else "a"
    nodes.pass_time(25, new, "c")
    assert nodes.places() == [old]
    woken = {name: nodes.cloud.bus.subscribe(f"net:{name}") for name in "abc"}
    for place in woken.values():
        place._event.clear()
    nodes.pass_time(10, new, "c")
    assert nodes.places() == [new]
    assert woken[new]._event.is_set()
    assert woken["c"]._event.is_set()
    assert nodes.state(new).networks[0].dhcp_port is not None
    assert nodes.state(old).networks == ()
    assert nodes.state("c").networks[0].vteps == (f"192.0.2.{1 + 'abc'.index(new)}",)


def networks_of(tx: Tx) -> list[str]:
    return tx.scalars(sa.select(network.c.id).where(network.c.name == "net"))


def test_silence_means_nothing_while_nobody_listened(nodes: Nodes) -> None:
    nodes.network()
    nodes.pass_time(40, "a", "b", "c")
    (old,) = nodes.places()
    nodes.clock.time += 3600  # no controller ran, or its database was away
    other = "b" if old == "a" else "a"
    nodes.pass_time(25, other)
    assert nodes.places() == [old]
    nodes.pass_time(15, other)
    assert nodes.places() == [other]


def test_a_node_that_was_never_told_of_a_lease_keeps_what_it_has(nodes: Nodes) -> None:
    nodes.network()
    nodes.pass_time(40, "a", "b", "c")
    (old,) = nodes.places()
    other = "b" if old == "a" else "a"
    nodes.do(lambda tx: tx.execute(agent.update().where(agent.c.node == old).values(lease=0.0)))
    nodes.pass_time(60, other)
    assert nodes.places() == [old]
    nodes.do(lambda tx: wiring.node_left(tx, nodes.cloud, old))
    assert nodes.places() == [other]


def test_the_only_node_that_serves_has_no_lease(nodes: Nodes) -> None:
    assert nodes.state("a").lease == LEASE
    nodes.do(lambda tx: wiring.node_left(tx, nodes.cloud, "b"))
    assert nodes.state("a").lease == 0.0
    assert nodes.state("c").lease == LEASE


def test_a_draining_node_is_emptied_at_once(nodes: Nodes) -> None:
    nodes.network()
    nodes.network()
    assert set(nodes.places()) == {"a", "b"}
    nodes.do(lambda tx: tx.execute(member.update().where(member.c.name == "a").values(draining=True)))
    nodes.do(lambda tx: wiring.node_drained(tx, nodes.cloud))
    assert nodes.places() == ["b", "b"]
    nodes.network()
    assert nodes.places() == ["b", "b", "b"]


def test_provider_networks_go_only_where_they_are(nodes: Nodes) -> None:
    nodes.physical = {"a": (), "b": ("public", "lab"), "c": ()}
    nodes.live("a", "b", "c")
    for _ in range(2):
        identity = nodes.network(network_type="vlan", physical_network="lab", segmentation_id=7 + len(nodes.places()))
    assert nodes.places() == ["b", "b"]
    assert nodes.do(lambda tx: placing.reaching(tx, [identity])) == {"b"}
    nodes.physical = {"a": ("lab",), "b": (), "c": ()}
    nodes.pass_time(5, "a", "b", "c")
    assert nodes.places() == ["a", "a"], "what a node no longer reaches it does not keep"
    plain = nodes.network()
    assert nodes.do(lambda tx: placing.reaching(tx, [plain])) is None


def test_many_heartbeats_take_as_many_statements_as_one(nodes: Nodes) -> None:
    def beats(*names: str) -> int:
        with counted(nodes.cloud.db) as sent:
            nodes.do(lambda tx: wiring.heartbeats(tx, nodes.cloud, names))
        return len(sent)

    assert beats("a") == beats("a", "b", "c") == 2
    nodes.clock.time += 100
    nodes.do(lambda tx: wiring.heartbeats(tx, nodes.cloud, ["a", "c"]))
    rows = nodes.do(lambda tx: tx.all(sa.select(agent.c.node).where(agent.c.heartbeat == nodes.clock.time)))
    assert {row.node for row in rows} == {"a", "c"}


def test_a_moving_guest_is_wired_on_both_sides(nodes: Nodes) -> None:
    identity = nodes.network()
    made = nodes.do(lambda tx: ports.create(
        tx, nodes.cloud, ME, network_id=identity, device_id="s", device_owner="compute:nova", host="c"
    ))

    def vtep(name: str) -> str | None:
        hosts = nodes.state(name).networks[0].hosts
        return next(host.vtep for host in hosts if host.port_id == made.id)

    other = "b" if nodes.places() == ["a"] else "a"
    nodes.do(lambda tx: ports.prepare_move(tx, nodes.cloud, "s", other))
    assert [p.id for p in nodes.state(other).ports] == [p.id for p in nodes.state("c").ports] == [made.id]
    assert vtep(other) == "192.0.2.3"
    assert vtep("c") is None
    nodes.do(lambda tx: ports.mark_up(tx, nodes.cloud, [made.id]))
    nodes.do(lambda tx: ports.move(tx, nodes.cloud, "s", other))
    assert nodes.state("c").ports == ()
    assert vtep(other) is None
    after = nodes.do(lambda tx: ports.get(tx, made.id))
    assert (after.host, after.moving_to, after.status) == (other, "", "ACTIVE")
    nodes.do(lambda tx: ports.move(tx, nodes.cloud, "s", "c"))
    assert nodes.do(lambda tx: ports.get(tx, made.id)).status == "DOWN", "a cold move is not wired beforehand"
    nodes.do(lambda tx: ports.prepare_move(tx, nodes.cloud, "s", other))
    nodes.do(lambda tx: ports.abandon_move(tx, nodes.cloud, "s"))
    assert nodes.state(other).ports == ()


def test_an_address_that_others_may_use_is_asked_for_on_the_wire(nodes: Nodes) -> None:
    identity = nodes.network()
    one, two = (nodes.do(lambda tx, s=s: ports.create(
        tx, nodes.cloud, ME, network_id=identity, device_id=s, device_owner="compute:nova", host="c"
    )) for s in "st")
    pair = [[one.fixed_ips[0][1], two.mac]]
    nodes.do(lambda tx: tx.execute(port.update().where(port.c.id == two.id).values(allowed_pairs=pair)))
    (served,) = nodes.places()
    hosts = {host.port_id: host.vtep for host in nodes.state(served).networks[0].hosts}
    assert hosts[one.id] is None
    assert hosts[two.id] == "192.0.2.3"
