"""Nodes that go down: fenced first, then their servers come back on others; without a fence nothing moves."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import ha
from pileus.compute.reconcile import reconcile
from pileus.compute.tables import node, outage, server
from pileus.controller import LocalNodes
from tests.api.compute.guests import Servers, eventually, several_nodes
from tests.api.compute.test_live import gone, late, log_of
from tests.api.compute.test_moves import held, host_of, move_of, power, remove, used

V = "/compute/v2.1"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 3) as nodes:
        yield nodes


class Room:
    """A cloud that evacuates, and what its fence was told."""

    def __init__(self, cloud: Cloud, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch, told: Path) -> None:
        self.cloud, self.nodes, self.patch, self.told = cloud, nodes, monkeypatch, told
        self.backs: dict[str, asyncio.Event] = {}
        self.performs: dict[str, Any] = {}

    def fence(self, command: str = 'echo "$PILEUS_NODE $PILEUS_ADDRESS" >> "$0"', **more: Any) -> None:
        """Evacuate with this command, in which $0 is a file."""
        command = command.replace('"$0"', str(self.told))
        self.cloud.settings = msgspec.structs.replace(
            self.cloud.settings, **{"ha_evacuate": True, "fence_command": command, "ha_grace": 0.0, **more}
        )

    def down(self, *hosts: str, seen: float = 0.0) -> None:
        """These nodes take no tasks and send no heartbeats."""
        for host in hosts:
            agent, back = self.nodes.agents[host], asyncio.Event()
            perform = self.performs[host] = agent.perform
            self.backs[host] = back

            async def wait(task: Any, perform: Any = perform, back: asyncio.Event = back) -> Any:
                await back.wait()
                return await perform(task)

            async def unheard(facts: Any = None) -> None:
                return None

            agent.perform = wait  # type: ignore[method-assign]
            agent.link.heartbeat = unheard  # type: ignore[method-assign]
            self._write(host, seen=seen)

    def back(self, host: str) -> None:
        agent: Any = self.nodes.agents[host]
        agent.perform = self.performs[host]
        agent.link.__dict__.pop("heartbeat", None)
        self.backs[host].set()
        self._write(host, seen=self.cloud.world.now(), forced_down=False)

    def _write(self, host: str, **values: Any) -> None:
        self.cloud.db.run_sync(lambda tx: tx.execute(node.update().where(node.c.name == host).values(**values)))

    def watch(self, times: int = 2) -> None:
        for _ in range(times):
            self.cloud.db.run_sync(lambda tx: ha.watch(tx, self.cloud))

    def state(self, host: str) -> str | None:
        found = sa.select(outage.c.state).where(outage.c.node == host)
        state: str | None = self.cloud.db.run_sync(lambda tx: tx.scalar(found))
        return state


@pytest.fixture
def room(
    cloud: Cloud, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Room]:
    before = cloud.settings
    made = Room(cloud, nodes, monkeypatch, tmp_path / "told")
    yield made
    for host in made.backs:
        made.back(host)
    made.watch(1)
    cloud.settings = before


def completed(cloud: Cloud, server_id: str) -> bool:
    return bool(move_of(cloud, server_id).status == "completed")


def test_servers_of_a_fenced_node_come_back_elsewhere(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, room: Room
) -> None:
    before = used(cloud)
    running = guests.boot(name="web", metadata={"colour": "red"})
    host = host_of(guests, running)
    off = guests.boot(availability_zone=f"nova:{host}")
    guests.act(off, "os-stop")
    guests.settled(off, "SHUTOFF")
    room.fence()
    room.down(host)
    room.watch(1)
    assert (room.state(host), room.told.exists()) == ("noticed", False)
    room.watch(1)
    shown = eventually(guests.client, lambda: (s := guests.show(running))["OS-EXT-SRV-ATTR:host"] != host and s)
    assert room.told.read_text() == f"{host} 127.0.0.1\n"
    shown = guests.settled(running, "ACTIVE")
    assert (shown["name"], shown["metadata"]) == ("web", {"colour": "red"})
    eventually(guests.client, lambda: host_of(guests, off) != host)  # SHUTOFF it is before it moves, too
    guests.settled(off, "SHUTOFF")
    assert log_of(guests, running)[0] == ("evacuate", None)
    service = guests.client.get(f"{V}/os-services?host={host}", version="2.53").json()["services"][0]
    assert (service["forced_down"], room.state(host)) == (True, "fenced")
    assert (move_of(cloud, running).status, host_of(guests, off) != host) == ("done", True)
    room.back(host)
    for server_id in (running, off):
        eventually(guests.client, functools.partial(gone, guests, nodes, host, server_id))
        eventually(guests.client, functools.partial(completed, cloud, server_id))
    room.watch(1)
    assert room.state(host) is None
    remove(guests, running)
    remove(guests, off)
    assert used(cloud) == before


@pytest.mark.parametrize("settings", [{"fence_command": ""}, {"ha_evacuate": False}, {"ha_grace": 60.0}])
def test_nothing_moves_before_it_is_sure(guests: Servers, room: Room, settings: dict[str, Any]) -> None:
    server_id = guests.boot()
    host = host_of(guests, server_id)
    room.fence(**settings)
    room.down(host)
    room.watch(4)
    guests.client.loop.run_until_complete(asyncio.sleep(0.1))
    assert (host_of(guests, server_id), room.told.exists()) == (host, False)
    room.back(host)
    remove(guests, server_id)


def test_a_fence_that_fails_moves_nothing_and_is_tried_again(
    cloud: Cloud, guests: Servers, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    host = host_of(guests, server_id)
    room.fence('echo "no power switch answers"; exit 3')
    room.down(host)
    room.watch(2)
    eventually(guests.client, lambda: room.state(host) == "failed")
    error = cloud.db.run_sync(lambda tx: tx.scalar(sa.select(outage.c.error).where(outage.c.node == host)))
    assert "ended with 3" in error
    assert "no power switch answers" in error
    room.watch(2)
    assert (room.state(host), host_of(guests, server_id)) == ("failed", host)
    monkeypatch.setattr(ha, "_RETRY", 0.0)
    room.fence()
    room.watch(1)
    eventually(guests.client, lambda: host_of(guests, server_id) != host)
    guests.settled(server_id, "ACTIVE")
    room.back(host)
    remove(guests, server_id)


def test_a_node_that_is_back_in_time_is_let_be(guests: Servers, room: Room) -> None:
    server_id = guests.boot()
    host = host_of(guests, server_id)
    room.fence(ha_grace=60.0)
    room.down(host)
    room.watch(2)
    room.back(host)
    room.watch(1)
    assert (room.state(host), host_of(guests, server_id), room.told.exists()) == (None, host, False)
    remove(guests, server_id)


def test_a_controller_that_hears_of_most_nodes_no_more_fences_none(guests: Servers, room: Room) -> None:
    room.fence()
    room.down("node-1", "node-2")
    room.watch(4)
    guests.client.loop.run_until_complete(asyncio.sleep(0.1))
    assert (room.state("node-1"), room.told.exists()) == ("noticed", False)


def test_the_time_begins_anew_where_nobody_was_watching(cloud: Cloud, guests: Servers, room: Room) -> None:
    server_id = guests.boot()
    host = host_of(guests, server_id)
    room.fence(ha_grace=30.0)
    room.down(host)
    room.watch(1)
    long_ago = cloud.world.now() - 3600
    cloud.db.run_sync(lambda tx: tx.execute(outage.update().values(noticed=long_ago, checked=long_ago)))
    room.watch(3)
    assert (room.state(host), room.told.exists()) == ("noticed", False)
    room.back(host)
    remove(guests, server_id)


def test_where_there_is_no_room_the_server_waits_and_says_so_once(
    cloud: Cloud, guests: Servers, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    host = host_of(guests, server_id)
    others = [name for name in room.nodes.agents if name != host]

    def disable(disabled: bool) -> None:
        for name in others:
            body = {"host": name, "binary": "nova-compute"}
            path = f"{V}/os-services/{'disable' if disabled else 'enable'}"
            assert guests.client.put(path, body, version="2.1").status_code == 200

    monkeypatch.setattr(ha, "_RETRY", 0.0)
    disable(True)
    room.fence()
    room.down(host)
    room.watch(2)
    eventually(guests.client, lambda: log_of(guests, server_id)[0] == ("evacuate", "Error"))
    count = len(log_of(guests, server_id))
    room.watch(3)
    guests.client.loop.run_until_complete(asyncio.sleep(0.1))
    assert (len(log_of(guests, server_id)), host_of(guests, server_id)) == (count, host)
    disable(False)
    room.watch(1)
    eventually(guests.client, lambda: host_of(guests, server_id) != host)
    guests.settled(server_id, "ACTIVE")
    room.back(host)
    remove(guests, server_id)


def test_a_migration_that_waits_to_be_confirmed_goes_back_to_its_disks(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, room: Room
) -> None:
    before = used(cloud)
    server_id = guests.boot()
    source = host_of(guests, server_id)
    guests.act(server_id, "migrate")
    guests.settled(server_id, "VERIFY_RESIZE")
    dest = host_of(guests, server_id)
    room.fence()
    room.down(dest)
    room.watch(2)
    guests.settled(server_id, "ACTIVE")
    assert (host_of(guests, server_id), power(guests, nodes, source, server_id)) == (source, "running")
    assert move_of(cloud, server_id).status == "reverted"
    room.back(dest)
    eventually(guests.client, lambda: power(guests, nodes, dest, server_id) is None)
    assert list(held(cloud, server_id)) == [source]
    remove(guests, server_id)
    assert used(cloud) == before


def test_a_new_node_that_goes_down_while_it_builds_is_waited_for_until_it_is_forced_down(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, room: Room
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    dest = next(name for name in nodes.agents if name != source)
    guests.act(server_id, "migrate", {"host": dest}, version="2.56")
    room.down(dest)
    eventually(guests.client, lambda: host_of(guests, server_id) == dest)
    late(cloud, server_id, "server.build")
    shown = guests.show(server_id)
    assert shown["OS-EXT-STS:task_state"] == "resize_reverting"
    assert power(guests, nodes, source, server_id) == "shutdown", "it may run at the other node"
    room._write(dest, forced_down=True)
    age = server.update().where(server.c.id == server_id).values(updated=0.0)
    cloud.db.run_sync(lambda tx: tx.execute(age))
    cloud.db.run_sync(lambda tx: reconcile(tx, cloud))
    guests.settled(server_id, "ACTIVE")
    assert (host_of(guests, server_id), power(guests, nodes, source, server_id)) == (source, "running")
    room.back(dest)
    eventually(guests.client, lambda: power(guests, nodes, dest, server_id) is None)
    assert guests.show(server_id)["status"] == "ACTIVE"
    remove(guests, server_id)


def test_a_server_whose_second_node_goes_down_too_comes_to_a_third(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, room: Room
) -> None:
    server_id = guests.boot()
    first = host_of(guests, server_id)
    guests.client.post(f"{V}/servers/{server_id}/metadata", {"metadata": {"fake:build_delay": "0.3"}})
    room.fence()
    room.down(first)
    room.watch(2)
    second = eventually(guests.client, lambda: (h := host_of(guests, server_id)) != first and h)
    room.back(first)
    room.down(second)
    room.watch(2)
    third = eventually(guests.client, lambda: (h := host_of(guests, server_id)) != second and h)
    guests.settled(server_id, "ACTIVE")
    room.back(second)
    for host in set(nodes.agents) - {third}:
        eventually(guests.client, functools.partial(gone, guests, nodes, host, server_id))
    eventually(guests.client, lambda: held(cloud, server_id).keys() == {third})
    remove(guests, server_id)


def test_what_a_fenced_node_was_building_is_built_elsewhere(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, room: Room
) -> None:
    room.fence()
    made = guests.ask(metadata={"fake:build_delay": "3.0"}).json()["server"]["id"]
    first = host_of(guests, made)
    other = guests.boot(availability_zone=f"nova:{first}")
    room.down(first)
    assert guests.show(made)["status"] == "BUILD"
    room.watch(2)
    for server_id in (made, other):
        eventually(guests.client, lambda server_id=server_id: host_of(guests, server_id) != first)
        guests.settled(server_id, "ACTIVE")
        assert host_of(guests, server_id) != first
    room.back(first)
    eventually(guests.client, functools.partial(gone, guests, nodes, first, made))
    for server_id in (made, other):
        remove(guests, server_id)
