"""Ports: addresses, bindings, filters, options."""

from __future__ import annotations

from collections.abc import Callable

from pileus.cloud import Cloud
from pileus.network import ports, wiring
from pileus.node.contract import NetworkReport, NodeNetwork
from tests.api.conftest import Client
from tests.api.network.conftest import error_type, make, network_with_subnet, public

V = "/network/v2.0"


def test_a_port_has_neutrons_attributes(alice: Client, admin: Client) -> None:
    network, subnet = network_with_subnet(alice)
    made = make(alice, "ports", network_id=network["id"], name="p")
    assert made["status"] == "DOWN"
    assert made["mac_address"].startswith("fa:16:3e:")
    assert [ip["subnet_id"] for ip in made["fixed_ips"]] == [subnet["id"]]
    assert len(made["security_groups"]) == 1
    assert made["dns_assignment"][0]["fqdn"].endswith(".pileus.internal.")
    assert "binding:host_id" not in made
    shown = alice.get(f"{V}/ports/{made['id']}").json()["port"]
    assert shown == made
    full = admin.get(f"{V}/ports/{made['id']}").json()["port"]
    assert (full["binding:vif_type"], full["binding:host_id"], full["binding:profile"]) == ("unbound", "", {})


def test_a_network_without_subnets_has_ports_without_addresses(alice: Client) -> None:
    network = make(alice, "networks")
    assert make(alice, "ports", network_id=network["id"], security_groups=[])["fixed_ips"] == []


def test_addresses_are_given_until_none_is_left(alice: Client) -> None:
    pools = [{"start": "10.0.0.10", "end": "10.0.0.12"}, {"start": "10.0.0.20", "end": "10.0.0.21"}]
    network, _ = network_with_subnet(alice, allocation_pools=pools, enable_dhcp=False)
    made = [make(alice, "ports", network_id=network["id"]) for _ in range(5)]
    assert {p["fixed_ips"][0]["ip_address"] for p in made} == {
        "10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.20", "10.0.0.21"
    }
    full = alice.post(f"{V}/ports", {"port": {"network_id": network["id"]}})
    assert (full.status_code, error_type(full)) == (409, "IpAddressGenerationFailure")
    alice.delete(f"{V}/ports/{made[2]['id']}")
    again = make(alice, "ports", network_id=network["id"])
    assert again["fixed_ips"] == made[2]["fixed_ips"]


def test_named_addresses(alice: Client) -> None:
    network, subnet = network_with_subnet(alice)
    _, elsewhere = network_with_subnet(alice, "10.8.0.0/24")

    def post(*fixed_ips: dict[str, str]) -> tuple[int, str]:
        reply = alice.post(f"{V}/ports", {"port": {"network_id": network["id"], "fixed_ips": list(fixed_ips)}})
        return reply.status_code, "" if reply.status_code == 201 else error_type(reply)

    assert post({"ip_address": "10.0.0.77"})[0] == 201
    assert post({"ip_address": "10.0.0.77"}) == (409, "IpAddressInUse")
    assert post({"ip_address": "10.9.0.1"}) == (400, "InvalidIpForNetwork")
    assert post({"ip_address": "10.9.0.1", "subnet_id": subnet["id"]}) == (400, "InvalidIpForSubnet")
    assert post({"ip_address": "10.0.0.255", "subnet_id": subnet["id"]}) == (400, "InvalidIpForSubnet")
    assert post({"subnet_id": elsewhere["id"]}) == (400, "InvalidInput")
    assert post({"ip_address": "no address"})[0] == 400
    assert post({"subnet_id": subnet["id"]}, {"subnet_id": subnet["id"]})[0] == 201


def test_bad_ports_are_400_or_404(alice: Client) -> None:
    network, _ = network_with_subnet(alice)
    wrong = (
        ({"mac_address": "here"}, 400), ({"mac_address": "01:00:00:00:00:01"}, 400), ({"security_groups": ["x"]}, 404),
        ({"admin_state_up": "maybe"}, 400), ({"dns_name": "a b"}, 400), ({"fixed_ips": "x"}, 400),
        ({"extra_dhcp_opts": [{"opt_name": "server-ip-address", "opt_value": "1.2.3.4\nlog-queries"}]}, 400),
        ({"extra_dhcp_opts": [{"opt_name": "a,b", "opt_value": "x"}]}, 400),
        ({"allowed_address_pairs": [{"ip_address": "10.0.0.0/33"}]}, 400),
        ({"allowed_address_pairs": [{"ip_address": "fe80::1%eth0"}]}, 400), ({"device_owner": "network:dhcp"}, 409),
        ({"port_security_enabled": False, "security_groups": ["x"]}, 400), ({"binding:host_id": "node-1"}, 403),
    )
    for body, status in wrong:
        reply = alice.post(f"{V}/ports", {"port": {"network_id": network["id"], **body}})
        assert reply.status_code == status, (body, reply.text)


def test_a_mac_is_used_once_in_a_network(alice: Client) -> None:
    network, _ = network_with_subnet(alice)
    mac = {"mac_address": "FA-16-3E-00-00-09"}
    assert make(alice, "ports", network_id=network["id"], **mac)["mac_address"] == "fa:16:3e:00:00:09"
    again = alice.post(f"{V}/ports", {"port": {"network_id": network["id"], **mac}})
    assert (again.status_code, error_type(again)) == (409, "MacAddressInUse")


def test_a_port_is_changed(alice: Client) -> None:
    network, first = network_with_subnet(alice)
    second = make(alice, "subnets", network_id=network["id"], cidr="10.1.0.0/24", ip_version=4)
    group = make(alice, "security-groups", name="g")
    made = make(alice, "ports", network_id=network["id"], fixed_ips=[{"subnet_id": first["id"]}])
    sent = {
        "name": "new", "admin_state_up": False, "security_groups": [group["id"]],
        "fixed_ips": [{"subnet_id": second["id"]}],
        "allowed_address_pairs": [{"ip_address": "10.0.0.99"}],
        "extra_dhcp_opts": [{"opt_name": "bootfile-name", "opt_value": "pxe.0"}],
    }
    changed = alice.put(f"{V}/ports/{made['id']}", {"port": sent}).json()["port"]
    assert changed["fixed_ips"][0]["subnet_id"] == second["id"]
    assert changed["security_groups"] == [group["id"]]
    assert changed["allowed_address_pairs"] == [
        {"ip_address": "10.0.0.99", "mac_address": made["mac_address"]}
    ]
    assert changed["extra_dhcp_opts"] == [{"opt_name": "bootfile-name", "opt_value": "pxe.0", "ip_version": 4}]
    assert changed["revision_number"] == made["revision_number"] + 1
    assert alice.put(f"{V}/ports/{made['id']}", {"port": {"port_security_enabled": False}}).status_code == 409
    assert alice.delete(f"{V}/security-groups/{group['id']}").status_code == 409


def test_filters(alice: Client) -> None:
    network, subnet = network_with_subnet(alice)
    made = make(alice, "ports", network_id=network["id"], device_id="some-device", name="filtered")
    address = made["fixed_ips"][0]["ip_address"]
    for query in (
        "name=filtered", "device_id=some-device", f"id={made['id']}", f"mac_address={made['mac_address']}",
        f"network_id={network['id']}&device_owner=",
        f"fixed_ips=ip_address={address}&network_id={network['id']}",
        f"fixed_ips=subnet_id={subnet['id']}&name=filtered",
        f"security_groups={made['security_groups'][0]}&name=filtered", "project_id=blue&name=filtered",
        f"fixed_ips=ip_address_substr={address[-4:]}&name=filtered",
    ):
        found = alice.get(f"{V}/ports?{query}").json()["ports"]
        assert [p["id"] for p in found] == [made["id"]], query
    assert alice.get(f"{V}/ports?fixed_ips=ip_address=10.0.0.254&name=filtered").json()["ports"] == []


def test_ports_of_others_are_not_there(alice: Client, bob: Client) -> None:
    network, _ = network_with_subnet(alice)
    made = make(alice, "ports", network_id=network["id"])
    assert bob.get(f"{V}/ports/{made['id']}").status_code == 404
    assert bob.delete(f"{V}/ports/{made['id']}").status_code == 404
    refused = bob.post(f"{V}/ports", {"port": {"network_id": public(bob)}})
    assert refused.status_code == 403


def test_dhcp_has_an_address_only_where_it_serves(alice: Client) -> None:
    network, subnet = network_with_subnet(alice, enable_dhcp=False)
    mine = f"{V}/ports?network_id={network['id']}"
    assert alice.get(mine).json()["ports"] == []
    alice.put(f"{V}/subnets/{subnet['id']}", {"subnet": {"enable_dhcp": True}})
    served = alice.get(mine).json()["ports"]
    assert [p["device_owner"] for p in served] == ["network:dhcp"]
    alice.delete(f"{V}/ports/{served[0]['id']}")
    assert [p["device_owner"] for p in alice.get(mine).json()["ports"]] == ["network:dhcp"]
    assert alice.delete(f"{V}/subnets/{subnet['id']}").status_code == 204
    assert alice.get(mine).json()["ports"] == []


def test_a_servers_port_goes_through_its_life(alice: Client, cloud: Cloud, admin: Client) -> None:
    from pileus.auth.context import Context

    network, _ = network_with_subnet(alice)
    context = Context(user_id="alice", project_id="blue", roles=("member", "reader"))
    made = cloud.db.run_sync(lambda tx: ports.create(
        tx, cloud, context, network_id=network["id"], device_id="server-1", device_owner="compute:nova", host="h1",
        hostname="web",
    ))
    assert (made.status, made.network_name, made.dns_name) == ("DOWN", "net", "web")
    assert made.security_group_names == ("default",)
    assert made.subnets[0].cidr == "10.0.0.0/24"
    cloud.db.run_sync(lambda tx: ports.mark_up(tx, cloud, [made.id]))
    shown = admin.get(f"{V}/ports/{made.id}").json()["port"]
    assert (shown["status"], shown["binding:vif_type"], shown["binding:host_id"]) == ("ACTIVE", "bridge", "h1")
    assert list(cloud.db.run_sync(lambda tx: ports.of_servers(tx, ["server-1", "none"]))["none"]) == []
    found = cloud.db.run_sync(lambda tx: wiring.port_for_address(tx, network["id"], made.fixed_ips[0][1]))
    assert found is not None
    assert found.device_id == "server-1"
    more = cloud.db.run_sync(lambda tx: ports.add_fixed_ip(tx, cloud, made.id))
    assert len(cloud.db.run_sync(lambda tx: ports.get(tx, made.id)).fixed_ips) == 2
    cloud.db.run_sync(lambda tx: ports.remove_fixed_ip(tx, cloud, made.id, more))
    cloud.db.run_sync(lambda tx: ports.release(tx, cloud, made.id))
    assert alice.get(f"{V}/ports/{made.id}").json()["port"]["device_id"] == ""
    cloud.db.run_sync(lambda tx: ports.delete(tx, cloud, made.id))
    assert alice.get(f"{V}/ports/{made.id}").status_code == 404


def test_faults_of_a_node_are_shown(
    alice: Client, admin: Client, cloud: Cloud, node: Callable[[], NodeNetwork]
) -> None:
    node()
    router = make(alice, "routers", name="broken")
    _, subnet = network_with_subnet(alice, "10.48.0.0/24")
    path = f"{V}/routers/{router['id']}/add_router_interface"
    assert alice.put(path, {"subnet_id": subnet["id"]}).status_code == 200
    report = NetworkReport(revision=10**6, errors={router["id"]: "no such bridge: pileus-ex"})
    cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "node-1", report))
    assert alice.get(f"{V}/routers/{router['id']}").json()["router"]["status"] == "ERROR"
    agents = admin.get(f"{V}/agents?host=node-1").json()["agents"]
    assert {a["agent_type"] for a in agents} == {"L3 agent", "DHCP agent", "Linux bridge agent"}
    assert all(a["alive"] for a in agents)
    assert agents[0]["configurations"]["faults"] == {router["id"]: "no such bridge: pileus-ex"}
    foreign = NetworkReport(revision=10**6, errors={router["id"]: "told by one that does not have it"})
    cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "node-2", foreign))
    for host, faults in (("node-1", {router["id"]: "no such bridge: pileus-ex"}), ("node-2", {})):
        told = admin.get(f"{V}/agents?host={host}").json()["agents"]
        assert told[0]["configurations"]["faults"] == faults
    node()
    assert alice.get(f"{V}/routers/{router['id']}").json()["router"]["status"] == "ACTIVE"
    assert alice.get(f"{V}/agents").json() == {"agents": []}
    assert alice.get(f"{V}/agents/{agents[0]['id']}").status_code == 404
    assert alice.put(f"{V}/agents/{agents[0]['id']}", {"agent": {"description": "x"}}).status_code == 403
    assert admin.delete(f"{V}/agents/{agents[0]['id']}").status_code == 409
