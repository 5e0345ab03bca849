"""Builds with several nodes: where servers come to, and what happens when a node fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.placement import allocations
from tests.api.compute.guests import Servers, working_nodes


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    cloud.settings = msgspec.structs.replace(cloud.settings, fake_nodes=3, node_name="node")
    with working_nodes(cloud, loop) as nodes:
        yield nodes


def _host(guests: Servers, server_id: str) -> str:
    found: str = guests.show(server_id)["OS-EXT-SRV-ATTR:host"]
    return found


def test_a_node_that_fails_is_left_for_another(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot(metadata={"fake:build_error": "no luck", "fake:nodes": "node-1,node-2"})
    assert _host(guests, server_id) == "node-3"
    assert len(cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, server_id))) == 1
    guests.client.delete(f"/compute/v2.1/servers/{server_id}")
    guests.gone(server_id)


def test_after_three_nodes_it_is_an_error(guests: Servers) -> None:
    server_id = guests.ask(metadata={"fake:build_error": "no luck"}).json()["server"]["id"]
    assert guests.settled(server_id, "ERROR")["fault"]["message"] == "no luck"


def test_a_named_host_is_not_left(guests: Servers) -> None:
    reply = guests.ask(
        metadata={"fake:build_error": "no luck", "fake:nodes": "node-2"}, availability_zone="nova:node-2"
    )
    server_id = reply.json()["server"]["id"]
    guests.settled(server_id, "ERROR")
    assert _host(guests, server_id) == "node-2"


def test_hints_and_groups_choose_nodes(guests: Servers) -> None:
    first = guests.boot()
    assert _host(guests, guests.boot(hints={"same_host": first})) == _host(guests, first)
    assert _host(guests, guests.boot(hints={"different_host": [first]})) != _host(guests, first)
    for policy, count in (("anti-affinity", 2), ("affinity", 1)):
        body = {"server_group": {"name": policy, "policy": policy}}
        made = guests.client.post("/compute/v2.1/os-server-groups", body, version="2.64").json()
        group = made["server_group"]["id"]
        hosts = {_host(guests, guests.boot(hints={"group": group})) for _ in range(2)}
        assert len(hosts) == count
