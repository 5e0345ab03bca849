"""Servers: made, shown, listed, changed, deleted; who may; and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.network import ports
from pileus.placement import allocations
from tests.api.compute.guests import Servers, eventually, make_image, working_nodes
from tests.api.compute.people import Person, join
from tests.api.conftest import Client

BASE = "/compute/v2.1/servers"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with working_nodes(cloud, loop) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def image_id(cloud: Cloud) -> str:
    return make_image(cloud)


@pytest.fixture(scope="module")
def guests(admin: Client, image_id: str) -> Servers:
    return Servers(admin, image_id)


@pytest.fixture(scope="module")
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


@pytest.fixture(scope="module")
def network(admin: Client) -> str:
    made = admin.post("/network/v2.0/networks", {"network": {"name": "net", "shared": False}})
    network_id: str = made.json()["network"]["id"]
    subnet = {"network_id": network_id, "cidr": "10.7.0.0/24", "ip_version": 4}
    assert admin.post("/network/v2.0/subnets", {"subnet": subnet}).status_code == 201
    return network_id


def test_a_server_is_built_and_leaves_nothing_when_deleted(
    cloud: Cloud, guests: Servers, network: str
) -> None:
    server_id = guests.boot(networks=[{"uuid": network}], metadata={"a": "b"})
    shown = guests.show(server_id)
    assert [item["OS-EXT-IPS:type"] for item in shown["addresses"]["net"]] == ["fixed"]
    assert shown["metadata"] == {"a": "b"}
    assert shown["security_groups"] == [{"name": "default"}]
    assert shown["OS-SRV-USG:launched_at"]
    mine = cloud.db.run_sync(lambda tx: ports.of_servers(tx, [server_id]))[server_id]
    assert [port.status for port in mine] == ["ACTIVE"]
    assert cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, server_id))

    assert guests.client.delete(f"{BASE}/{server_id}").status_code == 204
    guests.gone(server_id)
    assert not cloud.db.run_sync(lambda tx: ports.of_servers(tx, [server_id]))[server_id]
    assert not cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, server_id))


def test_a_server_deleted_while_it_is_built_goes(guests: Servers) -> None:
    server_id = guests.ask(metadata={"fake:build_delay": "0.3"}).json()["server"]["id"]
    assert guests.client.delete(f"{BASE}/{server_id}").status_code == 204
    guests.gone(server_id)


def test_create_answers_as_nova_does(guests: Servers) -> None:
    reply = guests.ask(adminPass="given")
    assert reply.status_code == 202
    body = reply.json()["server"]
    assert set(body) == {"id", "links", "security_groups", "OS-DCF:diskConfig", "adminPass"}
    assert body["adminPass"] == "given"
    assert reply.headers["location"] == body["links"][0]["href"]
    actions = guests.client.get(f"{BASE}/{body['id']}/os-instance-actions").json()["instanceActions"]
    assert actions[0]["request_id"] == reply.headers["x-compute-request-id"]


@pytest.mark.parametrize("wrong", [
    {"name": ""}, {"name": "x" * 256}, {"name": 5}, {"imageRef": -1}, {"imageRef": "nope"}, {"flavorRef": "-1"},
    {"flavorRef": 2**80}, {"accessIPv6": "notvalid"}, {"networks": [{"uuid": "x"}]}, {"metadata": {"a": "b" * 256}},
    {"user_data": "%%%"}, {"key_name": "none"}, {"availability_zone": "none"}, {"unknown": 1},
    {"min_count": 2, "max_count": 1}, {"security_groups": [{"name": "none"}]}, {"min_count": 0},
    {"block_device_mapping_v2": [{"source_type": "volume", "uuid": "x"}]},
    {"networks": [{"port": "11111111-1111-1111-1111-111111111111"}]},
    {"personality": [{"path": "/etc/x", "contents": ""}]},
    {"imageRef": "11111111-1111-1111-1111-111111111111"},
])
def test_bad_wishes_are_400_and_make_nothing(guests: Servers, wrong: dict[str, Any]) -> None:
    before = guests.client.get(BASE).json()
    reply = guests.ask(**wrong)
    assert reply.status_code == 400, reply.text
    assert reply.json()["badRequest"]["message"]
    assert guests.client.get(BASE).json() == before


def test_networks_must_be_said_from_2_37_on(guests: Servers) -> None:
    body = {"server": {"name": "a", "imageRef": guests.image_id, "flavorRef": "1"}}
    assert guests.client.post(BASE, body, version="2.37").status_code == 400


def test_an_image_larger_than_the_flavor_is_refused(cloud: Cloud, guests: Servers) -> None:
    large = make_image(cloud, min_ram=100_000)
    assert "memory is too small" in guests.ask(imageRef=large).text
    assert "disk" in guests.ask(imageRef=make_image(cloud, virtual_size=5 << 30)).text


def test_without_a_host_the_server_is_in_error_and_says_why(guests: Servers) -> None:
    flavor = {"id": "huge", "name": "huge", "ram": 50_000_000, "vcpus": 1, "disk": 1}
    guests.client.post("/compute/v2.1/flavors", {"flavor": flavor})
    project = guests.client.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"]
    guests.client.put(f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": {"ram": -1, "instances": -1,
                                                                                "cores": -1}})
    server_id = guests.ask(flavorRef="huge").json()["server"]["id"]
    shown = guests.settled(server_id, "ERROR")
    assert shown["fault"]["message"].startswith("No valid host was found.")
    assert "50000000 MiB of memory" in shown["fault"]["message"]
    assert guests.client.delete(f"{BASE}/{server_id}").status_code == 204
    assert guests.client.get(f"{BASE}/{server_id}").status_code == 404


def test_a_failed_build_is_an_error_with_the_nodes_own_words(guests: Servers) -> None:
    server_id = guests.ask(metadata={"fake:build_error": "the disk is full"}).json()["server"]["id"]
    shown = guests.settled(server_id, "ERROR")
    assert shown["fault"]["message"] == "the disk is full"
    guests.client.delete(f"{BASE}/{server_id}")
    guests.gone(server_id)


def test_several_at_once_have_numbers(guests: Servers) -> None:
    reply = guests.ask(name="many", min_count=3, return_reservation_id=True)
    reservation = reply.json()["reservation_id"]
    found = guests.client.get(f"{BASE}?reservation_id={reservation}").json()["servers"]
    assert sorted(server["name"] for server in found) == ["many-1", "many-2", "many-3"]


def test_quota_is_403(guests: Servers, member: Person) -> None:
    reply = Servers(member.client, guests.image_id).ask(min_count=11)
    assert reply.status_code == 403
    assert "Quota exceeded for instances" in reply.json()["forbidden"]["message"]
    assert Servers(member.client, guests.image_id).ask(min_count=1, max_count=10).status_code == 202


def test_other_projects_do_not_see_a_server(cloud: Cloud, anonymous: Client, guests: Servers) -> None:
    server_id = guests.boot()
    stranger = join(cloud, anonymous).client
    for method, path, body in (
        ("GET", "", None), ("PUT", "", {"server": {"name": "mine"}}), ("DELETE", "", None),
        ("POST", "/action", {"os-stop": None}), ("GET", "/metadata", None), ("GET", "/os-interface", None),
        ("GET", "/os-instance-actions", None), ("GET", "/os-security-groups", None), ("GET", "/ips", None),
    ):
        reply = stranger.request(method, f"{BASE}/{server_id}{path}", json=body)
        assert reply.status_code == 404, (method, path, reply.text)
    assert stranger.get(BASE).json() == {"servers": []}
    assert stranger.get(f"{BASE}?all_tenants=1").status_code == 403


def test_readers_read_only(cloud: Cloud, anonymous: Client, guests: Servers, member: Person) -> None:
    own = Servers(member.client, guests.image_id)
    server_id = own.client.get(BASE).json()["servers"][0]["id"]
    reader = join(cloud, anonymous, "reader", member.project_id).client
    assert reader.get(f"{BASE}/{server_id}").status_code == 200
    assert reader.delete(f"{BASE}/{server_id}").status_code == 403
    assert reader.post(f"{BASE}/{server_id}/action", {"os-stop": None}).status_code == 403
    assert Servers(reader, guests.image_id).ask().status_code == 403


def test_members_do_not_see_where_servers_run(guests: Servers, member: Person) -> None:
    server = member.client.get(f"{BASE}/detail", version="2.96").json()["servers"][0]
    assert "OS-EXT-SRV-ATTR:host" not in server
    assert "host_status" not in server
    assert server["OS-EXT-SRV-ATTR:hostname"]
    assert Servers(member.client, guests.image_id).ask(availability_zone="nova:node").status_code == 403


def test_update_changes_what_it_names(guests: Servers) -> None:
    server_id = guests.boot(name="Íñstáñcé one")
    assert guests.show(server_id)["OS-EXT-SRV-ATTR:hostname"]
    sent = {"server": {"name": "two", "accessIPv6": "0000:0000:0000:0000:0000:babe:220.12.22.2"}}
    reply = guests.client.put(f"{BASE}/{server_id}", sent)
    assert reply.json()["server"]["accessIPv6"] == "::babe:dc0c:1602"
    assert "OS-EXT-STS:vm_state" not in reply.json()["server"]
    assert guests.client.put(f"{BASE}/{server_id}", {"server": {"name": ""}}).status_code == 400
    late = {"server": {"description": "new"}}
    assert guests.client.put(f"{BASE}/{server_id}", late, version="2.18").status_code == 400
    assert guests.client.put(f"{BASE}/{server_id}", late, version="2.19").json()["server"]["description"] == "new"


def test_lists_filter_sort_and_page(guests: Servers) -> None:
    ids = [guests.boot(name=f"page-{n}") for n in range(3)]
    path = f"{BASE}?name=page-&limit=2&sort_key=display_name&sort_dir=asc"
    first = guests.client.get(path).json()
    assert [server["id"] for server in first["servers"]] == ids[:2]
    following = first["servers_links"][0]["href"].removeprefix("http://cloud.test")
    assert [server["id"] for server in guests.client.get(following).json()["servers"]] == ids[2:]
    for query, count in (
        ("name=^page-[01]$", 2), ("name=page-1", 1), ("name=nothing", 0), ("name=page-&status=active", 3),
        ("name=page-&status=SHUTOFF", 0), ("name=page-&image=nothing", 0), ("name=page-&flavor=1", 3),
        ("name=page-&changes-since=2050-01-01T00:00:00Z", 0), (f"uuid={ids[0]}", 1), ("name=page-&bogus=1", 3),
        ("limit=0", 0),
    ):
        assert len(guests.client.get(f"{BASE}?{query}").json()["servers"]) == count, query


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=testing", "marker=unknown", "changes-since=2011/01/01", "sort_key=nothing", "sort_dir=up",
    "name=(", "name=(a%2B)%2B", "all_tenants=perhaps",
])
def test_bad_queries_are_400(guests: Servers, query: str) -> None:
    assert guests.client.get(f"{BASE}?{query}").status_code == 400


def test_unknown_status_depends_on_the_version(guests: Servers) -> None:
    assert guests.client.get(f"{BASE}?status=nope").json() == {"servers": []}
    assert guests.client.get(f"{BASE}?status=nope", version="2.38").status_code == 400
    assert guests.client.get(f"{BASE}?bogus=1", version="2.75").status_code == 400


def test_deleted_servers_are_listed_to_administrators(guests: Servers) -> None:
    server_id = guests.boot(name="goes")
    guests.client.delete(f"{BASE}/{server_id}")
    guests.gone(server_id)
    found = guests.client.get(f"{BASE}/detail?deleted=true&name=goes").json()["servers"]
    assert [(server["id"], server["status"]) for server in found] == [(server_id, "DELETED")]
    assert guests.client.get(f"{BASE}/{server_id}/os-instance-actions", version="2.21").status_code == 200
    assert guests.client.get(f"{BASE}/{server_id}/os-instance-actions", version="2.20").status_code == 404


def test_metadata_and_tags(guests: Servers) -> None:
    own = f"{BASE}/{guests.boot()}"
    client = guests.client
    assert client.post(f"{own}/metadata", {"metadata": {"a": "1", "b": "2"}}).json()["metadata"] == {"a": "1", "b": "2"}
    assert client.put(f"{own}/metadata", {"metadata": {"c": "3"}}).json()["metadata"] == {"c": "3"}
    assert client.put(f"{own}/metadata/d", {"meta": {"d": "4"}}).json() == {"meta": {"d": "4"}}
    assert client.put(f"{own}/metadata/d", {"meta": {"e": "4"}}).status_code == 400
    assert client.delete(f"{own}/metadata/c").status_code == 204
    assert client.get(f"{own}/metadata/c").status_code == 404
    assert client.put(f"{own}/tags/red", version="2.26").status_code == 201
    assert client.put(f"{own}/tags/red", version="2.26").status_code == 204
    assert client.put(f"{own}/tags", {"tags": ["x", "y"]}, version="2.26").json() == {"tags": ["x", "y"]}
    assert len(client.get(f"{BASE}?tags=x,y", version="2.26").json()["servers"]) == 1
    assert client.get(f"{BASE}?tags=x,z", version="2.26").json()["servers"] == []
    assert client.get(f"{own}/tags", version="2.25").status_code == 404


def test_interfaces_come_and_go(guests: Servers, network: str) -> None:
    own = f"{BASE}/{guests.boot()}/os-interface"
    made = guests.client.post(own, {"interfaceAttachment": {"net_id": network}})
    assert made.status_code == 200, made.text
    port_id = made.json()["interfaceAttachment"]["port_id"]
    path = f"{own}/{port_id}"
    eventually(
        guests.client,
        lambda: guests.client.get(path).json()["interfaceAttachment"]["port_state"] == "ACTIVE",
    )
    assert guests.client.delete(path).status_code == 202
    eventually(guests.client, lambda: guests.client.get(path).status_code == 404)
    assert guests.client.get(f"/network/v2.0/ports/{port_id}").status_code == 404
