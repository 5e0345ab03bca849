"""evacuate: servers of a node that is down are built again elsewhere; the old node cleans up when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pileus.cloud import Cloud
from pileus.compute.tables import node
from pileus.controller import LocalNodes
from pileus.node.contract import GuestGone
from tests.api.compute.guests import Servers, eventually, working_nodes
from tests.api.compute.test_moves import held, host_of, move_of, other, power, remove, used

V = "/compute/v2.1"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    cloud.settings = msgspec.structs.replace(cloud.settings, fake_nodes=2, node_name="node")
    with working_nodes(cloud, loop) as nodes:
        yield nodes


class Outage:
    """A node that is down: it is marked so, and takes no tasks."""

    def __init__(self, guests: Servers, nodes: LocalNodes, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.agent, self.host = guests.client, nodes.agents[host], host
        self.patch = monkeypatch
        self.back = asyncio.Event()
        perform, back = self.agent.perform, self.back

        async def wait(task: Any) -> Any:
            await back.wait()
            return await perform(task)

        monkeypatch.setattr(self.agent, "perform", wait)
        self._mark(True)

    def _mark(self, down: bool) -> None:
        path = f"{V}/os-services?host={self.host}"
        service = self.client.get(path, version="2.53").json()["services"][0]["id"]
        reply = self.client.put(f"{V}/os-services/{service}", {"forced_down": down}, version="2.53")
        assert reply.status_code == 200

    def end(self) -> None:
        self.back.set()
        self.patch.undo()
        self._mark(False)


@pytest.mark.parametrize(("version", "status"), [("2.94", "ACTIVE"), ("2.95", "SHUTOFF")])
def test_a_server_comes_to_another_node_and_the_old_one_forgets_it(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    before = used(cloud)
    server_id = guests.boot()
    source = host_of(guests, server_id)
    amounts = held(cloud, server_id)[source]
    outage = Outage(guests, nodes, source, monkeypatch)
    reply = guests.act(server_id, "evacuate", {}, version=version)
    assert (reply.status_code, reply.text) == (200, "")
    guests.settled(server_id, status)
    assert host_of(guests, server_id) == other(source)
    move = move_of(cloud, server_id)
    assert (move.kind, move.status, move.source, move.dest) == ("evacuation", "done", source, other(source))
    assert (held(cloud, server_id), held(cloud, move.uuid)) == ({other(source): amounts}, {source: amounts})
    assert power(guests, nodes, source, server_id) == "running"
    outage.end()
    eventually(guests.client, lambda: power(guests, nodes, source, server_id) is None)
    eventually(guests.client, lambda: move_of(cloud, server_id).status == "completed")
    assert held(cloud, move.uuid) == {}
    assert guests.show(server_id)["status"] == status
    remove(guests, server_id)
    assert used(cloud) == before


def test_a_server_that_is_back_before_its_old_node_has_cleaned_up_lives_on(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    outage = Outage(guests, nodes, source, monkeypatch)
    guests.act(server_id, "evacuate", {}, version="2.94")
    guests.settled(server_id, "ACTIVE")
    outage._mark(False)  # it is back, and still busy with what it was asked for before
    assert guests.act(server_id, "migrate").status_code == 202
    eventually(guests.client, lambda: host_of(guests, server_id) == source)
    outage.end()
    guests.settled(server_id, "VERIFY_RESIZE")
    assert power(guests, nodes, source, server_id) == "running"
    guests.act(server_id, "confirmResize")
    guests.settled(server_id, "ACTIVE")
    assert [power(guests, nodes, h, server_id) for h in (source, other(source))] == ["running", None]
    remove(guests, server_id)


def test_an_evacuation_that_fails_is_an_error(
    cloud: Cloud, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = used(cloud)
    server_id = guests.boot()
    source = host_of(guests, server_id)
    guests.client.post(f"{V}/servers/{server_id}/metadata", {"metadata": {
        "fake:build_error": "no luck", "fake:nodes": other(source),
    }})
    outage = Outage(guests, nodes, source, monkeypatch)
    guests.act(server_id, "evacuate", {}, version="2.94")
    assert "no luck" in guests.settled(server_id, "ERROR")["fault"]["message"]
    assert move_of(cloud, server_id).status == "error"
    outage.end()
    remove(guests, server_id)
    eventually(guests.client, lambda: used(cloud) == before)
    with pytest.raises(GuestGone):
        guests.client.loop.run_until_complete(nodes.agents[source].hypervisor.guest(server_id))


def test_what_is_refused(
    guests: Servers, nodes: LocalNodes, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = guests.boot()
    source = host_of(guests, server_id)
    up = guests.act(server_id, "evacuate", {}, version="2.94")
    assert (up.status_code, "still in use" in up.text) == (400, True)
    outage = Outage(guests, nodes, source, monkeypatch)
    amounts = held(cloud, server_id)
    for body, version, status in (
        ({"host": source}, "2.94", 400), ({"host": "nowhere"}, "2.94", 404), ({"colour": "red"}, "2.94", 400),
        ({}, "2.13", 400), ({"onSharedStorage": True}, "2.13", 400), ({"onSharedStorage": False}, "2.14", 400),
        ({"force": True}, "2.68", 400), ({"force": True}, "2.28", 400),
    ):
        assert guests.act(server_id, "evacuate", body, version=version).status_code == status, body
    assert (guests.show(server_id)["status"], held(cloud, server_id)) == ("ACTIVE", amounts)
    old = guests.act(server_id, "evacuate", {"onSharedStorage": False, "adminPass": "chosen"}, version="2.13")
    assert (old.status_code, old.json()) == (200, {"adminPass": "chosen"})
    guests.settled(server_id, "ACTIVE")
    outage.end()
    remove(guests, server_id)


def test_a_node_is_not_taken_for_down_after_an_outage_of_the_database(
    guests: Servers, nodes: LocalNodes, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could write that he had heard of it; what is done to a dead node's servers would make second copies."""
    server_id = guests.boot()
    host = host_of(guests, server_id)
    service = f"{V}/os-services?host={host}"

    def silent(seconds: float) -> None:
        old = cloud.world.now() - seconds
        cloud.db.run_sync(lambda tx: tx.execute(node.update().where(node.c.name == host).values(seen=old)))

    with monkeypatch.context() as patch:
        patch.setattr(cloud.db, "missed", lambda within: 60.0)
        silent(80.0)
        assert guests.client.get(service).json()["services"][0]["state"] == "up"
        silent(80.0)
        refused = guests.act(server_id, "evacuate", {}, version="2.94")
        assert (refused.status_code, "still in use" in refused.text) == (400, True)
        silent(95.0)
        assert guests.client.get(service).json()["services"][0]["state"] == "down"
    remove(guests, server_id)
