"""What compute shows of images, security groups, floating addresses and networks, up to 2.35."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pileus.cloud import Cloud
from tests.api.compute.people import Person, join
from tests.api.conftest import Client

V = "/compute/v2.1"
GROUPS = V + "/os-security-groups"
RULES = V + "/os-security-group-rules"
IMAGES = V + "/images"
FIPS = V + "/os-floating-ips"


@pytest.fixture(scope="module")
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


@pytest.fixture(scope="module")
def stranger(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


# -- security groups


def make_group(person: Person, name: str = "web") -> Any:
    reply = person.client.post(GROUPS, {"security_group": {"name": name, "description": "about it"}})
    assert reply.status_code == 200, reply.text
    return reply.json()["security_group"]


def test_a_security_group_lives(member: Person) -> None:
    made = make_group(member)
    assert made == {
        "id": made["id"], "name": "web", "description": "about it", "tenant_id": member.project_id, "rules": [],
    }
    assert made in member.client.get(GROUPS).json()["security_groups"]
    assert member.client.get(f"{GROUPS}/{made['id']}").json() == {"security_group": made}
    change = {"security_group": {"name": "door", "description": ""}}
    changed = member.client.put(f"{GROUPS}/{made['id']}", change).json()["security_group"]
    assert (changed["name"], changed["description"]) == ("door", "")
    assert member.client.delete(f"{GROUPS}/{made['id']}").status_code == 202
    assert member.client.get(f"{GROUPS}/{made['id']}").status_code == 404
    assert member.client.delete(f"{GROUPS}/{made['id']}").status_code == 404


def test_rules_of_a_security_group(member: Person) -> None:
    group, other = make_group(member, "ruled"), make_group(member, "other")
    body = {"parent_group_id": group["id"], "ip_protocol": "TCP", "from_port": "22", "to_port": 23}
    reply = member.client.post(RULES, {"security_group_rule": body})
    assert reply.status_code == 200, reply.text
    rule = reply.json()["security_group_rule"]
    assert rule == {
        "id": rule["id"], "parent_group_id": group["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": 23,
        "group": {}, "ip_range": {"cidr": "0.0.0.0/0"},
    }
    body = {"parent_group_id": group["id"], "ip_protocol": "icmp", "from_port": -1, "to_port": -1, "cidr": "::/0"}
    ping = member.client.post(RULES, {"security_group_rule": body}).json()["security_group_rule"]
    assert (ping["from_port"], ping["to_port"], ping["ip_range"]) == (-1, -1, {"cidr": "::/0"})
    body = {"parent_group_id": group["id"], "group_id": other["id"]}
    inside = member.client.post(RULES, {"security_group_rule": body}).json()["security_group_rule"]
    assert (inside["group"], inside["ip_range"]) == ({"name": "other", "tenant_id": member.project_id}, {})
    shown = member.client.get(f"{GROUPS}/{group['id']}").json()["security_group"]["rules"]
    assert sorted(r["id"] for r in shown) == sorted(r["id"] for r in (rule, ping, inside))
    assert rule in shown
    assert inside in shown
    assert member.client.delete(f"{RULES}/{rule['id']}").status_code == 202
    assert member.client.delete(f"{RULES}/{rule['id']}").status_code == 404


@pytest.mark.parametrize("change", [
    {"ip_protocol": "gre"}, {"ip_protocol": None}, {"from_port": -2}, {"from_port": 0}, {"from_port": 65536},
    {"to_port": 21}, {"to_port": 65536}, {"from_port": None}, {"from_port": "x"}, {"cidr": "10.0.0.0/33"},
    {"cidr": "10.0.0.1/0"}, {"cidr": "x"}, {"parent_group_id": "x"}, {"group_id": "x"}, {"colour": "red"},
    {"ip_protocol": "icmp", "from_port": 256, "to_port": 256},
])
def test_what_is_no_rule(member: Person, change: dict[str, Any]) -> None:
    default = member.client.get(GROUPS).json()["security_groups"][0]["id"]
    body = {"parent_group_id": default, "ip_protocol": "tcp", "from_port": 22, "to_port": 22, **change}
    reply = member.client.post(RULES, {"security_group_rule": body})
    assert reply.status_code == 400, reply.text
    assert "badRequest" in reply.json()


def test_rules_for_groups_that_are_not_there(member: Person) -> None:
    body = {"parent_group_id": str(uuid.uuid4()), "ip_protocol": "tcp", "from_port": 1, "to_port": 2}
    reply = member.client.post(RULES, {"security_group_rule": body})
    assert reply.status_code == 404
    assert "itemNotFound" in reply.json()


@pytest.mark.parametrize("body", [
    {"name": ""}, {"name": "  "}, {"name": "n" * 256}, {"name": "x", "description": "d" * 256}, {"name": 5}, {},
    {"name": "x", "colour": "red"},
])
def test_what_is_no_security_group(member: Person, body: dict[str, Any]) -> None:
    assert member.client.post(GROUPS, {"security_group": body}).status_code == 400


def test_names_and_ranges_are_kept_as_sent(member: Person) -> None:
    group = make_group(member, " door ")
    assert group["name"] == " door "
    body = {"parent_group_id": group["id"], "ip_protocol": "udp", "from_port": 1, "to_port": 2, "cidr": "10.2.3.4/24"}
    made = member.client.post(RULES, {"security_group_rule": body})
    assert made.json()["security_group_rule"]["ip_range"] == {"cidr": "10.2.3.4/24"}
    assert member.client.post(RULES, {"security_group_rule": body}).status_code == 400  # the same once more
    body |= {"cidr": "10.2.3.4"}
    made = member.client.post(RULES, {"security_group_rule": body})
    assert made.json()["security_group_rule"]["ip_range"] == {"cidr": "10.2.3.4/32"}


def test_the_default_group_stays(member: Person) -> None:
    groups = member.client.get(GROUPS).json()["security_groups"]
    default = next(group["id"] for group in groups if group["name"] == "default")
    assert member.client.delete(f"{GROUPS}/{default}").status_code == 400


def test_security_groups_of_other_projects_do_not_exist(member: Person, stranger: Person, admin: Client) -> None:
    made = make_group(member, "private")
    assert stranger.client.get(f"{GROUPS}/{made['id']}").status_code == 404
    assert stranger.client.delete(f"{GROUPS}/{made['id']}").status_code == 404
    assert made["id"] not in [g["id"] for g in stranger.client.get(GROUPS).json()["security_groups"]]
    assert made["id"] not in [g["id"] for g in admin.get(GROUPS).json()["security_groups"]]
    assert made["id"] in [g["id"] for g in admin.get(GROUPS + "?all_tenants=1").json()["security_groups"]]
    assert member.client.get(GROUPS + "/not-an-id").status_code == 400


# -- images


def make_image(person: Person, **more: Any) -> str:
    body = {"name": "proxied", "disk_format": "raw", "container_format": "bare", "min_ram": 64, **more}
    reply = person.client.post("/image/v2/images", body)
    assert reply.status_code == 201, reply.text
    image_id = str(reply.json()["id"])
    put = person.client.put(
        f"/image/v2/images/{image_id}/file", content=b"x" * 1000, headers={"Content-Type": "application/octet-stream"},
    )
    assert put.status_code == 204, put.text
    return image_id


def test_an_image_as_compute_shows_it(member: Person) -> None:
    server = str(uuid.uuid4())
    image_id = make_image(member, os_distro="debian", instance_uuid=server)
    shown = member.client.get(f"{IMAGES}/{image_id}").json()["image"]
    assert (shown["status"], shown["progress"], shown["minRam"], shown["minDisk"]) == ("ACTIVE", 100, 64, 0)
    assert shown["OS-EXT-IMG-SIZE:size"] == 1000
    assert shown["metadata"] == {"os_distro": "debian", "instance_uuid": server}
    assert shown["server"]["id"] == server
    assert set(shown) == {
        "id", "name", "status", "progress", "minRam", "minDisk", "created", "updated", "metadata", "links", "server",
        "OS-EXT-IMG-SIZE:size",
    }
    assert shown in member.client.get(IMAGES + "/detail").json()["images"]
    brief = next(i for i in member.client.get(IMAGES).json()["images"] if i["id"] == image_id)
    assert set(brief) == {"id", "name", "links"}
    for query in (f"server={server}", f"server=http://cloud.test/compute/v2.1/servers/{server}"):
        found = member.client.get(f"{IMAGES}?{query}").json()["images"]
        assert [i["id"] for i in found] == [image_id]
    assert member.client.delete(f"{IMAGES}/{image_id}").status_code == 204
    assert member.client.get(f"{IMAGES}/{image_id}").status_code == 404
    assert member.client.delete(f"{IMAGES}/{image_id}").status_code == 404


def test_images_by_filter_and_in_pages(member: Person) -> None:
    name = uuid.uuid4().hex
    ids = [make_image(member, name=name) for _ in range(3)]
    first = member.client.get(f"{IMAGES}?name={name}&limit=2&status=ACTIVE").json()
    after = first["images_links"][0]["href"].removeprefix("http://cloud.test")
    second = member.client.get(after).json()["images"]
    assert sorted(i["id"] for i in first["images"] + second) == sorted(ids)
    assert member.client.get(f"{IMAGES}?name={name}&status=SAVING").json()["images"] == []
    assert member.client.get(f"{IMAGES}?name={name}&changes-since=2100-01-01T00:00:00Z").json()["images"] == []
    assert member.client.get(f"{IMAGES}?changes-since=never").status_code == 400
    assert member.client.get(f"{IMAGES}?limit=-1").status_code == 400


def test_metadata_of_images(member: Person) -> None:
    image_id = make_image(member, one="1", two="2")
    path = f"{IMAGES}/{image_id}/metadata"
    assert member.client.get(path).json() == {"metadata": {"one": "1", "two": "2"}}
    merged = {"metadata": {"one": "1", "two": "II", "three": "3"}}
    assert member.client.post(path, {"metadata": {"two": "II", "three": "3"}}).json() == merged
    assert member.client.get(path + "/three").json() == {"meta": {"three": "3"}}
    assert member.client.put(path + "/three", {"meta": {"three": "III"}}).json() == {"meta": {"three": "III"}}
    assert member.client.put(path + "/three", {"meta": {"four": "4"}}).status_code == 400
    assert member.client.delete(path + "/three").status_code == 204
    assert member.client.get(path + "/three").status_code == 404
    assert member.client.put(path, {"metadata": {"only": "this"}}).json() == {"metadata": {"only": "this"}}
    assert member.client.get(path, version="2.38").json() == {"metadata": {"only": "this"}}
    assert member.client.get(path, version="2.39").status_code == 404
    assert member.client.put(path, {"metadata": {"owner": "me"}}).status_code == 400
    assert member.client.put(path, {"metadata": {"x": 5}}).status_code == 400


def test_images_of_other_projects_do_not_exist(member: Person, stranger: Person) -> None:
    image_id = make_image(member, visibility="private")
    assert stranger.client.get(f"{IMAGES}/{image_id}").status_code == 404
    assert stranger.client.delete(f"{IMAGES}/{image_id}").status_code == 404
    assert stranger.client.get(f"{IMAGES}/{image_id}/metadata").status_code == 404
    for name in ("no-such-image", "!@#$", "%20", "i" * 300):
        assert member.client.get(f"{IMAGES}/{name}").status_code == 404


# -- networks and floating addresses


def test_networks(member: Person, stranger: Person) -> None:
    network = member.client.post("/network/v2.0/networks", {"network": {"name": "mine"}}).json()["network"]
    subnet = {"network_id": network["id"], "ip_version": 4, "cidr": "10.9.0.0/24", "dns_nameservers": ["9.9.9.9"]}
    assert member.client.post("/network/v2.0/subnets", {"subnet": subnet}).status_code == 201
    shown = member.client.get(f"{V}/os-networks/{network['id']}").json()["network"]
    assert (shown["label"], shown["cidr"], shown["gateway"], shown["dns1"], shown["broadcast"]) == (
        "mine", "10.9.0.0/24", "10.9.0.1", "9.9.9.9", "10.9.0.255",
    )
    assert shown in member.client.get(V + "/os-networks").json()["networks"]
    short = {"id": network["id"], "label": "mine", "cidr": "10.9.0.0/24"}
    assert short in member.client.get(V + "/os-tenant-networks").json()["networks"]
    assert member.client.get(f"{V}/os-tenant-networks/{network['id']}").json() == {"network": short}
    assert stranger.client.get(f"{V}/os-networks/{network['id']}").status_code == 404
    assert short not in stranger.client.get(V + "/os-tenant-networks").json()["networks"]


def test_floating_addresses(admin: Client, member: Person, stranger: Person) -> None:
    name = "pool-" + uuid.uuid4().hex
    network = {"name": name, "router:external": True}
    made = admin.post("/network/v2.0/networks", {"network": network}).json()["network"]
    subnet = {"network_id": made["id"], "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": False}
    assert admin.post("/network/v2.0/subnets", {"subnet": subnet}).status_code == 201
    assert {"name": name} in member.client.get(V + "/os-floating-ip-pools").json()["floating_ip_pools"]
    reply = member.client.post(FIPS, {"pool": name})
    assert reply.status_code == 200, reply.text
    floating = reply.json()["floating_ip"]
    assert floating == {
        "id": floating["id"], "ip": floating["ip"], "pool": name, "fixed_ip": None, "instance_id": None,
    }
    assert floating["ip"].startswith("203.0.113.")
    assert member.client.get(FIPS).json() == {"floating_ips": [floating]}
    assert member.client.get(f"{FIPS}/{floating['id']}").json() == {"floating_ip": floating}
    assert stranger.client.get(f"{FIPS}/{floating['id']}").status_code == 404
    assert member.client.post(FIPS, {"pool": "nowhere"}).status_code == 404
    assert member.client.delete(f"{FIPS}/{floating['id']}").status_code == 202
    assert member.client.delete(f"{FIPS}/{floating['id']}").status_code == 404


@pytest.mark.parametrize("path", [
    "/os-security-groups", "/images", "/images/detail", "/os-networks", "/os-tenant-networks", "/os-floating-ips",
    "/os-floating-ip-pools",
])
def test_from_2_36_on_there_are_no_proxies(member: Person, path: str) -> None:
    assert member.client.get(V + path, version="2.35").status_code == 200
    assert member.client.get(V + path, version="2.36").status_code == 404
