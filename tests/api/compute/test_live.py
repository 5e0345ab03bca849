"""os-migrateLive: a server goes to another node while it runs, and stays where it is when that fails."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import standing
from pileus.compute.reconcile import reconcile
from pileus.compute.tables import migration, node
from pileus.compute.tables import server as server_table
from pileus.controller import LocalNodes
from pileus.node.contract import TaskResult
from pileus.web.errors import Unavailable
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.compute.guests import Servers, eventually, several_nodes
from tests.api.compute.people import join
from tests.api.compute.test_moves import held, host_of, move_of, other, power, remove, used
from tests.api.conftest import Client

V = "/compute/v2.1"
AUTO: dict[str, Any] = {"host": None, "block_migration": "auto"}


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 2) as nodes:
        yield nodes


def log_of(guests: Servers, server_id: str) -> list[tuple[str, str | None]]:
    log = guests.client.get(f"{V}/servers/{server_id}/os-instance-actions").json()["instanceActions"]
    return [(a["action"], a["message"]) for a in log]


def migrating(guests: Servers, server_id: str, cloud: Cloud, status: str = "running") -> Any:
    """The server's newest migration once it has this status."""
    return eventually(guests.client, lambda: (m := move_of(cloud, server_id)) and m.status == status and m)


def gone(guests: Servers, nodes: LocalNodes, host: str, server_id: str) -> bool:
    return power(guests, nodes, host, server_id) is None


def set_facts(cloud: Cloud, name: str, **facts: Any) -> None:
    def write(tx: Any) -> None:
        row = tx.first(sa.select(node).where(node.c.name == name))
        tx.execute(node.update().where(node.c.name == name).values(facts={**row.facts, **facts}))

    cloud.db.run_sync(write)


# -- it goes


@pytest.mark.parametrize("paused", [False, True])
def test_it_goes_and_comes_back(cloud: Cloud, guests: Servers, nodes: LocalNodes, paused: bool) -> None:
    before = used(cloud)
    server_id = guests.boot()
    source, status = host_of(guests, server_id), "PAUSED" if paused else "ACTIVE"
    dest, amounts = other(source), held(cloud, server_id)[source]
    if paused:
        guests.act(server_id, "pause")
        guests.settled(server_id, "PAUSED")
    reply = guests.act(server_id, "os-migrateLive", {**AUTO, "host": dest}, version="2.30")
    assert (reply.status_code, reply.text) == (202, "")
    guests.settled(server_id, status)
    assert host_of(guests, server_id) == dest
    move = migrating(guests, server_id, cloud, "completed")
    assert (move.kind, move.source, move.dest) == ("live-migration", source, dest)
    eventually(guests.client, lambda: held(cloud, move.uuid) == {})
    assert held(cloud, server_id) == {dest: amounts}
    assert power(guests, nodes, dest, server_id) == ("paused" if paused else "running")
    assert power(guests, nodes, source, server_id) is None
    assert log_of(guests, server_id)[0] == ("live-migration", None)
    assert guests.act(server_id, "os-migrateLive", AUTO, version="2.34").status_code == 202
    guests.settled(server_id, status)
    assert host_of(guests, server_id) == source
    remove(guests, server_id)
    assert used(cloud) == before


def test_it_is_seen_while_it_goes_on_and_can_be_hurried(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot(metadata={"fake:hang": "send"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    move = migrating(guests, server_id, cloud)
    assert guests.show(server_id)["status"] == "MIGRATING"
    assert guests.act(server_id, "pause").status_code == 409
    path = f"{V}/servers/{server_id}/migrations"

    def shown() -> Any:
        found = guests.client.get(f"{path}/{move.id}", version="2.80").json()["migration"]
        return found if found["memory_total_bytes"] else None

    found = eventually(guests.client, shown)
    assert guests.client.get(path, version="2.80").json()["migrations"][0]["id"] == move.id
    assert (found["status"], found["source_compute"], found["dest_compute"]) == ("running", source, other(source))
    assert found["memory_total_bytes"] == 512 << 20
    assert found["memory_processed_bytes"] + found["memory_remaining_bytes"] == found["memory_total_bytes"]
    listed = guests.client.get(f"{V}/os-migrations?instance_uuid={server_id}", version="2.23").json()["migrations"]
    assert [("links" in item, item["migration_type"]) for item in listed] == [(True, "live-migration")]
    hurried = guests.client.post(f"{path}/{move.id}/action", {"force_complete": None}, version="2.22")
    assert hurried.status_code == 202
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == other(source)
    assert ("live_migration_force_complete", None) in log_of(guests, server_id)
    assert guests.client.get(f"{path}/{move.id}", version="2.80").status_code == 404
    again = guests.client.post(f"{path}/{move.id}/action", {"force_complete": None}, version="2.22")
    assert again.status_code == 409
    remove(guests, server_id)


# -- it stays


@pytest.mark.parametrize("step", ["running", "preparing"])
def test_it_can_be_aborted(cloud: Cloud, guests: Servers, nodes: LocalNodes, step: str) -> None:
    server_id = guests.boot(metadata={"fake:hang": "send" if step == "running" else "layout"})
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    move = migrating(guests, server_id, cloud, step)
    path = f"{V}/servers/{server_id}/migrations/{move.id}"
    if step == "preparing":
        assert guests.client.delete(path, version="2.64").status_code == 400
    assert guests.client.delete(path, version="2.65").status_code == 202
    guests.settled(server_id, "ACTIVE")
    assert move_of(cloud, server_id).status == "cancelled"
    assert (host_of(guests, server_id), held(cloud, server_id), held(cloud, move.uuid)) == (source, amounts, {})
    eventually(guests.client, lambda: power(guests, nodes, other(source), server_id) is None)
    assert power(guests, nodes, source, server_id) == "running"
    assert ("live_migration_cancel", None) in log_of(guests, server_id)
    assert guests.client.delete(path, version="2.65").status_code == 409
    remove(guests, server_id)


@pytest.mark.parametrize("step", ["layout", "take_in", "send"])
def test_a_step_that_fails_leaves_it_where_it_is(cloud: Cloud, guests: Servers, nodes: LocalNodes, step: str) -> None:
    server_id = guests.boot(metadata={f"fake:{step}_error": "no luck"})
    source, amounts = host_of(guests, server_id), held(cloud, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    guests.settled(server_id, "ACTIVE")
    move = move_of(cloud, server_id)
    assert (move.status, "no luck" in move.reason) == ("error", True)
    assert (host_of(guests, server_id), held(cloud, server_id), held(cloud, move.uuid)) == (source, amounts, {})
    eventually(guests.client, lambda: power(guests, nodes, other(source), server_id) is None)
    assert power(guests, nodes, source, server_id) == "running"
    assert log_of(guests, server_id)[0] == ("live-migration", "Error")
    eventually(guests.client, lambda: move_of(cloud, server_id).to_clean is None)
    assert guests.act(server_id, "os-stop").status_code == 202
    guests.settled(server_id, "SHUTOFF")
    remove(guests, server_id)


def test_a_guest_that_ends_while_it_goes_is_stopped(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot(metadata={"fake:send_delay": "0.4"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    migrating(guests, server_id, cloud)
    guests.client.loop.run_until_complete(nodes.agents[source].hypervisor.power_off(server_id, 0))
    guests.settled(server_id, "SHUTOFF")
    assert (move_of(cloud, server_id).status, host_of(guests, server_id)) == ("error", source)
    remove(guests, server_id)


def test_a_delete_ends_it_and_leaves_nothing(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    before = used(cloud)
    for fault in ("layout", "take_in", "send", "taken"):
        server_id = guests.boot(metadata={"fake:hang": fault})
        guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
        migrating(guests, server_id, cloud, {"send": "running", "taken": "post-migrating"}.get(fault, "preparing"))
        remove(guests, server_id)
        for host in nodes.agents:
            eventually(guests.client, functools.partial(gone, guests, nodes, host, server_id))
    eventually(guests.client, lambda: used(cloud) == before)


# -- it is cut off


def late(cloud: Cloud, server_id: str, kind: str) -> None:
    """The controller gives a task up that its node still works on."""
    def write(tx: Any) -> None:
        row = tx.first(sa.select(task).where(
            task.c.resource == f"server:{server_id}", task.c.kind == kind, task.c.state == "pending"
        ))
        tasks.finish(tx, cloud, TaskResult(task_id=row.id, node=row.node, ok=False, error="not done in time"))

    cloud.db.run_sync(write)


def silence(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, *silent: str) -> None:
    """These nodes answer no questions."""
    ask = cloud.ask

    async def asked(name: str, question: str, arguments: dict[str, Any]) -> Any:
        if name in silent:
            raise Unavailable(f"Node {name} is not connected.")
        return await ask(name, question, arguments)

    monkeypatch.setattr(cloud, "ask", asked)


def test_a_source_that_is_cut_off_before_the_guest_went_keeps_it(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot(metadata={"fake:hang": "send"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    move = migrating(guests, server_id, cloud)
    silence(cloud, monkeypatch, source)
    late(cloud, server_id, "server.send")
    guests.settled(server_id, "ACTIVE")
    assert (host_of(guests, server_id), move_of(cloud, server_id).status) == (source, "error")
    assert (held(cloud, move.uuid), list(held(cloud, server_id))) == ({}, [source])
    eventually(guests.client, lambda: power(guests, nodes, other(source), server_id) is None)
    remove(guests, server_id)


def test_a_guest_that_went_without_a_word_is_found_where_it_runs(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot(metadata={"fake:hang": "send"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    migrating(guests, server_id, cloud)
    spec = guests_spec(cloud, server_id)
    guests.client.loop.run_until_complete(nodes.agents[other(source)].hypervisor.taken(spec))
    silence(cloud, monkeypatch, source)
    late(cloud, server_id, "server.send")
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == other(source)
    monkeypatch.undo()
    eventually(guests.client, lambda: power(guests, nodes, source, server_id) is None)
    assert power(guests, nodes, other(source), server_id) == "running"
    remove(guests, server_id)


def guests_spec(cloud: Cloud, server_id: str) -> Any:
    from pileus.compute import orders, servers

    return cloud.db.run_sync(lambda tx: orders.described(tx, cloud, servers.held(tx, server_id)))


def test_a_source_that_does_not_know_how_it_ended_is_told_again(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    perform, sends = nodes.agents[source].perform, []

    async def broken_off(given: Any) -> Any:
        result = await perform(given)
        if given.kind != "server.send":
            return result
        sends.append(given.id)
        return result if len(sends) > 1 else TaskResult(task_id=given.id, node=source, ok=False, error="broken off")

    monkeypatch.setattr(nodes.agents[source], "perform", broken_off)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    guests.settled(server_id, "ACTIVE")
    assert (host_of(guests, server_id), len(sends)) == (other(source), 2)
    assert power(guests, nodes, other(source), server_id) == "running"
    remove(guests, server_id)


def test_a_guest_that_went_from_a_source_that_fell_silent_is_off_until_it_is_started(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_LOOK", 0.05)
    server_id = guests.boot(metadata={"fake:send_delay": "0.3"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    migrating(guests, server_id, cloud)
    hypervisor: Any = nodes.agents[source].hypervisor
    eventually(guests.client, lambda: server_id in hypervisor._sending)
    silence(cloud, monkeypatch, source)
    late(cloud, server_id, "server.send")  # it goes on there, and what it says at its end is not heard
    guests.settled(server_id, "ACTIVE")
    eventually(guests.client, lambda: power(guests, nodes, other(source), server_id) is None)
    eventually(guests.client, lambda: power(guests, nodes, source, server_id) == "shutdown")
    monkeypatch.undo()
    guests.settled(server_id, "SHUTOFF")
    assert guests.act(server_id, "os-start").status_code == 202
    guests.settled(server_id, "ACTIVE")
    assert [power(guests, nodes, h, server_id) for h in (source, other(source))] == ["running", None]
    remove(guests, server_id)


@pytest.mark.parametrize(("source", "dest", "then"), [
    ("running", "shutdown", "stays"), ("paused", "?", "stays"), ("running", "running", "stays"),
    ("shutdown", "running", "goes"), ("?", "paused", "goes"), ("x", "running", "goes"), ("-", "-", "stays"),
    ("?", "-", "stays"), ("shutdown", "?", "unknown"), ("?", "?", "unknown"), ("x", "?", "unknown"),
    ("?", "x", "stays"), ("x", "shutdown", "stays"),
])
def test_where_a_guest_is_is_what_its_nodes_say(source: str, dest: str, then: str) -> None:
    assert standing.verdict(standing.Answer(source, dest)) == then


def test_nobody_guesses_while_both_are_silent(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_AGAIN", 0.05)
    server_id = guests.boot(metadata={"fake:hang": "send"})
    source = host_of(guests, server_id)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    move = migrating(guests, server_id, cloud)
    silence(cloud, monkeypatch, *nodes.agents)
    late(cloud, server_id, "server.send")
    asked = sa.select(sa.func.count()).where(task.c.resource == f"migration:{move.uuid}", task.c.state == "done")
    eventually(guests.client, lambda: cloud.db.run_sync(lambda tx: tx.scalar(asked)) >= 2)
    assert guests.show(server_id)["status"] == "MIGRATING"
    monkeypatch.undo()
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == source
    remove(guests, server_id)


def test_tasks_that_were_lost_are_made_up_for(cloud: Cloud, guests: Servers, nodes: LocalNodes) -> None:
    server_id = guests.boot(metadata={"fake:hang": "send"})
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    migrating(guests, server_id, cloud)

    def lose(tx: Any) -> None:
        tx.execute(task.delete().where(task.c.resource == f"server:{server_id}"))
        tx.execute(server_table.update().where(server_table.c.id == server_id).values(updated=0.0))

    cloud.db.run_sync(lose)
    assert cloud.db.run_sync(lambda tx: reconcile(tx, cloud)) == 1
    guests.settled(server_id, "ACTIVE")
    assert move_of(cloud, server_id).status == "error"
    remove(guests, server_id)


@pytest.mark.parametrize(("which", "hang"), [
    ("source", "send"), ("dest", "send"), ("dest", "take_in"), ("source", "layout"),
])
def test_a_node_that_goes_down_ends_it_before_its_time(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch, which: str, hang: str
) -> None:
    server_id = guests.boot(metadata={"fake:hang": hang})
    source = host_of(guests, server_id)
    down = source if which == "source" else other(source)
    guests.act(server_id, "os-migrateLive", AUTO, version="2.34")
    move = migrating(guests, server_id, cloud, "running" if hang == "send" else "preparing")
    seen = cloud.db.run_sync(lambda tx: tx.scalar(sa.select(node.c.seen).where(node.c.name == down)))

    def write(tx: Any, seen: float) -> None:
        tx.execute(node.update().where(node.c.name == down).values(seen=seen))
        tx.execute(server_table.update().where(server_table.c.id == server_id).values(updated=0.0))

    cloud.db.run_sync(lambda tx: reconcile(tx, cloud))
    assert guests.show(server_id)["status"] == "MIGRATING"
    silence(cloud, monkeypatch, down)
    cloud.db.run_sync(lambda tx: write(tx, 0.0))
    cloud.db.run_sync(lambda tx: reconcile(tx, cloud))
    guests.settled(server_id, "ACTIVE")
    assert (move_of(cloud, server_id).status, host_of(guests, server_id)) == ("error", source)
    assert held(cloud, move.uuid) == {}
    cloud.db.run_sync(lambda tx: write(tx, seen))
    monkeypatch.undo()
    eventually(guests.client, functools.partial(gone, guests, nodes, other(source), server_id))
    assert power(guests, nodes, source, server_id) == "running"
    remove(guests, server_id)


# -- it is refused


def test_what_each_version_takes(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    old = {"host": None, "block_migration": True, "disk_over_commit": False}
    for body, version in (
        ({}, "2.1"), (None, "2.1"), (AUTO, "2.24"), ({"host": None, "block_migration": True}, "2.1"), (old, "2.25"),
        ({"block_migration": True, "disk_over_commit": False}, "2.1"), ({**old, "block_migration": "maybe"}, "2.1"),
        ({**AUTO, "force": True}, "2.29"), ({**AUTO, "force": True}, "2.30"), ({**AUTO, "force": False}, "2.68"),
        ({**AUTO, "host": "nowhere"}, "2.30"), ({**AUTO, "host": "nowhere"}, "2.80"), ({**AUTO, "host": ""}, "2.30"),
        ({**AUTO, "host": host_of(guests, server_id)}, "2.33"), ({"host": None, "block_migration": False}, "2.33"),
        ({**old, "block_migration": False}, "2.1"),
    ):
        assert guests.act(server_id, "os-migrateLive", body, version=version).status_code == 400, (body, version)
    assert cloud.db.run_sync(lambda tx: tx.scalar(
        sa.select(sa.func.count()).where(migration.c.server_id == server_id)
    )) == 0
    assert guests.act(server_id, "os-migrateLive", old, version="2.1").status_code == 202
    guests.settled(server_id, "ACTIVE")
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    assert guests.act(server_id, "os-migrateLive", AUTO, version="2.80").status_code == 409
    remove(guests, server_id)


def test_from_2_34_on_a_migration_that_finds_no_node_is_an_error(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    source, amounts = host_of(guests, server_id), held(cloud, server_id)
    set_facts(cloud, other(source), moves=False)
    try:
        assert guests.act(server_id, "os-migrateLive", AUTO, version="2.33").status_code == 400
        assert guests.act(server_id, "os-migrateLive", AUTO, version="2.34").status_code == 202
    finally:
        set_facts(cloud, other(source), moves=True)
    assert guests.show(server_id)["status"] == "ACTIVE"
    assert (move_of(cloud, server_id).status, held(cloud, server_id)) == ("error", amounts)
    assert log_of(guests, server_id)[0] == ("live-migration", "Error")
    remove(guests, server_id)


@pytest.mark.parametrize("facts", [{"accelerator": "kvm"}, {"hypervisor_version": 1}, {"architecture": "s390x"}])
def test_a_node_that_is_too_different_takes_no_running_guest(
    cloud: Cloud, guests: Servers, facts: dict[str, Any]
) -> None:
    server_id = guests.boot()
    dest = other(host_of(guests, server_id))
    before = cloud.db.run_sync(lambda tx: tx.scalar(sa.select(node.c.facts).where(node.c.name == dest)))
    set_facts(cloud, dest, **facts)
    try:
        for host in (dest, None):
            refused = guests.act(server_id, "os-migrateLive", {**AUTO, "host": host}, version="2.30")
            assert (refused.status_code, "No valid host" in refused.text or dest in refused.text) == (400, True)
    finally:
        set_facts(cloud, dest, **before)
    remove(guests, server_id)


def test_users_do_not_migrate_and_managers_name_no_host(cloud: Cloud, guests: Servers, anonymous: Client) -> None:
    for role, host, status in (("member", None, 403), ("manager", "node-1", 403), ("manager", None, 202)):
        own = join(cloud, anonymous, role)
        if role == "manager":
            mate = join(cloud, anonymous, "member", own.project_id)
        maker = Servers(own.client if role == "member" else mate.client, guests.image_id)
        server_id = maker.boot()
        asked = {**AUTO, "host": host}
        assert Servers(own.client, "").act(server_id, "os-migrateLive", asked, version="2.34").status_code == status
        maker.settled(server_id, "ACTIVE")
        remove(maker, server_id)
