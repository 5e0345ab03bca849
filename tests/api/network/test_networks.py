"""Networks and subnets: what is made, seen, refused and deleted."""

from __future__ import annotations

from pileus.cloud import Cloud
from tests.api.conftest import Client
from tests.api.network.conftest import error_type, make, network_with_subnet, public
from tests.statements import NOW_AND_THEN, counted

V = "/network/v2.0"


def test_versions_and_resources_are_listed(anonymous: Client) -> None:
    reply = anonymous.get("/network/")
    assert reply.status_code == 200
    assert list(reply.json()) == ["versions"]
    assert [v["id"] for v in reply.json()["versions"]] == ["v2.0"]
    assert {"network", "port", "subnet"} <= {r["name"] for r in anonymous.get(f"{V}/").json()["resources"]}


def test_the_first_start_makes_the_external_network(alice: Client, admin: Client) -> None:
    shown = admin.get(f"{V}/networks/{public(alice)}").json()["network"]
    assert shown["name"] == "public"
    assert shown["provider:network_type"] == "flat"
    assert shown["provider:physical_network"] == "public"
    assert shown["mtu"] == 1500
    assert shown["shared"] is False
    subnet = admin.get(f"{V}/subnets?network_id={shown['id']}").json()["subnets"][0]
    assert (subnet["cidr"], subnet["gateway_ip"], subnet["enable_dhcp"]) == ("172.24.4.0/24", "172.24.4.1", False)
    assert alice.get(f"{V}/subnets?network_id={shown['id']}").json()["subnets"] == []


def test_a_network_has_neutrons_attributes(alice: Client, admin: Client) -> None:
    made = make(alice, "networks", name="blue-net")
    assert made["status"] == "ACTIVE"
    assert made["tenant_id"] == made["project_id"] == "blue"
    assert made["mtu"] == 1450
    assert "provider:network_type" not in made
    full = admin.get(f"{V}/networks/{made['id']}").json()["network"]
    assert full["provider:network_type"] == "vxlan"
    assert 1 <= full["provider:segmentation_id"] <= 65535


def test_fields_are_exactly_those_asked_for(alice: Client) -> None:
    made = make(alice, "networks", name="narrow")
    assert alice.get(f"{V}/networks/{made['id']}?fields=id&fields=name").json() == {
        "network": {"id": made["id"], "name": "narrow"}
    }
    assert alice.get(f"{V}/networks?fields=id&name=narrow").json() == {"networks": [{"id": made["id"]}]}


def test_another_projects_network_is_not_there(alice: Client, bob: Client, rita: Client) -> None:
    made = make(alice, "networks", name="private")
    for reply in (
        bob.get(f"{V}/networks/{made['id']}"),
        bob.put(f"{V}/networks/{made['id']}", {"network": {"name": "mine"}}),
        bob.delete(f"{V}/networks/{made['id']}"),
        bob.post(f"{V}/ports", {"port": {"network_id": made["id"]}}),
    ):
        assert reply.status_code == 404
        assert error_type(reply) == "NetworkNotFound"
    assert rita.get(f"{V}/networks/{made['id']}").status_code == 200
    assert rita.put(f"{V}/networks/{made['id']}", {"network": {"name": "x"}}).status_code == 403
    assert rita.post(f"{V}/networks", {"network": {}}).status_code == 403


def test_what_only_administrators_may_set_is_refused(alice: Client) -> None:
    for body in ({"shared": True}, {"router:external": True}, {"provider:network_type": "local"}):
        reply = alice.post(f"{V}/networks", {"network": body})
        assert reply.status_code == 403
        assert error_type(reply) == "PolicyNotAuthorized"
    assert alice.post(f"{V}/networks", {"network": {"project_id": "red"}}).status_code == 400
    assert make(alice, "networks", shared=False)["shared"] is False


def test_bad_bodies_are_400(alice: Client) -> None:
    for body in ({"colour": "red"}, {"name": 7}, {"name": "x" * 256}, {"mtu": 9000}, {"mtu": 10},
                 {"dns_domain": "a\nserver=/x/1.2.3.4"}):
        assert alice.post(f"{V}/networks", {"network": body}).status_code == 400, body
    assert alice.post(f"{V}/networks", {}).status_code == 400
    assert alice.post(f"{V}/networks", content=b"{").status_code == 400
    assert alice.get(f"{V}/networks?colour=red").status_code == 400
    assert alice.get(f"{V}/networks?limit=-1").status_code == 400
    assert alice.get(f"{V}/networks?sort_key=colour").status_code == 400


def test_many_are_made_at_once_or_none(alice: Client) -> None:
    reply = alice.post(f"{V}/networks", {"networks": [{"name": "bulk-1"}, {"name": "bulk-2"}]})
    assert reply.status_code == 201
    assert [n["name"] for n in reply.json()["networks"]] == ["bulk-1", "bulk-2"]
    broken = alice.post(f"{V}/networks", {"networks": [{"name": "bulk-3"}, {"mtu": 9000}]})
    assert broken.status_code == 400
    assert alice.get(f"{V}/networks?name=bulk-3").json()["networks"] == []


def test_pages_and_filters(bob: Client) -> None:
    for name in ("p-1", "p-2", "p-3"):
        make(bob, "networks", name=name)
    listed = bob.get(f"{V}/networks?name=p-1&name=p-3&sort_key=name&sort_dir=desc").json()["networks"]
    assert [n["name"] for n in listed] == ["p-3", "p-1"]
    first = bob.get(f"{V}/networks?router:external=False&limit=2&sort_key=name").json()
    assert [n["name"] for n in first["networks"]] == ["p-1", "p-2"]
    after = {link["rel"]: link["href"] for link in first["networks_links"]}["next"]
    second = bob.get(after.removeprefix("http://cloud.test")).json()
    assert [n["name"] for n in second["networks"]] == ["p-3"]
    back = {link["rel"]: link["href"] for link in second["networks_links"]}["previous"]
    third = bob.get(back.removeprefix("http://cloud.test")).json()
    assert [n["name"] for n in third["networks"]] == ["p-1", "p-2"]


def test_if_match_guards_a_change(alice: Client) -> None:
    made = make(alice, "networks", name="guarded")
    path = f"{V}/networks/{made['id']}"
    old = {"If-Match": f"revision_number={made['revision_number']}"}
    changed = alice.put(path, {"network": {"name": "first"}}, headers=old)
    assert changed.status_code == 200
    assert changed.json()["network"]["revision_number"] == made["revision_number"] + 1
    late = alice.put(path, {"network": {"name": "second"}}, headers=old)
    assert late.status_code == 412
    assert error_type(late) == "RevisionNumberConstraintFailed"


def test_a_subnet_takes_the_first_address_as_gateway_and_the_rest_as_pool(alice: Client) -> None:
    _, subnet = network_with_subnet(alice, "10.1.0.0/28")
    assert subnet["gateway_ip"] == "10.1.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.1.0.2", "end": "10.1.0.14"}]
    network = make(alice, "networks")
    bare = make(alice, "subnets", network_id=network["id"], cidr="10.1.0.0/28", ip_version=4, gateway_ip=None)
    assert bare["gateway_ip"] is None
    assert bare["allocation_pools"] == [{"start": "10.1.0.1", "end": "10.1.0.14"}]
    assert alice.get(f"{V}/networks/{network['id']}").json()["network"]["subnets"] == [bare["id"]]


def test_wrong_subnets_are_refused(alice: Client) -> None:
    network, _ = network_with_subnet(alice, "10.2.0.0/24")

    def post(**body: object) -> tuple[int, str]:
        reply = alice.post(f"{V}/subnets", {"subnet": {"network_id": network["id"], "ip_version": 4, **body}})
        return reply.status_code, reply.text

    status, text = post(cidr="10.2.0.128/25")
    assert status == 400
    assert "overlaps with another subnet" in text
    assert post(cidr="fd00::/64")[0] == 400
    assert post(cidr="10.3.0.0/33")[0] == 400
    assert post(cidr="10.3.0.0/24", gateway_ip="nowhere")[0] == 400
    assert post(cidr="10.3.0.0/24", dns_nameservers=["x"])[0] == 400
    assert post(cidr="10.3.0.0/24", host_routes=[{"destination": "x", "nexthop": "10.3.0.2"}])[0] == 400
    assert post(cidr="10.3.0.0/24", allocation_pools=[{"start": "10.4.0.1", "end": "10.4.0.9"}])[0] == 400
    inside = [{"start": "10.3.0.1", "end": "10.3.0.9"}]
    assert post(cidr="10.3.0.0/24", allocation_pools=inside)[0] == 409
    assert post(cidr="10.3.0.0/24", ipv6_ra_mode="slaac")[0] == 400
    assert post()[0] == 400
    assert alice.post(f"{V}/subnets", {"subnet": {"network_id": "none", "cidr": "10.3.0.0/24"}}).status_code == 404


def test_a_subnet_is_changed(alice: Client) -> None:
    _, subnet = network_with_subnet(alice, "10.5.0.0/24", dns_nameservers=["8.8.4.4"])
    sent = {
        "name": "new", "gateway_ip": None, "enable_dhcp": False, "dns_nameservers": ["8.8.8.8"],
        "host_routes": [{"destination": "10.9.0.0/24", "nexthop": "10.5.0.9"}],
    }
    changed = alice.put(f"{V}/subnets/{subnet['id']}", {"subnet": sent}).json()["subnet"]
    assert {key: changed[key] for key in sent} == sent


def test_slaac_needs_a_64(alice: Client) -> None:
    network = make(alice, "networks")
    body = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:1::/48", "ipv6_ra_mode": "slaac"}
    assert alice.post(f"{V}/subnets", {"subnet": body}).status_code == 400
    made = make(alice, "subnets", **{**body, "cidr": "fd00:1::/64", "ipv6_address_mode": "slaac"})
    assert made["gateway_ip"] == "fd00:1::1"
    port = make(alice, "ports", network_id=network["id"], mac_address="fa:16:3e:00:00:01")
    assert port["fixed_ips"] == [{"subnet_id": made["id"], "ip_address": "fd00:1::f816:3eff:fe00:1"}]


def test_a_network_takes_its_subnets_and_dhcp_port_along(alice: Client) -> None:
    network, subnet = network_with_subnet(alice)
    served = alice.get(f"{V}/ports?network_id={network['id']}").json()["ports"]
    assert [p["device_owner"] for p in served] == ["network:dhcp"]
    assert alice.delete(f"{V}/networks/{network['id']}").status_code == 204
    assert alice.get(f"{V}/subnets/{subnet['id']}").status_code == 404
    assert alice.get(f"{V}/ports/{served[0]['id']}").status_code == 404


def test_what_is_in_use_stays(alice: Client) -> None:
    network, subnet = network_with_subnet(alice)
    make(alice, "ports", network_id=network["id"])
    gone = alice.delete(f"{V}/networks/{network['id']}")
    assert (gone.status_code, error_type(gone)) == (409, "NetworkInUse")
    gone = alice.delete(f"{V}/subnets/{subnet['id']}")
    assert (gone.status_code, error_type(gone)) == (409, "SubnetInUse")


def test_sharing_with_one_project_and_with_all(alice: Client, bob: Client, admin: Client) -> None:
    network, subnet = network_with_subnet(alice)
    path = f"{V}/networks/{network['id']}"
    rbac = {"object_type": "network", "object_id": network["id"], "action": "access_as_shared", "target_tenant": "red"}
    policy = make(alice, "rbac-policies", "rbac_policy", **rbac)
    assert bob.get(path).json()["network"]["shared"] is True
    assert [s["id"] for s in bob.get(f"{V}/subnets?network_id={network['id']}").json()["subnets"]] == [subnet["id"]]
    assert alice.post(f"{V}/rbac-policies", {"rbac_policy": rbac}).status_code == 409
    port = make(bob, "ports", network_id=network["id"])
    assert alice.get(f"{V}/ports/{port['id']}").status_code == 200
    assert bob.put(path, {"network": {"name": "x"}}).status_code == 403
    assert alice.delete(f"{V}/rbac-policies/{policy['id']}").status_code == 409
    assert bob.delete(f"{V}/ports/{port['id']}").status_code == 204
    assert alice.delete(f"{V}/rbac-policies/{policy['id']}").status_code == 204
    assert bob.get(path).status_code == 404
    everyone = {**rbac, "target_tenant": "*"}
    assert alice.post(f"{V}/rbac-policies", {"rbac_policy": everyone}).status_code == 403
    assert admin.put(path, {"network": {"shared": True}}).status_code == 200
    assert bob.get(path).json()["network"]["shared"] is True


def test_a_full_quota_is_409(admin: Client, bob: Client) -> None:
    used = len(bob.get(f"{V}/networks?project_id=red").json()["networks"])
    assert admin.put(f"{V}/quotas/red", {"quota": {"network": used + 1}}).json()["quota"]["network"] == used + 1
    make(bob, "networks")
    full = bob.post(f"{V}/networks", {"network": {}})
    assert (full.status_code, error_type(full)) == (409, "OverQuota")
    details = bob.get(f"{V}/quotas/red/details.json").json()["quota"]["network"]
    assert details == {"limit": used + 1, "used": used + 1, "reserved": 0}
    below = {"quota": {"network": used, "check_limit": True}}
    assert admin.put(f"{V}/quotas/red", below).status_code == 400
    assert bob.put(f"{V}/quotas/red", {"quota": {"network": -1}}).status_code == 403
    assert admin.delete(f"{V}/quotas/red").status_code == 204
    assert bob.get(f"{V}/quotas/red").json()["quota"]["network"] == 100
    assert bob.get(f"{V}/quotas/blue").status_code == 403


def test_subnet_pools_cut_prefixes_that_do_not_overlap(alice: Client) -> None:
    pool = make(alice, "subnetpools", name="pool", prefixes=["10.64.0.0/16"], default_prefixlen=24)
    network = make(alice, "networks")
    cut = [make(alice, "subnets", network_id=network["id"], ip_version=4, subnetpool_id=pool["id"]) for _ in range(2)]
    assert [s["cidr"] for s in cut] == ["10.64.0.0/24", "10.64.1.0/24"]
    named = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"], "cidr": "10.64.1.128/25"}
    assert alice.post(f"{V}/subnets", {"subnet": named}).status_code == 400
    wide = make(alice, "subnets", network_id=network["id"], ip_version=4, subnetpool_id=pool["id"], prefixlen=20)
    assert wide["cidr"] == "10.64.16.0/20"
    assert alice.delete(f"{V}/subnetpools/{pool['id']}").status_code == 409


def test_tags(alice: Client, bob: Client) -> None:
    made = make(alice, "networks")
    path = f"{V}/networks/{made['id']}/tags"
    assert alice.put(path, {"tags": ["b", "a"]}).json() == {"tags": ["a", "b"]}
    assert alice.put(f"{path}/c").status_code == 201
    assert alice.get(f"{path}/c").status_code == 204
    assert alice.delete(f"{path}/x").status_code == 404
    assert [n["id"] for n in alice.get(f"{V}/networks?tags=a,c").json()["networks"]] == [made["id"]]
    assert made["id"] not in [n["id"] for n in alice.get(f"{V}/networks?not-tags-any=a").json()["networks"]]
    assert bob.get(path).status_code == 404
    assert alice.delete(path).status_code == 204
    assert alice.get(path).json() == {"tags": []}


def test_extensions_show_what_they_list(alice: Client) -> None:
    listed = alice.get(f"{V}/extensions").json()["extensions"]
    aliases = {e["alias"] for e in listed}
    assert {"router", "security-group", "external-net", "agent", "quotas", "binding", "trunk"} <= aliases
    assert not {"dvr", "l3-ha", "metering", "qos"} & aliases
    for extension in listed:
        assert alice.get(f"{V}/extensions/{extension['alias']}").json() == {"extension": extension}
    assert alice.get(f"{V}/extensions/nothing").status_code == 404


def test_a_list_takes_a_fixed_number_of_statements(alice: Client, cloud: Cloud) -> None:
    with counted(cloud.db) as before:
        alice.get(f"{V}/ports")
    network, _ = network_with_subnet(alice, "10.7.0.0/24")
    assert alice.post(f"{V}/ports", {"ports": [{"network_id": network["id"]}] * 20}).status_code == 201
    with counted(cloud.db) as sent:
        assert len(alice.get(f"{V}/ports?network_id={network['id']}").json()["ports"]) == 21
    assert 0 < len(sent) <= len(before) + NOW_AND_THEN
