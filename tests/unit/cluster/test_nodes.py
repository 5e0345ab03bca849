"""Nodes: who a name belongs to, which connection counts, and who is out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.cluster import controllers, nodes
from pileus.db.locks import read_revision
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound, Problem
from tests.unit.cluster.members import WHERE, Member, make_token, run
from tests.unit.kernel import StillWorld


@pytest.fixture
def node(cloud: Cloud, tmp_path: Path) -> Member:
    """A node that has joined."""
    member = Member(cloud, tmp_path / "n1")
    member.join(make_token(cloud))
    return member


def test_the_same_node_may_join_again_and_nothing_is_made_twice(cloud: Cloud, node: Member) -> None:
    first = (node.folder / "cert.pem").read_text()
    node.join(make_token(cloud), address="192.0.2.8", roles=("network",))
    assert (node.folder / "cert.pem").read_text() != first
    (row,) = run(cloud, nodes.listing)
    assert (row.name, row.address, row.roles, row.key_digest) == ("n1", "192.0.2.8", ["network"], node.digest)


def test_a_name_that_another_key_has_is_not_given_away(cloud: Cloud, node: Member, tmp_path: Path) -> None:
    other = Member(cloud, tmp_path / "other")
    with pytest.raises(Conflict, match="pileus node remove n1"):
        other.join(make_token(cloud))
    run(cloud, lambda tx: nodes.remove(tx, "n1"))
    other.join(make_token(cloud))
    assert other.admit()
    with pytest.raises(Forbidden, match="not part of this cloud"):
        node.admit()


def test_of_two_that_take_a_new_name_at_once_one_gets_it(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud)
    members = [Member(cloud, tmp_path / str(number), "same") for number in range(6)]

    def join(member: Member) -> str:
        try:
            member.join(token)
        except Conflict as refused:
            return str(refused)
        return ""

    with ThreadPoolExecutor(1 if cloud.db.embedded else 6) as pool:
        said = list(pool.map(join, members))
    assert said.count("") == 1
    assert all("with another key" in text for text in said if text)


@pytest.mark.parametrize("name", ["", ".", "..", "-n", "a/b", "a b", "n\u00e9", "n\n", "a" * 65, "\0"])
def test_names_that_could_mean_something_else_are_refused(cloud: Cloud, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot be a node's name"):
        Member(cloud, tmp_path / "x").join(make_token(cloud), name=name)
    assert Member(cloud, tmp_path / "y", "a" * 64).join(make_token(cloud))


@pytest.mark.parametrize("address", ["here", "192.0.2.1; reboot", "1" * 500, "192.0.2.0/24", "fe80::1%"])
def test_what_is_no_address_is_refused(cloud: Cloud, node: Member, tmp_path: Path, address: str) -> None:
    with pytest.raises(BadRequest, match="no IP address"):
        Member(cloud, tmp_path / "x", "n2").join(make_token(cloud), address=address)
    with pytest.raises(BadRequest, match="no IP address"):
        node.admit(address=address)
    assert run(cloud, nodes.addresses) == {"n1": WHERE}


def test_the_last_connection_of_a_process_is_the_one_that_counts(cloud: Cloud, node: Member) -> None:
    _, first = node.admit()
    _, second = node.admit(address="192.0.2.9")
    assert run(cloud, lambda tx: nodes.holds(tx, "n1", second))
    assert not run(cloud, lambda tx: nodes.holds(tx, "n1", first))
    run(cloud, lambda tx: nodes.left(tx, "n1", first))
    assert run(cloud, lambda tx: nodes.controller_of(tx, "n1")) == "c1"
    assert run(cloud, nodes.addresses) == {"n1": "192.0.2.9"}
    run(cloud, lambda tx: nodes.left(tx, "n1", second))
    assert run(cloud, lambda tx: nodes.controller_of(tx, "n1")) == ""
    assert not run(cloud, lambda tx: nodes.holds(tx, "n1", ""))


def test_a_node_moves_to_another_controller_and_the_first_one_learns_of_it(cloud: Cloud, node: Member) -> None:
    _, first = node.admit()
    cloud.controller = "c2"
    before = run(cloud, lambda tx: read_revision(tx, nodes.COUNTER))
    _, second = node.admit()
    assert run(cloud, lambda tx: nodes.controller_of(tx, "n1")) == "c2"
    assert run(cloud, lambda tx: read_revision(tx, nodes.COUNTER)) == before + 1
    assert run(cloud, lambda tx: nodes.sessions(tx, {"n1", "n9"})) == {"n1": (second, node.digest)}
    run(cloud, lambda tx: nodes.left(tx, "n1", first))  # what the first controller says at last
    assert run(cloud, lambda tx: nodes.holds(tx, "n1", second))


def test_a_second_agent_with_the_same_certificate_waits_until_the_first_is_gone(cloud: Cloud, node: Member) -> None:
    assert isinstance(cloud.world, StillWorld)
    run(cloud, lambda tx: controllers.beat(tx, cloud, "192.0.2.1:8443", [], "1", 0.0))
    _, first = node.admit("aa")
    cloud.controller = "c2"
    with pytest.raises(Conflict, match="by another agent"):
        node.admit("bb")
    assert run(cloud, lambda tx: nodes.holds(tx, "n1", first))
    run(cloud, lambda tx: nodes.left(tx, "n1", first))
    _, second = node.admit("bb")
    assert run(cloud, lambda tx: nodes.holds(tx, "n1", second))


def test_a_connection_to_a_dead_controller_keeps_nobody_out(cloud: Cloud, node: Member) -> None:
    assert isinstance(cloud.world, StillWorld)
    run(cloud, lambda tx: controllers.beat(tx, cloud, "192.0.2.1:8443", [], "1", 0.0))
    node.admit("aa")
    cloud.controller = "c2"
    cloud.world.time += controllers.DEAD_AFTER + 1
    assert node.admit("bb")


def test_a_controller_that_starts_or_stops_has_no_connections(cloud: Cloud, node: Member, tmp_path: Path) -> None:
    node.admit()
    other = Member(cloud, tmp_path / "n2", "n2")
    other.join(make_token(cloud))
    cloud.controller = "c2"
    _, session = other.admit()
    run(cloud, lambda tx: nodes.all_left(tx, "c1"))
    assert run(cloud, lambda tx: nodes.controller_of(tx, "n1")) == ""
    assert run(cloud, lambda tx: nodes.holds(tx, "n2", session))


@pytest.mark.parametrize("instance", ["", "a" * 32, "x", "aa.bb", "AA", "aa\n"])
def test_an_agent_names_its_process_plainly(node: Member, instance: str) -> None:
    with pytest.raises(BadRequest):
        node.admit(instance)


def test_a_key_that_did_not_join_is_not_let_in(node: Member) -> None:
    for digest in ("0" * 64, "x"):
        with pytest.raises(Forbidden, match="not part of this cloud"):
            node.admit(digest=digest)


def test_a_node_of_a_controllers_own_process_cannot_be_joined_or_entered(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud)
    run(cloud, lambda tx: nodes.own(tx, cloud, "c1", "192.0.2.1"))
    run(cloud, lambda tx: nodes.own(tx, cloud, "c1", "192.0.2.2"))
    thief = Member(cloud, tmp_path / "x", "c1")
    with pytest.raises(Conflict):
        thief.join(token)
    with pytest.raises(Forbidden):
        thief.admit()
    assert run(cloud, lambda tx: nodes.has_role(tx, "c1", "storage"))
    assert run(cloud, nodes.addresses) == {"c1": "192.0.2.2"}


def test_who_is_removed_is_unknown(cloud: Cloud, node: Member) -> None:
    _, session = node.admit()
    before = run(cloud, lambda tx: read_revision(tx, nodes.COUNTER))
    run(cloud, lambda tx: nodes.remove(tx, "n1"))
    assert run(cloud, lambda tx: read_revision(tx, nodes.COUNTER)) == before + 1
    assert not run(cloud, lambda tx: nodes.holds(tx, "n1", session))
    assert run(cloud, lambda tx: nodes.sessions(tx, {"n1"})) == {}
    assert run(cloud, lambda tx: nodes.seen(tx, ["n1"], 5.0)) == []
    for gone in (lambda tx: nodes.remove(tx, "n1"), lambda tx: nodes.set_draining(tx, "n1", True)):
        with pytest.raises(NotFound, match="pileus node list"):
            run(cloud, gone)
    with pytest.raises(Problem):
        node.admit()


def test_nodes_are_drained_and_enabled(cloud: Cloud, node: Member) -> None:
    run(cloud, lambda tx: nodes.set_draining(tx, "n1", True))
    assert run(cloud, nodes.draining) == {"n1"}
    node.admit()
    node.join(make_token(cloud))
    assert run(cloud, nodes.draining) == {"n1"}
    run(cloud, lambda tx: nodes.set_draining(tx, "n1", False))
    assert run(cloud, nodes.draining) == set()


def test_a_cloud_into_which_nobody_has_joined_asks_no_roles(cloud: Cloud) -> None:
    assert run(cloud, lambda tx: nodes.with_role(tx, "compute")) is None
    assert run(cloud, lambda tx: nodes.has_role(tx, "any", "network"))
