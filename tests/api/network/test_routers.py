"""Routers, their gateways, interfaces and routes, and floating IPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileus.cloud import Cloud
from pileus.node.contract import NodeNetwork
from tests.api.conftest import Client
from tests.api.network.conftest import error_type, make, network_with_subnet, public

V = "/network/v2.0"


def add(client: Client, router: dict[str, Any], **body: str) -> Any:
    return client.put(f"{V}/routers/{router['id']}/add_router_interface", body)


def remove(client: Client, router: dict[str, Any], **body: str) -> Any:
    return client.put(f"{V}/routers/{router['id']}/remove_router_interface", body)


def test_a_router_is_made_changed_and_deleted(alice: Client, bob: Client) -> None:
    made = make(alice, "routers", name="r", external_gateway_info={}, admin_state_up=False)
    assert made["external_gateway_info"] is None
    assert made["routes"] == []
    assert made["status"] == "ACTIVE"
    assert "ha" not in made
    path = f"{V}/routers/{made['id']}"
    assert alice.put(path, {"router": {"name": "new", "admin_state_up": True}}).json()["router"]["name"] == "new"
    for reply in (bob.get(path), bob.put(path, {"router": {}}), bob.delete(path), alice.get(f"{V}/routers/none")):
        assert (reply.status_code, error_type(reply)) == (404, "RouterNotFound")
    assert alice.delete(path).status_code == 204
    assert alice.get(path).status_code == 404


def test_a_gateway_is_set_and_cleared(alice: Client, admin: Client) -> None:
    outside = public(alice)
    made = make(alice, "routers", external_gateway_info={"network_id": outside})
    info = made["external_gateway_info"]
    assert (info["network_id"], info["enable_snat"], len(info["external_fixed_ips"])) == (outside, True, 1)
    gateway = f"{V}/ports?network_id={outside}&device_id={made['id']}"
    assert [p["device_owner"] for p in admin.get(gateway).json()["ports"]] == ["network:router_gateway"]
    assert alice.get(gateway).json()["ports"] == []
    path = f"{V}/routers/{made['id']}"
    snat = {"network_id": outside, "enable_snat": False}
    assert alice.put(path, {"router": {"external_gateway_info": snat}}).status_code == 403
    assert admin.put(path, {"router": {"external_gateway_info": snat}}).status_code == 200
    kept = alice.get(path).json()["router"]["external_gateway_info"]
    assert kept["enable_snat"] is False
    assert kept["external_fixed_ips"] == info["external_fixed_ips"]
    cleared = alice.put(path, {"router": {"external_gateway_info": {}}}).json()["router"]
    assert cleared["external_gateway_info"] is None
    assert admin.get(gateway).json()["ports"] == []
    inside = make(alice, "networks")["id"]
    for wrong, status in (("none", 404), (inside, 400)):
        sent = {"router": {"external_gateway_info": {"network_id": wrong}}}
        assert alice.put(path, sent).status_code == status


def test_interfaces_join_by_subnet_and_by_port(
    alice: Client, bob: Client, node: Callable[[], NodeNetwork]
) -> None:
    node()
    router = make(alice, "routers", admin_state_up=False)
    network, subnet = network_with_subnet(alice, "10.20.0.0/24")
    joined = add(alice, router, subnet_id=subnet["id"])
    assert joined.status_code == 200
    reply = joined.json()
    assert set(reply) == {"id", "project_id", "tenant_id", "port_id", "network_id", "subnet_id", "subnet_ids"}
    assert reply["subnet_ids"] == [subnet["id"]]
    port = alice.get(f"{V}/ports/{reply['port_id']}").json()["port"]
    assert (port["device_id"], port["device_owner"]) == (router["id"], "network:router_interface")
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.20.0.1"}]
    assert port["status"] == "DOWN"
    node()
    assert alice.get(f"{V}/ports/{reply['port_id']}").json()["port"]["status"] == "ACTIVE"
    assert add(alice, router, subnet_id=subnet["id"]).status_code == 400
    _, overlapping = network_with_subnet(alice, "10.20.0.0/25")
    assert add(alice, router, subnet_id=overlapping["id"]).status_code == 400
    other, other_subnet = network_with_subnet(alice, "10.21.0.0/24")
    own = make(alice, "ports", network_id=other["id"])
    assert add(alice, router, port_id=own["id"]).json()["subnet_id"] == other_subnet["id"]
    assert add(alice, router, port_id=own["id"]).status_code == 409
    assert alice.delete(f"{V}/ports/{own['id']}").status_code == 409
    in_use = alice.delete(f"{V}/routers/{router['id']}")
    assert (in_use.status_code, error_type(in_use)) == (409, "RouterInUse")
    assert alice.delete(f"{V}/subnets/{subnet['id']}").status_code == 409
    assert add(bob, router, subnet_id=subnet["id"]).status_code == 404
    assert remove(alice, router, subnet_id=subnet["id"]).json()["port_id"] == reply["port_id"]
    assert remove(alice, router, port_id=own["id"]).status_code == 200
    gone = remove(alice, router, subnet_id=subnet["id"])
    assert (gone.status_code, error_type(gone)) == (404, "RouterInterfaceNotFoundForSubnet")
    assert alice.delete(f"{V}/routers/{router['id']}").status_code == 204
    assert alice.delete(f"{V}/networks/{network['id']}").status_code == 204


def test_routes_go_through_neighbours(alice: Client) -> None:
    router = make(alice, "routers")
    _, subnet = network_with_subnet(alice, "10.22.0.0/24")
    add(alice, router, subnet_id=subnet["id"])
    path = f"{V}/routers/{router['id']}"
    routes = [{"destination": "10.99.0.0/24", "nexthop": "10.22.0.9"}]
    assert alice.put(path, {"router": {"routes": routes}}).json()["router"]["routes"] == routes
    for bad in ("10.98.0.1", "10.22.0.1", "x"):
        wrong = [{"destination": "10.99.0.0/24", "nexthop": bad}]
        assert alice.put(path, {"router": {"routes": wrong}}).status_code == 400
    in_use = remove(alice, router, subnet_id=subnet["id"])
    assert (in_use.status_code, error_type(in_use)) == (409, "RouterInterfaceInUseByRoute")
    more = [{"destination": "10.97.0.0/24", "nexthop": "10.22.0.9"}]
    added = alice.put(f"{path}/add_extraroutes", {"router": {"routes": more}}).json()["router"]["routes"]
    assert added == routes + more
    left = alice.put(f"{path}/remove_extraroutes", {"router": {"routes": routes}}).json()["router"]["routes"]
    assert left == more
    assert alice.put(path, {"router": {"routes": None}}).json()["router"]["routes"] == []


def _reachable(client: Client, cidr: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A router with a gateway, a network behind it, and a port there."""
    router = make(client, "routers", external_gateway_info={"network_id": public(client)})
    network, subnet = network_with_subnet(client, cidr)
    assert add(client, router, subnet_id=subnet["id"]).status_code == 200
    return router, subnet, make(client, "ports", network_id=network["id"])


def test_a_floating_ip_follows_its_port(alice: Client, bob: Client, node: Callable[[], NodeNetwork]) -> None:
    node()
    router, subnet, port = _reachable(alice, "10.30.0.0/24")
    made = make(alice, "floatingips", floating_network_id=public(alice), port_id=port["id"])
    assert made["floating_ip_address"].startswith("172.24.4.")
    assert made["router_id"] == router["id"]
    assert made["fixed_ip_address"] == port["fixed_ips"][0]["ip_address"]
    assert made["status"] == "DOWN"
    assert made["port_details"]["mac_address"] == port["mac_address"]
    state = node()
    mine = next(r for r in state.routers if r.id == router["id"])
    assert [f.floating_ip for f in mine.floating_ips] == [made["floating_ip_address"]]
    assert mine.gateway_nexthops == ("172.24.4.1",)
    assert mine.interfaces[0].addresses == ("10.30.0.1/24",)
    path = f"{V}/floatingips/{made['id']}"
    assert alice.get(path).json()["floatingip"]["status"] == "ACTIVE"
    assert bob.get(path).status_code == 404
    assert bob.delete(path).status_code == 404
    other = make(alice, "floatingips", floating_network_id=public(alice))
    taken = alice.put(f"{V}/floatingips/{other['id']}", {"floatingip": {"port_id": port["id"]}})
    assert (taken.status_code, error_type(taken)) == (409, "FloatingIPPortAlreadyAssociated")
    in_use = remove(alice, router, subnet_id=subnet["id"])
    assert (in_use.status_code, error_type(in_use)) == (409, "RouterInterfaceInUseByFloatingIP")
    clear = {"router": {"external_gateway_info": None}}
    assert alice.put(f"{V}/routers/{router['id']}", clear).status_code == 409
    free = alice.put(path, {"floatingip": {"port_id": None}}).json()["floatingip"]
    assert (free["port_id"], free["fixed_ip_address"], free["router_id"], free["status"]) == (None, None, None, "DOWN")
    assert alice.put(path, {"floatingip": {"port_id": port["id"]}}).json()["floatingip"]["port_id"] == port["id"]
    assert alice.delete(f"{V}/ports/{port['id']}").status_code == 204
    assert alice.get(path).json()["floatingip"]["port_id"] is None
    assert alice.delete(path).status_code == 204


def test_floating_ips_that_cannot_be(alice: Client, bob: Client, admin: Client) -> None:
    outside = public(alice)
    network, _ = network_with_subnet(alice, "10.31.0.0/24")
    port = make(alice, "ports", network_id=network["id"])
    alone = alice.post(f"{V}/floatingips", {"floatingip": {"floating_network_id": outside, "port_id": port["id"]}})
    assert (alone.status_code, error_type(alone)) == (404, "ExternalGatewayForFloatingIPNotFound")
    assert alice.post(f"{V}/floatingips", {"floatingip": {"floating_network_id": network["id"]}}).status_code == 400
    assert alice.post(f"{V}/floatingips", {"floatingip": {"floating_network_id": "none"}}).status_code == 404
    named = {"floating_network_id": outside, "floating_ip_address": "172.24.4.200"}
    assert alice.post(f"{V}/floatingips", {"floatingip": named}).status_code == 403
    assert make(admin, "floatingips", **named)["floating_ip_address"] == "172.24.4.200"
    _, _, others = _reachable(bob, "10.32.0.0/24")
    stolen = {"floating_network_id": outside, "port_id": others["id"]}
    assert alice.post(f"{V}/floatingips", {"floatingip": stolen}).status_code == 404


def test_ipv6_subnets_of_one_network_share_a_router_port(alice: Client) -> None:
    router = make(alice, "routers")
    network, first = network_with_subnet(alice, "fd00:a::/64")
    second = make(alice, "subnets", network_id=network["id"], cidr="fd00:b::/64", ip_version=6)
    one = add(alice, router, subnet_id=first["id"]).json()["port_id"]
    assert add(alice, router, subnet_id=second["id"]).json()["port_id"] == one
    assert remove(alice, router, subnet_id=first["id"]).status_code == 200
    left = alice.get(f"{V}/ports/{one}").json()["port"]["fixed_ips"]
    assert [ip["subnet_id"] for ip in left] == [second["id"]]


def test_a_node_hears_of_what_concerns_it(alice: Client, cloud: Cloud, node: Callable[[], NodeNetwork]) -> None:
    node()
    place = cloud.bus.subscribe("net:node-1")
    make(alice, "networks")
    assert not place._event.is_set()
    router = make(alice, "routers")
    assert not place._event.is_set(), "a router without legs is nowhere"
    before = node().revision
    _, subnet = network_with_subnet(alice, "10.40.0.0/24")
    place._event.clear()
    add(alice, router, subnet_id=subnet["id"])
    assert place._event.is_set()
    assert node().revision > before
    place.close()


def test_an_external_network_takes_idle_floating_ips_along(admin: Client) -> None:
    outside = make(admin, "networks", **{"router:external": True})
    make(admin, "subnets", network_id=outside["id"], cidr="10.50.0.0/24", ip_version=4, enable_dhcp=False)
    made = make(admin, "floatingips", floating_network_id=outside["id"])
    assert admin.delete(f"{V}/networks/{outside['id']}").status_code == 204
    assert admin.get(f"{V}/floatingips/{made['id']}").status_code == 404


def test_an_interface_changes_its_address_but_not_its_owner(alice: Client) -> None:
    router = make(alice, "routers")
    _, subnet = network_with_subnet(alice, "10.51.0.0/24")
    path = f"{V}/ports/{add(alice, router, subnet_id=subnet['id']).json()['port_id']}"
    moved = [{"subnet_id": subnet["id"], "ip_address": "10.51.0.7"}]
    assert alice.put(path, {"port": {"fixed_ips": moved}}).json()["port"]["fixed_ips"] == moved
    assert alice.put(path, {"port": {"fixed_ips": []}}).status_code == 400
    assert alice.get(path).json()["port"]["fixed_ips"] == moved
    for body in ({"device_id": "x"}, {"device_owner": ""}, {"mac_address": "fa:16:3e:00:00:77"}):
        assert alice.put(path, {"port": body}).status_code in (403, 409), body
