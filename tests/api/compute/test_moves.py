"""Servers that go to another node while they are off: migrate, and resizes for which their node has no room."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute.reconcile import reconcile
from pileus.compute.tables import migration, node
from pileus.controller import LocalNodes
from pileus.node.contract import GuestGone, TaskResult
from pileus.placement import allocations
from pileus.placement.tables import inventory
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.compute.guests import Servers, eventually, working_nodes
from tests.api.compute.people import join
from tests.api.conftest import Client

V = "/compute/v2.1"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    cloud.settings = msgspec.structs.replace(cloud.settings, fake_nodes=2, node_name="node")
    with working_nodes(cloud, loop) as nodes:
        yield nodes


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


def test_a_server_that_was_off_is_carried_without_being_started(
    guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    told = spy(monkeypatch, nodes, other(host_of(guests, server_id)))
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    guests.act(server_id, "confirmResize")
    guests.settled(server_id, "SHUTOFF")
    assert power(guests, nodes, host_of(guests, server_id), server_id) == "shutdown"
    assert told == ["server.fetch_disks"]
    guests.act(server_id, "os-start")
    guests.settled(server_id, "ACTIVE")
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


def failed(cloud: Cloud, server_id: str) -> bool:
    return bool(move_of(cloud, server_id).status == "error")


def test_a_node_that_cannot_give_out_the_disks_keeps_the_guest(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    for off in (False, True):
        server_id = guests.boot(metadata={"fake:export_disks_error": "no port is free"})
        source, amounts = host_of(guests, server_id), held(cloud, server_id)
        if off:
            guests.act(server_id, "os-stop")
            guests.settled(server_id, "SHUTOFF")
        guests.act(server_id, "migrate")
        eventually(guests.client, functools.partial(failed, cloud, server_id))
        guests.settled(server_id, "SHUTOFF" if off else "ACTIVE")
        assert (host_of(guests, server_id), held(cloud, server_id)) == (source, amounts)
        assert held(cloud, move_of(cloud, server_id).uuid) == {}
        assert power(guests, nodes, source, server_id) == ("shutdown" if off else "running")
        assert power(guests, nodes, other(source), server_id) is None
        remove(guests, server_id)


def test_the_old_node_gives_out_its_disks_no_longer_than_is_needed(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    told = {host: spy(monkeypatch, nodes, host) for host in nodes.agents}
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    eventually(guests.client, lambda: "server.end_export" in told[source])
    assert told[source] == ["server.power_off", "server.export_disks", "server.end_export"]
    assert told[other(source)] == ["server.build"]
    remove(guests, server_id)


def spy(monkeypatch: pytest.MonkeyPatch, nodes: LocalNodes, host: str) -> list[str]:
    """The kinds of the tasks that a node does from now on."""
    agent, told = nodes.agents[host], list[str]()
    perform = agent.perform

    async def note(given: Any) -> Any:
        told.append(given.kind)
        return await perform(given)

    monkeypatch.setattr(agent, "perform", note)
    return told


def mark(guests: Servers, host: str, down: bool) -> None:
    """Force a node down, or let it be up again."""
    body = {"host": host, "binary": "nova-compute", "forced_down": down}
    assert guests.client.put(f"{V}/os-services/force-down", body, version="2.11").status_code == 200


def test_a_migration_is_confirmed_though_the_old_node_is_down(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    mark(guests, source, True)
    try:
        assert guests.act(server_id, "revertResize").status_code == 409
        assert guests.act(server_id, "confirmResize").status_code == 204
        guests.settled(server_id, "ACTIVE")
    finally:
        mark(guests, source, False)
    eventually(guests.client, lambda: power(guests, nodes, source, server_id) is None)
    eventually(guests.client, lambda: held(cloud, move_of(cloud, server_id).uuid) == {})
    assert move_of(cloud, server_id).status == "confirmed"
    remove(guests, server_id)


def test_a_server_that_is_being_deleted_goes_though_its_node_goes_down(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    before = used(cloud)
    server_id = guests.boot(metadata={"fake:destroy_delay": "0.3"})
    host = host_of(guests, server_id)
    guests.client.delete(f"{V}/servers/{server_id}")
    mark(guests, host, True)
    try:
        late = sa.select(task).where(task.c.resource == f"server:{server_id}", task.c.kind == "server.destroy")

        def give_up(tx: Any) -> None:
            row = tx.first(late)
            tasks.finish(tx, cloud, TaskResult(task_id=row.id, node=host, ok=False, error="not done in time"))

        cloud.db.run_sync(give_up)
        assert guests.client.get(f"{V}/servers/{server_id}").status_code == 404
    finally:
        mark(guests, host, False)
    eventually(guests.client, lambda: power(guests, nodes, host, server_id) is None)
    assert used(cloud) == before


def test_a_copy_that_a_node_could_not_remove_is_removed_later(
    cloud: Cloud, guests: Servers, nodes: LocalNodes
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    body = {"host": None, "block_migration": "auto"}
    guests.client.post(f"{V}/servers/{server_id}/metadata", {"metadata": {
        "fake:destroy_error": "busy", "fake:nodes": source,
    }})
    guests.act(server_id, "reboot", {"type": "HARD"})
    guests.settled(server_id, "ACTIVE")
    guests.act(server_id, "os-migrateLive", body, version="2.34")
    guests.settled(server_id, "ACTIVE")
    eventually(guests.client, lambda: move_of(cloud, server_id).status == "completed")
    done = sa.select(task.c.state).where(task.c.resource == f"server:{server_id}", task.c.kind == "server.destroy")
    eventually(guests.client, lambda: cloud.db.run_sync(lambda tx: tx.scalar(done)) == "failed")
    move = move_of(cloud, server_id)
    assert (move.to_clean, list(held(cloud, move.uuid))) == (source, [source])
    guest = nodes.agents[source].hypervisor._journal.guests[server_id]  # type: ignore[attr-defined]
    guest.faults.clear()
    cloud.db.run_sync(lambda tx: tx.execute(migration.update().where(migration.c.id == move.id).values(updated=0.0)))
    cloud.db.run_sync(lambda tx: reconcile(tx, cloud))
    eventually(guests.client, lambda: move_of(cloud, server_id).to_clean is None)
    assert (power(guests, nodes, source, server_id), held(cloud, move.uuid)) == (None, {})
    remove(guests, server_id)


def test_a_server_is_unshelved_to_the_zone_or_host_that_is_named(guests: Servers, cloud: Cloud) -> None:
    server_id = guests.boot()
    first = host_of(guests, server_id)
    for version, body, expected in (
        ("2.91", {"host": other(first)}, other(first)), ("2.77", {"availability_zone": "nova"}, None),
        ("2.91", {"availability_zone": None, "host": first}, first), ("2.76", None, None),
    ):
        guests.act(server_id, "shelve")
        guests.settled(server_id, "SHELVED_OFFLOADED")
        assert (guests.show(server_id)["OS-EXT-SRV-ATTR:host"], held(cloud, server_id)) == (None, {})
        assert guests.act(server_id, "unshelve", {"host": "nowhere"}, version="2.91").status_code == 400
        assert guests.act(server_id, "unshelve", body, version=version).status_code == 202
        guests.settled(server_id, "ACTIVE")
        assert list(held(cloud, server_id)) == [host_of(guests, server_id)]
        if expected is not None:
            assert host_of(guests, server_id) == expected
    remove(guests, server_id)
