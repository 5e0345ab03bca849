"""Servers whose port is a trunk's parent: subports go wherever the server goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from tests.api.compute.guests import Servers, eventually, several_nodes
from tests.api.compute.test_moves import host_of, other
from tests.api.conftest import Client

V = "/network/v2.0"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 2) as nodes:
        yield nodes


def make(client: Client, kind: str, **body: Any) -> dict[str, Any]:
    reply = client.post(f"{V}/{kind}s", {kind: body})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()[kind]
    return made


class Trunk:
    """A trunk with one subport, and what is said of them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.parent, self.sub = (self._port(cidr) for cidr in ("10.50.0.0/24", "10.51.0.0/24"))
        subs = [{"port_id": self.sub, "segmentation_type": "vlan", "segmentation_id": 42}]
        self.id: str = make(client, "trunk", port_id=self.parent, sub_ports=subs)["id"]

    def _port(self, cidr: str) -> str:
        network: str = make(self.client, "network")["id"]
        make(self.client, "subnet", network_id=network, cidr=cidr, ip_version=4)
        found: str = make(self.client, "port", network_id=network)["id"]
        return found

    def port(self, identity: str) -> tuple[str, str]:
        """Where a port is bound, and its status."""
        found = self.client.get(f"{V}/ports/{identity}").json()["port"]
        return found["binding:host_id"], found["status"]

    def status(self) -> str:
        return str(self.client.get(f"{V}/trunks/{self.id}").json()["trunk"]["status"])


def test_subports_follow_a_server_through_its_life(guests: Servers, admin: Client) -> None:
    trunk = Trunk(admin)
    server_id = guests.boot(networks=[{"port": trunk.parent}])
    source = host_of(guests, server_id)
    assert (trunk.port(trunk.sub), trunk.status()) == ((source, "ACTIVE"), "ACTIVE")
    shown = guests.client.get(f"/compute/v2.1/servers/{server_id}/os-interface").json()["interfaceAttachments"]
    assert [nic["port_id"] for nic in shown] == [trunk.parent], "a subport is no card of the server"
    dest = other(source)
    moved = guests.act(server_id, "os-migrateLive", {"host": dest, "block_migration": "auto"}, version="2.30")
    assert moved.status_code == 202
    guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == dest
    assert (trunk.port(trunk.sub), trunk.status()) == ((dest, "ACTIVE"), "ACTIVE")
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    assert (trunk.port(trunk.sub), trunk.status()) == ((dest, "DOWN"), "DOWN")
    guests.act(server_id, "os-start")
    guests.settled(server_id, "ACTIVE")
    assert (trunk.port(trunk.sub), trunk.status()) == ((dest, "ACTIVE"), "ACTIVE")
    guests.act(server_id, "migrate")  # cold
    guests.settled(server_id, "VERIFY_RESIZE")
    assert (trunk.port(trunk.sub), trunk.status()) == ((source, "ACTIVE"), "ACTIVE")
    guests.act(server_id, "confirmResize")
    guests.settled(server_id, "ACTIVE")
    guests.client.delete(f"/compute/v2.1/servers/{server_id}")
    eventually(guests.client, lambda: trunk.port(trunk.parent) == ("", "DOWN"))
    assert (trunk.port(trunk.sub), trunk.status()) == (("", "DOWN"), "DOWN")
    assert admin.delete(f"{V}/trunks/{trunk.id}").status_code == 204


def test_a_subport_is_not_given_to_a_server(guests: Servers, admin: Client) -> None:
    trunk = Trunk(admin)
    reply = guests.ask(networks=[{"port": trunk.sub}])
    assert reply.status_code == 409, reply.text


def test_a_server_that_goes_leaves_the_port_that_a_trunk_was_made_of(guests: Servers, admin: Client) -> None:
    network: str = make(admin, "network")["id"]
    make(admin, "subnet", network_id=network, cidr="10.52.0.0/24", ip_version=4)
    server_id = guests.boot(networks=[{"uuid": network}])
    [port] = admin.get(f"{V}/ports?device_id={server_id}").json()["ports"]
    made = make(admin, "trunk", port_id=port["id"])
    assert made["status"] == "ACTIVE"
    guests.client.delete(f"/compute/v2.1/servers/{server_id}")
    eventually(guests.client, lambda: not admin.get(f"{V}/ports/{port['id']}").json()["port"]["device_id"])
    assert admin.get(f"{V}/trunks/{made['id']}").json()["trunk"]["status"] == "DOWN"
