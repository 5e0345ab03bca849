"""Maintenance: a node that is draining is emptied, a few servers at a time, and what cannot be moved is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.cluster.tables import node as cluster_node
from pileus.compute import drain
from pileus.controller import LocalNodes
from pileus.web.errors import NotFound
from tests.api.compute.guests import Servers, eventually, several_nodes
from tests.api.compute.test_live import log_of, set_facts
from tests.api.compute.test_moves import host_of, move_of, power, remove, used

V = "/compute/v2.1"
NODE, OTHER = "node-1", "node-2"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 2) as nodes:
        rows = [
            {"name": name, "roles": ["compute", "network"], "key_digest": name, "token_id": "t", "address": "",
             "controller": "", "session": "", "seen": 0.0, "joined": 0.0, "draining": False, "version": ""}
            for name in (NODE, OTHER)
        ]
        cloud.db.run_sync(lambda tx: tx.execute(cluster_node.insert(), rows))
        yield nodes


@pytest.fixture
def draining(cloud: Cloud) -> Iterator[None]:
    """`NODE` is draining until the end."""
    cloud.db.run_sync(lambda tx: drain.begin(tx, cloud, NODE))
    yield
    cloud.db.run_sync(lambda tx: drain.end(tx, cloud, NODE))


def on(guests: Servers, host: str, **more: Any) -> str:
    return guests.boot(availability_zone=f"nova:{host}", **more)


def work(cloud: Cloud) -> int:
    return cloud.db.run_sync(lambda tx: drain.work(tx, cloud))


def status(cloud: Cloud) -> drain.Status:
    return cloud.db.run_sync(lambda tx: drain.status(tx, cloud, NODE), write=False)


def service(guests: Servers) -> tuple[str, str | None]:
    found = guests.client.get(f"{V}/os-services?host={NODE}", version="2.53").json()["services"][0]
    return found["status"], found["disabled_reason"]


def test_a_node_is_emptied(cloud: Cloud, guests: Servers, nodes: LocalNodes, request: pytest.FixtureRequest) -> None:
    before = used(cloud)
    running, paused, off = (on(guests, NODE) for _ in range(3))
    guests.act(paused, "pause")
    guests.settled(paused, "PAUSED")
    guests.act(off, "os-stop")
    guests.settled(off, "SHUTOFF")
    assert work(cloud) == 0, "it is not draining"
    request.getfixturevalue("draining")
    assert service(guests) == ("disabled", "draining")
    assert {left.id for left in status(cloud).left} == {running, paused, off}

    def emptied() -> bool:
        work(cloud)
        return status(cloud).done

    eventually(guests.client, emptied)
    eventually(guests.client, lambda: (work(cloud), move_of(cloud, off).status == "confirmed")[1])
    for server_id, state in ((running, "ACTIVE"), (paused, "PAUSED"), (off, "SHUTOFF")):
        guests.settled(server_id, state)
        assert host_of(guests, server_id) == OTHER
        assert power(guests, nodes, NODE, server_id) is None
    assert log_of(guests, running)[0] == ("live-migration", None)
    for server_id in (running, paused, off):
        remove(guests, server_id)
    assert used(cloud) == before


def test_only_a_few_go_at_once(cloud: Cloud, guests: Servers, request: pytest.FixtureRequest) -> None:
    ids = [on(guests, NODE, metadata={"fake:send_delay": "0.2"}) for _ in range(4)]
    request.getfixturevalue("draining")
    assert (work(cloud), work(cloud)) == (2, 0)
    moving = [left for left in status(cloud).left if left.task_state == "migrating"]
    assert len(moving) == 2
    eventually(guests.client, lambda: (work(cloud), status(cloud).done)[1])
    for server_id in ids:
        guests.settled(server_id, "ACTIVE")
        remove(guests, server_id)


def test_what_cannot_be_moved_is_named_with_the_reason(
    cloud: Cloud, guests: Servers, request: pytest.FixtureRequest
) -> None:
    suspended, failing = on(guests, NODE), on(guests, NODE, metadata={"fake:send_error": "it will not go"})
    guests.act(suspended, "suspend")
    guests.settled(suspended, "SUSPENDED")
    request.getfixturevalue("draining")
    assert work(cloud) == 1
    guests.settled(failing, "ACTIVE")
    whys = {left.id: left.why for left in status(cloud).left}
    assert "suspended" in whys[suspended]
    assert "it will not go" in whys[failing]
    assert work(cloud) == 0, "it is not tried again at once"
    for server_id in (suspended, failing):
        remove(guests, server_id)


def test_where_no_node_has_room_the_reason_is_told_once(
    cloud: Cloud, guests: Servers, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_RETRY", -1.0)
    server_id = on(guests, NODE)
    request.getfixturevalue("draining")
    set_facts(cloud, OTHER, moves=False)
    try:
        assert (work(cloud), work(cloud)) == (0, 0)
        assert "No valid host" in status(cloud).left[0].why
        assert [entry[0] for entry in log_of(guests, server_id)].count("live-migration") == 1
    finally:
        set_facts(cloud, OTHER, moves=True)
    assert work(cloud) == 1
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == OTHER
    remove(guests, server_id)


def test_the_end_enables_what_the_beginning_disabled_and_nothing_else(cloud: Cloud, guests: Servers) -> None:
    cloud.db.run_sync(lambda tx: drain.begin(tx, cloud, NODE))
    assert guests.ask(availability_zone=f"nova:{NODE}").status_code == 202
    cloud.db.run_sync(lambda tx: drain.end(tx, cloud, NODE))
    assert service(guests) == ("enabled", None)
    body = {"host": NODE, "binary": "nova-compute", "disabled_reason": "a fan is loud"}
    guests.client.put(f"{V}/os-services/disable-log-reason", body, version="2.1")
    for step in (drain.begin, drain.end):
        cloud.db.run_sync(lambda tx, step=step: step(tx, cloud, NODE))  # type: ignore[misc]
        assert service(guests) == ("disabled", "a fan is loud")
    guests.client.put(f"{V}/os-services/enable", {"host": NODE, "binary": "nova-compute"}, version="2.1")
    with pytest.raises(NotFound):
        cloud.db.run_sync(lambda tx: drain.begin(tx, cloud, "nowhere"))
