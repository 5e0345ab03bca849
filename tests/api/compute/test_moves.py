"""Servers that go to another node while they are off: migrate, and resizes for which their node has no room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute.tables import migration, node
from pileus.controller import LocalNodes
from pileus.node.contract import GuestGone
from pileus.placement import allocations
from pileus.placement.tables import inventory
from tests.api.compute.guests import Servers, eventually, make_image, working_nodes
from tests.api.compute.people import join
from tests.api.conftest import Client

V = "/compute/v2.1"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    cloud.settings = msgspec.structs.replace(cloud.settings, fake_nodes=2, node_name="node")
    with working_nodes(cloud, loop) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def guests(cloud: Cloud, admin: Client) -> Servers:
    return Servers(admin, make_image(cloud))


def host_of(guests: Servers, server_id: str) -> str:
    found: str = guests.show(server_id)["OS-EXT-SRV-ATTR:host"]
    return found


def other(host: str) -> str:
    return {"node-1": "node-2", "node-2": "node-1"}[host]


def power(guests: Servers, nodes: LocalNodes, host: str, server_id: str) -> str | None:
    """The guest's power on a node; None where the node has none."""
    try:
        asked = nodes.agents[host].hypervisor.guest(server_id)
        return guests.client.loop.run_until_complete(asked).power
    except GuestGone:
        return None


def held(cloud: Cloud, consumer: str) -> dict[str, dict[str, int]]:
    """What a consumer has in placement, by the node's name."""
    def read(tx: Any) -> dict[str, dict[str, int]]:
        names = {row.id: row.name for row in tx.all(sa.select(node))}
        return {names[p]: amounts for p, amounts in allocations.of_consumer(tx, consumer).items()}

    return cloud.db.run_sync(read)


def move_of(cloud: Cloud, server_id: str) -> Any:
    query = sa.select(migration).where(migration.c.server_id == server_id).order_by(migration.c.id.desc())
    return cloud.db.run_sync(lambda tx: tx.first(query))


def used(cloud: Cloud) -> int:
    """All that is used of all nodes."""
    return int(cloud.db.run_sync(lambda tx: tx.scalar(sa.select(sa.func.sum(inventory.c.used)))) or 0)


def remove(guests: Servers, server_id: str) -> None:
    guests.client.delete(f"{V}/servers/{server_id}")
    guests.gone(server_id)


def test_a_migration_that_is_confirmed(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)[source]
    assert guests.act(server_id, "migrate").status_code == 202
    guests.settled(server_id, "VERIFY_RESIZE")
    dest = host_of(guests, server_id)
    assert dest == other(source)
    assert [power(guests, nodes, h, server_id) for h in (source, dest)] == ["shutdown", "running"]
    move = move_of(cloud, server_id)
    assert (move.kind, move.status, move.source, move.dest) == ("migration", "finished", source, dest)
    assert (held(cloud, server_id), held(cloud, move.uuid)) == ({dest: amounts}, {source: amounts})
    assert guests.act(server_id, "confirmResize").status_code == 204
    guests.settled(server_id, "ACTIVE")
    assert [power(guests, nodes, h, server_id) for h in (source, dest)] == [None, "running"]
    assert (held(cloud, server_id), held(cloud, move.uuid)) == ({dest: amounts}, {})
    assert move_of(cloud, server_id).status == "confirmed"
    log = guests.client.get(f"{V}/servers/{server_id}/os-instance-actions").json()["instanceActions"]
    assert [(a["action"], a["message"]) for a in log[:2]] == [("confirmResize", None), ("migrate", None)]
    remove(guests, server_id)


@pytest.mark.parametrize("off", [False, True])
def test_a_migration_that_is_reverted(cloud: Cloud, guests: Servers, nodes: LocalNodes, off: bool) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)[source]
    if off:
        guests.act(server_id, "os-stop")
        guests.settled(server_id, "SHUTOFF")
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    assert power(guests, nodes, other(source), server_id) == ("shutdown" if off else "running")
    assert guests.act(server_id, "revertResize").status_code == 202
    guests.settled(server_id, "SHUTOFF" if off else "ACTIVE")
    assert host_of(guests, server_id) == source
    assert power(guests, nodes, source, server_id) == ("shutdown" if off else "running")
    assert power(guests, nodes, other(source), server_id) is None
    move = move_of(cloud, server_id)
    assert (move.status, held(cloud, server_id), held(cloud, move.uuid)) == ("reverted", {source: amounts}, {})
    remove(guests, server_id)


def test_a_server_that_was_off_is_off_after_its_migration(guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot()
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    guests.act(server_id, "confirmResize")
    guests.settled(server_id, "SHUTOFF")
    assert power(guests, nodes, host_of(guests, server_id), server_id) == "shutdown"
    remove(guests, server_id)


def test_a_node_that_cannot_carry_the_guest_on(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    guests.client.post(f"{V}/servers/{server_id}/metadata", {"metadata": {
        "fake:build_error": "no luck", "fake:nodes": other(source),
    }})
    guests.act(server_id, "migrate")
    eventually(guests.client, lambda: move_of(cloud, server_id).status == "error")
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == source
    assert power(guests, nodes, source, server_id) == "running"
    move = move_of(cloud, server_id)
    assert (list(held(cloud, server_id)), held(cloud, move.uuid)) == ([source], {})
    log = guests.client.get(f"{V}/servers/{server_id}/os-instance-actions").json()["instanceActions"]
    assert (log[0]["action"], log[0]["message"]) == ("migrate", "Error")
    remove(guests, server_id)


def test_a_guest_that_does_not_shut_down_stays(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot(metadata={"fake:power_off_error": "it will not"})
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)
    guests.act(server_id, "migrate")
    eventually(guests.client, lambda: move_of(cloud, server_id).status == "error")
    guests.settled(server_id, "ACTIVE")
    assert (host_of(guests, server_id), held(cloud, server_id)) == (source, amounts)
    assert held(cloud, move_of(cloud, server_id).uuid) == {}
    assert power(guests, nodes, other(source), server_id) is None
    remove(guests, server_id)


def test_a_server_deleted_before_it_is_confirmed_leaves_nothing(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    before = used(cloud)
    server_id = guests.boot()
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    remove(guests, server_id)
    for host in nodes.agents:
        eventually(guests.client, lambda host=host: power(guests, nodes, host, server_id) is None)  # type: ignore[misc]
    assert used(cloud) == before


def test_a_resize_goes_to_another_node_where_its_own_has_no_room(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    service = guests.client.get(f"{V}/os-services?host={source}", version="2.53").json()["services"][0]["id"]
    guests.client.put(f"{V}/os-services/{service}", {"status": "disabled"}, version="2.53")
    try:
        assert guests.act(server_id, "resize", {"flavorRef": "2"}).status_code == 202
        guests.settled(server_id, "VERIFY_RESIZE")
        assert host_of(guests, server_id) == other(source)
        assert guests.show(server_id)["flavor"]["original_name"] == "m1.small"
        guests.act(server_id, "revertResize")
        guests.settled(server_id, "ACTIVE")
        assert host_of(guests, server_id) == source
        assert guests.show(server_id)["flavor"]["original_name"] == "m1.tiny"
        guests.act(server_id, "resize", {"flavorRef": "2"})
        guests.settled(server_id, "VERIFY_RESIZE")
        guests.act(server_id, "confirmResize")
        assert guests.settled(server_id, "ACTIVE")["flavor"]["original_name"] == "m1.small"
        assert held(cloud, server_id)[other(source)]["MEMORY_MB"] == 2048
        assert move_of(cloud, server_id).kind == "resize"
    finally:
        guests.client.put(f"{V}/os-services/{service}", {"status": "enabled"}, version="2.53")
    remove(guests, server_id)


def test_the_host_can_be_named_by_administrators(cloud: Cloud, guests: Servers, anonymous: Client) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    for host in (source, "nowhere"):
        assert guests.act(server_id, "migrate", {"host": host}, version="2.56").status_code == 400
    assert guests.act(server_id, "migrate", {"host": other(source)}, version="2.56").status_code == 202
    guests.settled(server_id, "VERIFY_RESIZE")
    assert host_of(guests, server_id) == other(source)
    assert guests.act(server_id, "migrate").status_code == 409
    remove(guests, server_id)
    own = join(cloud, anonymous)
    mine = Servers(own.client, guests.image_id)
    server_id = mine.boot()
    assert mine.act(server_id, "migrate", version="2.1").status_code == 403
    remove(mine, server_id)


def test_disks_that_cannot_be_handed_on_stay_where_they_are(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)

    def refuse(names: tuple[str, ...], moves: bool) -> None:
        def write(tx: Any) -> None:
            for row in tx.all(sa.select(node).where(node.c.name.in_(names))):
                tx.execute(node.update().where(node.c.id == row.id).values(facts={**row.facts, "moves": moves}))

        cloud.db.run_sync(write)

    for names in ((source,), (other(source),)):
        refuse(names, False)
        refused = guests.act(server_id, "migrate")
        refuse(names, True)
        assert refused.status_code == 400
        assert "No valid host" in refused.text
    assert (guests.show(server_id)["status"], held(cloud, server_id)) == ("ACTIVE", amounts)
    remove(guests, server_id)
