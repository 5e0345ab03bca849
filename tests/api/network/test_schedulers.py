"""Agents that serve networks and have routers: seen, added and removed by operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pileus.cloud import Cloud
from pileus.network import wiring
from pileus.node.contract import NetworkReport, NodeNetwork
from tests.api.conftest import Client
from tests.api.network.conftest import Body, error_type, make, network_with_subnet, public

V = "/network/v2.0"


@pytest.fixture(scope="module", autouse=True)
def two_nodes(cloud: Cloud, node: Callable[[], NodeNetwork]) -> None:
    """`node-1` and `node-2`, which does not reach the physical network of `public`."""
    node()
    report = NetworkReport(revision=0, physical_networks=())
    cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "node-2", report))


def agent_of(admin: Client, host: str, kind: str) -> Body:
    found: Body = admin.get(f"{V}/agents?host={host}&agent_type={kind}").json()["agents"][0]
    return found


def hosts(admin: Client, path: str) -> list[str]:
    reply = admin.get(f"{V}/{path}")
    assert reply.status_code == 200, reply.text
    return [agent["host"] for agent in reply.json()["agents"]]


def test_a_network_is_removed_from_its_agent_and_added_to_another(alice: Client, admin: Client) -> None:
    network, _ = network_with_subnet(alice, "10.60.0.0/24")
    path = f"networks/{network['id']}/dhcp-agents"
    (host,) = hosts(admin, path)
    other = "node-2" if host == "node-1" else "node-1"
    old, new = (agent_of(admin, name, "DHCP agent") for name in (host, other))
    listed = admin.get(f"{V}/agents/{old['id']}/dhcp-networks").json()["networks"]
    assert network["id"] in {n["id"] for n in listed}
    again = admin.post(f"{V}/agents/{old['id']}/dhcp-networks", {"network_id": network["id"]})
    assert (again.status_code, error_type(again)) == (409, "NetworkHostedByDHCPAgent")
    assert admin.delete(f"{V}/agents/{old['id']}/dhcp-networks/{network['id']}").status_code == 204
    assert hosts(admin, path) == []
    gone = admin.delete(f"{V}/agents/{old['id']}/dhcp-networks/{network['id']}")
    assert (gone.status_code, error_type(gone)) == (409, "NetworkNotHostedByDhcpAgent")
    port = admin.get(f"{V}/ports?network_id={network['id']}&device_owner=network:dhcp").json()["ports"][0]
    assert port["binding:host_id"] == ""
    assert admin.post(f"{V}/agents/{new['id']}/dhcp-networks", {"network_id": network["id"]}).status_code == 201
    assert hosts(admin, path) == [other]
    assert admin.post(f"{V}/agents/{old['id']}/dhcp-networks", {"network_id": network["id"]}).status_code == 201
    assert hosts(admin, path) == [host], "there is one DHCP server: to add it elsewhere moves it"


def test_what_was_removed_by_hand_is_not_placed_again(alice: Client, admin: Client, cloud: Cloud) -> None:
    from pileus.network import moving

    network, _ = network_with_subnet(alice, "10.61.0.0/24")
    (host,) = hosts(admin, f"networks/{network['id']}/dhcp-agents")
    agent = agent_of(admin, host, "DHCP agent")
    assert admin.delete(f"{V}/agents/{agent['id']}/dhcp-networks/{network['id']}").status_code == 204
    cloud.db.run_sync(lambda tx: moving.place(tx, cloud))
    assert hosts(admin, f"networks/{network['id']}/dhcp-agents") == []


def test_a_router_is_put_on_an_agent_by_hand(alice: Client, admin: Client) -> None:
    router = make(alice, "routers", name="r")
    path = f"routers/{router['id']}/l3-agents"
    assert hosts(admin, path) == [], "a router without legs is nowhere"
    one, two = (agent_of(admin, name, "L3 agent") for name in ("node-1", "node-2"))
    assert one["configurations"]["agent_mode"] == "legacy"
    body = {"router_id": router["id"]}
    assert admin.post(f"{V}/agents/{two['id']}/l3-routers", body).status_code == 201
    assert admin.post(f"{V}/agents/{two['id']}/l3-routers", body).status_code == 201
    assert hosts(admin, path) == ["node-2"]
    refused = admin.post(f"{V}/agents/{one['id']}/l3-routers", body)
    assert (refused.status_code, error_type(refused)) == (409, "RouterHostedByL3Agent")
    assert router["id"] in {r["id"] for r in admin.get(f"{V}/agents/{two['id']}/l3-routers").json()["routers"]}
    assert admin.delete(f"{V}/agents/{two['id']}/l3-routers/{router['id']}").status_code == 204
    assert hosts(admin, path) == []
    gone = admin.delete(f"{V}/agents/{two['id']}/l3-routers/{router['id']}")
    assert (gone.status_code, error_type(gone)) == (409, "RouterNotHostedByL3Agent")


def test_a_router_with_a_gateway_goes_only_where_the_gateways_network_is(alice: Client, admin: Client) -> None:
    outside = public(alice)
    two = agent_of(admin, "node-2", "L3 agent")
    for number in range(3):
        router = make(alice, "routers", name=f"g{number}", external_gateway_info={"network_id": outside})
        assert hosts(admin, f"routers/{router['id']}/l3-agents") == ["node-1"]
    one = agent_of(admin, "node-1", "L3 agent")
    assert admin.delete(f"{V}/agents/{one['id']}/l3-routers/{router['id']}").status_code == 204
    refused = admin.post(f"{V}/agents/{two['id']}/l3-routers", {"router_id": router["id"]})
    assert (refused.status_code, error_type(refused)) == (409, "PhysicalNetworkNotReached")
    assert "public" in refused.json()["NeutronError"]["message"]
    assert admin.post(f"{V}/agents/{one['id']}/l3-routers", {"router_id": router["id"]}).status_code == 201


def test_a_disabled_agent_loses_what_it_has(alice: Client, admin: Client) -> None:
    network, _ = network_with_subnet(alice, "10.62.0.0/24")
    (host,) = hosts(admin, f"networks/{network['id']}/dhcp-agents")
    agent = agent_of(admin, host, "DHCP agent")
    assert admin.put(f"{V}/agents/{agent['id']}", {"agent": {"admin_state_up": False}}).status_code == 200
    assert host not in hosts(admin, f"networks/{network['id']}/dhcp-agents")
    refused = admin.post(f"{V}/agents/{agent['id']}/dhcp-networks", {"network_id": network["id"]})
    assert (refused.status_code, error_type(refused)) == (409, "InvalidDHCPAgent")
    assert admin.put(f"{V}/agents/{agent['id']}", {"agent": {"admin_state_up": True}}).status_code == 200


def test_agents_are_the_administrators(alice: Client, admin: Client) -> None:
    agent = agent_of(admin, "node-1", "DHCP agent")
    network, _ = network_with_subnet(alice, "10.63.0.0/24")
    path = f"{V}/agents/{agent['id']}/dhcp-networks"
    assert alice.get(path).status_code == 403
    assert alice.post(path, {"network_id": network["id"]}).status_code == 403
    assert alice.delete(f"{path}/{network['id']}").status_code == 403
    assert alice.get(f"{V}/networks/{network['id']}/dhcp-agents").status_code == 403
    assert admin.get(f"{V}/agents/none/dhcp-networks").status_code == 404
    assert admin.post(path, {"network_id": "none"}).status_code == 404
    assert admin.get(f"{V}/agents/{agent['id']}/l3-routers").status_code == 409


def test_a_port_bound_where_its_network_is_not_says_so(alice: Client, admin: Client) -> None:
    outside = public(alice)
    made = make(admin, "ports", network_id=outside, **{"binding:host_id": "node-2"})
    assert made["binding:vif_type"] == "binding_failed"
    assert made["binding:vif_details"] == {}
    assert make(admin, "ports", network_id=outside, **{"binding:host_id": "node-1"})["binding:vif_type"] == "bridge"
