"""Nodes as administrators see them: services, hypervisors, aggregates, zones, hosts, usage, migrations."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import nodes
from pileus.compute.tables import migration, node
from pileus.placement import providers
from pileus.placement.tables import inventory
from tests.api.compute.people import Person, join
from tests.api.compute.rows import FACTS, add_node, add_server
from tests.api.conftest import Client

V = "/compute/v2.1"
SERVICES = V + "/os-services"
HYPER = V + "/os-hypervisors"
AGGREGATES = V + "/os-aggregates"
AUDIT = V + "/os-instance_usage_audit_log"


@pytest.fixture
def host(cloud: Cloud) -> str:
    return add_node(cloud)


@pytest.fixture(scope="module")
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


def service_of(admin: Client, host: str, version: str | None = None) -> Any:
    return admin.get(f"{SERVICES}?host={host}", version=version).json()["services"][0]


def traits_of(cloud: Cloud, host: str) -> frozenset[str]:
    row = cloud.db.run_sync(lambda tx: nodes.by_name(tx, host))
    assert row is not None
    return cloud.db.run_sync(lambda tx: providers.need(tx, row.id).traits)


# -- registration


def test_a_node_that_registers_can_be_scheduled_to(cloud: Cloud, admin: Client, host: str) -> None:
    row = cloud.db.run_sync(lambda tx: nodes.by_name(tx, host))
    assert row is not None
    stock = cloud.db.run_sync(lambda tx: tx.all(sa.select(inventory).where(inventory.c.provider_id == row.id)))
    assert {(s.resource_class, s.total, s.reserved, s.allocation_ratio) for s in stock} == {
        ("VCPU", 8, 0, 16.0), ("MEMORY_MB", 16_384, 512, 1.0), ("DISK_GB", 100, 0, 1.0),
    }
    assert traits_of(cloud, host) == {"HW_CPU_X86_SSE"}
    assert service_of(admin, host)["state"] == "up"


def test_registering_again_keeps_the_id_and_brings_new_facts(cloud: Cloud, admin: Client, host: str) -> None:
    before = service_of(admin, host, "2.53")["id"]
    add_node(cloud, host, msgspec.structs.replace(FACTS, vcpus=4))
    assert service_of(admin, host, "2.53")["id"] == before
    shown = admin.get(f"{HYPER}/{before}", version="2.53").json()["hypervisor"]
    assert shown["vcpus"] == 4


def test_heartbeats_keep_a_node_up(cloud: Cloud, admin: Client, host: str) -> None:
    late = cloud.world.now() - nodes.DEAD_AFTER - 1
    cloud.db.run_sync(lambda tx: tx.execute(node.update().where(node.c.name == host).values(seen=late)))
    assert service_of(admin, host)["state"] == "down"
    cloud.db.run_sync(lambda tx: nodes.heartbeat(tx, cloud, host))
    assert service_of(admin, host)["state"] == "up"


def test_a_heartbeat_with_facts_makes_a_deleted_service_again(cloud: Cloud, admin: Client, host: str) -> None:
    wanted = service_of(admin, host, "2.53")["id"]
    assert admin.delete(f"{SERVICES}/{wanted}", version="2.53").status_code == 204
    cloud.db.run_sync(lambda tx: nodes.heartbeat(tx, cloud, host))
    assert admin.get(f"{SERVICES}?host={host}").json()["services"] == []
    cloud.db.run_sync(lambda tx: nodes.heartbeat(tx, cloud, host, FACTS))
    assert service_of(admin, host)["state"] == "up"


# -- services


@pytest.mark.parametrize(("version", "kind", "more"), [
    (None, int, set()), ("2.11", int, {"forced_down"}), ("2.53", str, {"forced_down"}),
])
def test_services_by_version(admin: Client, host: str, version: str | None, kind: type, more: set[str]) -> None:
    shown = service_of(admin, host, version)
    assert set(shown) == more | {
        "id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason",
    }
    assert isinstance(shown["id"], kind)
    assert (shown["binary"], shown["zone"], shown["status"]) == ("nova-compute", "nova", "enabled")
    assert admin.get(SERVICES + "?binary=nova-scheduler").json()["services"] == []


def test_disabling_is_known_to_placement(cloud: Cloud, admin: Client, host: str) -> None:
    body = {"host": host, "binary": "nova-compute"}
    reply = admin.put(SERVICES + "/disable-log-reason", {**body, "disabled_reason": "repair"})
    assert reply.json() == {"service": {**body, "status": "disabled", "disabled_reason": "repair"}}
    assert traits_of(cloud, host) == {"HW_CPU_X86_SSE", "COMPUTE_STATUS_DISABLED"}
    assert service_of(admin, host)["disabled_reason"] == "repair"
    cloud.db.run_sync(lambda tx: nodes.register(tx, cloud, host, FACTS))
    assert "COMPUTE_STATUS_DISABLED" in traits_of(cloud, host)
    assert admin.put(SERVICES + "/enable", body).json() == {"service": {**body, "status": "enabled"}}
    assert traits_of(cloud, host) == {"HW_CPU_X86_SSE"}
    assert admin.put(SERVICES + "/disable", body).json() == {"service": {**body, "status": "disabled"}}


@pytest.mark.parametrize(("action", "body", "status"), [
    ("enable", {"host": "nowhere", "binary": "nova-compute"}, 404), ("enable", {"host": "nowhere"}, 400),
    ("enable", {"host": "nowhere", "binary": "nova-scheduler"}, 400),
    ("fly", {"host": "nowhere", "binary": "nova-compute"}, 404),
    ("force-down", {"host": "nowhere", "binary": "nova-compute"}, 404),
    ("disable-log-reason", {"host": "nowhere", "binary": "nova-compute"}, 400),
    ("enable", {"host": "h" * 256, "binary": "nova-compute"}, 400),
])
def test_old_updates_that_fail(admin: Client, action: str, body: dict[str, Any], status: int) -> None:
    assert admin.put(f"{SERVICES}/{action}", body).status_code == status


def test_forced_down(admin: Client, host: str) -> None:
    body = {"host": host, "binary": "nova-compute", "forced_down": True}
    assert admin.put(SERVICES + "/force-down", body, version="2.11").json() == {"service": body}
    assert service_of(admin, host)["state"] == "down"
    path = f"{SERVICES}/{service_of(admin, host, '2.53')['id']}"
    shown = admin.put(path, {"forced_down": False, "status": "disabled", "disabled_reason": "r"}, version="2.53")
    assert shown.json()["service"] == service_of(admin, host, "2.53")
    assert (shown.json()["service"]["state"], shown.json()["service"]["status"]) == ("up", "disabled")


@pytest.mark.parametrize(("body", "status"), [
    ({}, 400), ({"status": "enabled", "disabled_reason": "x"}, 400), ({"status": "gone"}, 400),
    ({"disabled_reason": "x"}, 400), ({"forced_down": "x"}, 400), ({"host": "x"}, 400),
])
def test_new_updates_that_fail(admin: Client, host: str, body: dict[str, Any], status: int) -> None:
    path = f"{SERVICES}/{service_of(admin, host, '2.53')['id']}"
    assert admin.put(path, body, version="2.53").status_code == status
    assert admin.put(f"{SERVICES}/{uuid.uuid4()}", {"status": "enabled"}, version="2.53").status_code == 404
    assert admin.put(f"{SERVICES}/1", {"status": "enabled"}, version="2.53").status_code == 400


def test_a_service_with_servers_is_not_deleted(cloud: Cloud, admin: Client, host: str) -> None:
    add_server(cloud, "someone", host=host)
    number = service_of(admin, host)["id"]
    assert admin.delete(f"{SERVICES}/{number}").status_code == 409
    assert admin.delete(f"{SERVICES}/abc").status_code == 400
    assert admin.delete(f"{SERVICES}/99999999").status_code == 404


# -- hypervisors


def test_hypervisors_count_what_servers_take(cloud: Cloud, admin: Client, host: str) -> None:
    inside = add_server(cloud, "someone", host=host, name="inside")
    add_server(cloud, "someone", host=host, deleted=True)
    number = service_of(admin, host)["id"]
    shown = admin.get(f"{HYPER}/{number}").json()["hypervisor"]
    assert (shown["vcpus"], shown["vcpus_used"], shown["running_vms"]) == (8, 2, 1)
    assert (shown["memory_mb"], shown["memory_mb_used"], shown["free_ram_mb"]) == (16_384, 1024, 15_360)
    assert (shown["local_gb"], shown["local_gb_used"], shown["free_disk_gb"]) == (100, 3, 97)
    assert shown["service"] == {"id": number, "host": host, "disabled_reason": None}
    assert msgspec.json.decode(shown["cpu_info"])["arch"] == "x86_64"
    listed = admin.get(HYPER + "/detail").json()["hypervisors"]
    assert shown in listed
    assert admin.get(f"{HYPER}/{host}/servers").json()["hypervisors"][0]["servers"] == [
        {"uuid": inside, "name": "inside"}
    ]


def test_hypervisors_by_version(admin: Client, host: str) -> None:
    brief = {"id", "hypervisor_hostname", "state", "status"}
    assert set(admin.get(HYPER).json()["hypervisors"][0]) == brief
    old = admin.get(f"{HYPER}/{service_of(admin, host)['id']}", version="2.28").json()["hypervisor"]
    assert old["cpu_info"]["features"] == ["sse"]
    wanted = service_of(admin, host, "2.53")["id"]
    new = admin.get(f"{HYPER}/{wanted}", version="2.88").json()["hypervisor"]
    assert set(new) == brief | {"hypervisor_type", "hypervisor_version", "host_ip", "service", "uptime"}
    assert new["service"]["id"] == wanted
    with_servers = admin.get(f"{HYPER}?hypervisor_hostname_pattern={host}&with_servers=true", version="2.75").json()
    assert [h["servers"] for h in with_servers["hypervisors"]] == [[]]


def test_hypervisors_in_pages(cloud: Cloud, admin: Client) -> None:
    for _ in range(3):
        add_node(cloud)
    first = admin.get(HYPER + "?limit=2", version="2.53").json()
    after = first["hypervisors_links"][0]["href"].removeprefix("http://cloud.test")
    second = admin.get(after, version="2.53").json()["hypervisors"]
    assert len(first["hypervisors"]) == 2
    assert second
    assert not {h["id"] for h in second} & {h["id"] for h in first["hypervisors"]}


@pytest.mark.parametrize(("path", "version", "status"), [
    ("/99999999", None, 404), ("/abc", None, 404), ("/abc", "2.53", 400),
    ("/11111111-1111-4111-8111-111111111111", "2.53", 404), ("/%25/search", None, 404), ("/x/search", "2.53", 404),
    ("/nothere/search", None, 404), ("/nothere/servers", None, 404), ("?marker=abc", "2.53", 400),
    ("?marker=abc", "2.33", 400), ("?hypervisor_hostname_pattern=x&limit=1", "2.53", 400),
    ("?hypervisor_hostname_pattern=nothere", "2.53", 404), ("/statistics", "2.88", 404),
    ("?with_servers=perhaps", "2.53", 400), ("?colour=red", "2.75", 400),
])
def test_hypervisors_that_are_not(admin: Client, path: str, version: str | None, status: int) -> None:
    assert admin.get(HYPER + path, version=version).status_code == status


def test_statistics_and_uptime(admin: Client, host: str) -> None:
    sums = admin.get(HYPER + "/statistics").json()["hypervisor_statistics"]
    assert sums["vcpus"] == 8 * sums["count"] - 4  # one registered again with 4
    assert admin.get(f"{HYPER}/{service_of(admin, host)['id']}/uptime").status_code == 400


# -- aggregates and zones


@pytest.fixture
def aggregate(admin: Client) -> Iterator[Any]:
    made = admin.post(AGGREGATES, {"aggregate": {"name": uuid.uuid4().hex}}).json()["aggregate"]
    assert set(made) == {"id", "name", "availability_zone", "created_at", "updated_at", "deleted", "deleted_at"}
    yield made
    for host in admin.get(f"{AGGREGATES}/{made['id']}").json().get("aggregate", {}).get("hosts", []):
        admin.post(f"{AGGREGATES}/{made['id']}/action", {"remove_host": {"host": host}})
    admin.delete(f"{AGGREGATES}/{made['id']}")


def test_an_aggregate_lives(cloud: Cloud, admin: Client, host: str, aggregate: Any) -> None:
    path = f"{AGGREGATES}/{aggregate['id']}"
    added = admin.post(path + "/action", {"add_host": {"host": host}}).json()["aggregate"]
    assert added["hosts"] == [host]
    row = cloud.db.run_sync(lambda tx: nodes.by_name(tx, host))
    assert row is not None
    in_placement = cloud.db.run_sync(lambda tx: providers.need(tx, row.id).aggregates)
    assert in_placement == {admin.get(path, version="2.41").json()["aggregate"]["uuid"]}
    assert admin.post(path + "/action", {"add_host": {"host": host}}).status_code == 409
    assert admin.delete(path).status_code == 400
    change = {"set_metadata": {"metadata": {"ssd": "true", "gone": "x"}}}
    assert admin.post(path + "/action", change).json()["aggregate"]["metadata"] == {"ssd": "true", "gone": "x"}
    less: dict[str, Any] = {"set_metadata": {"metadata": {"gone": None}}}
    assert admin.post(path + "/action", less).json()["aggregate"]["metadata"] == {"ssd": "true"}
    removed = admin.post(path + "/action", {"remove_host": {"host": host}}).json()["aggregate"]
    assert removed["hosts"] == []
    assert cloud.db.run_sync(lambda tx: providers.need(tx, row.id).aggregates) == frozenset()
    assert admin.post(path + "/action", {"remove_host": {"host": host}}).status_code == 404
    assert admin.delete(path).status_code == 200
    assert admin.get(path).status_code == 404


def test_an_aggregate_makes_a_zone(admin: Client, member: Person, host: str, aggregate: Any) -> None:
    path = f"{AGGREGATES}/{aggregate['id']}"
    admin.post(path + "/action", {"add_host": {"host": host}})
    shown = admin.put(path, {"aggregate": {"availability_zone": "east"}}).json()["aggregate"]
    assert (shown["availability_zone"], shown["metadata"]) == ("east", {"availability_zone": "east"})
    assert service_of(admin, host)["zone"] == "east"
    zones = member.client.get(V + "/os-availability-zone").json()["availabilityZoneInfo"]
    assert {"zoneName": "east", "zoneState": {"available": True}, "hosts": None} in zones
    detail = admin.get(V + "/os-availability-zone/detail").json()["availabilityZoneInfo"]
    east = next(zone for zone in detail if zone["zoneName"] == "east")
    assert east["hosts"][host]["nova-compute"]["active"] is True
    admin.put(SERVICES + "/disable", {"host": host, "binary": "nova-compute"})
    zones = member.client.get(V + "/os-availability-zone").json()["availabilityZoneInfo"]
    assert {"zoneName": "east", "zoneState": {"available": False}, "hosts": None} in zones


def test_a_host_is_in_one_zone(admin: Client, host: str, aggregate: Any) -> None:
    west = admin.post(AGGREGATES, {"aggregate": {"name": "west", "availability_zone": "west"}}).json()["aggregate"]
    action = f"{AGGREGATES}/{west['id']}/action"
    try:
        assert admin.post(action, {"add_host": {"host": host}}).status_code == 200
        admin.put(f"{AGGREGATES}/{aggregate['id']}", {"aggregate": {"availability_zone": "east"}})
        reply = admin.post(f"{AGGREGATES}/{aggregate['id']}/action", {"add_host": {"host": host}})
        assert reply.status_code == 409
        assert "west" in reply.json()["conflictingRequest"]["message"]
    finally:
        admin.post(action, {"remove_host": {"host": host}})
        admin.delete(f"{AGGREGATES}/{west['id']}")


def test_a_zone_does_not_change_under_servers(cloud: Cloud, admin: Client, host: str, aggregate: Any) -> None:
    path = f"{AGGREGATES}/{aggregate['id']}"
    admin.post(path + "/action", {"add_host": {"host": host}})
    add_server(cloud, "someone", host=host)
    assert admin.put(path, {"aggregate": {"availability_zone": "east"}}).status_code == 400
    change = {"set_metadata": {"metadata": {"availability_zone": "east"}}}
    assert admin.post(path + "/action", change).status_code == 400


@pytest.mark.parametrize(("method", "path", "body", "status"), [
    ("POST", "", {"aggregate": {"name": ""}}, 400), ("POST", "", {"aggregate": {"name": "n" * 256}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "availability_zone": "a:b"}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "hosts": []}}, 400), ("GET", "/abc", None, 400),
    ("GET", "/99999999", None, 404), ("GET", "/-1", None, 404), ("DELETE", "/99999999", None, 404),
    ("PUT", "/99999999", {"aggregate": {}}, 404),
    ("POST", "/99999999/action", {"add_host": {"host": "h"}}, 404), ("POST", "/1/action", {}, 400),
])
def test_aggregates_that_are_not(admin: Client, method: str, path: str, body: Any, status: int) -> None:
    assert admin.request(method, AGGREGATES + path, json=body).status_code == status


def test_an_unknown_host_and_a_taken_name(admin: Client, aggregate: Any) -> None:
    path = f"{AGGREGATES}/{aggregate['id']}"
    assert admin.post(path + "/action", {"add_host": {"host": "nowhere"}}).status_code == 404
    assert admin.post(AGGREGATES, {"aggregate": {"name": aggregate["name"]}}).status_code == 409
    assert admin.put(path, {"aggregate": {}}).status_code == 400


# -- the usage audit


def test_the_audit_counts_the_servers_of_the_month_before(cloud: Cloud, admin: Client, host: str) -> None:
    def at(*day: int) -> float:
        return datetime(*day, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]

    add_server(cloud, "p", host=host, launched=at(2019, 1, 1), terminated=at(2020, 2, 1, 0, 0, 1), deleted=True)
    add_server(cloud, "p", host=host, launched=at(2020, 2, 29, 23, 59, 59), terminated=at(2021, 1, 1), deleted=True)
    add_server(cloud, "p", host=host, launched=at(2019, 1, 1), terminated=at(2020, 1, 31), deleted=True)
    add_server(cloud, "p", host=host, launched=at(2020, 3, 1))
    found = admin.get(f"{AUDIT}/2020-03-31 12:00:00.5").json()["instance_usage_audit_log"]
    assert (found["period_beginning"], found["period_ending"]) == ("2020-02-01 00:00:00", "2020-03-01 00:00:00")
    assert found["log"][host]["instances"] == 2
    assert found["num_hosts"] == found["num_hosts_done"] == len(found["log"])
    now = admin.get(AUDIT).json()["instance_usage_audit_logs"]
    assert set(now) == set(found)
    assert now["log"][host]["instances"] == 1


@pytest.mark.parametrize("before", ["never", "2020-13-01 00:00:00", "0001-01-01 00:00:00", "2020-01-01"])
def test_the_audit_before_a_time_that_is_none(admin: Client, before: str) -> None:
    assert admin.get(f"{AUDIT}/{before}").status_code == 400


def test_the_audit_is_for_administrators(member: Person) -> None:
    assert member.client.get(AUDIT).status_code == 403


# -- hosts, usage, migrations, events


def test_hosts_up_to_2_42(cloud: Cloud, admin: Client, host: str) -> None:
    add_server(cloud, "someone", host=host)
    lines = [line["resource"] for line in admin.get(f"{V}/os-hosts/{host}").json()["host"]]
    assert [(r["project"], r["cpu"], r["memory_mb"], r["disk_gb"]) for r in lines] == [
        ("(total)", 8, 16_384, 100), ("(used_now)", 2, 1024, 3), ("(used_max)", 2, 512, 3), ("someone", 2, 512, 3),
    ]
    listed = admin.get(V + "/os-hosts?zone=nova").json()["hosts"]
    assert {"host_name": host, "service": "compute", "zone": "nova"} in listed
    assert admin.put(f"{V}/os-hosts/{host}", {"status": "disable"}).json() == {"host": host, "status": "disabled"}
    assert service_of(admin, host)["status"] == "disabled"
    assert admin.put(f"{V}/os-hosts/{host}", {"maintenance_mode": "enable"}).status_code == 400
    assert admin.put(f"{V}/os-hosts/{host}", {}).status_code == 400
    assert admin.get(f"{V}/os-hosts/{host}/reboot").status_code == 400
    assert {"host_name": host, "service": "compute", "zone": "nova"} in admin.get(V + "/os-hosts?zone=").json()["hosts"]
    assert admin.get(V + "/os-hosts/nowhere").status_code == 404
    assert admin.get(f"{V}/os-hosts/{host}", version="2.43").status_code == 404


def test_usage(cloud: Cloud, admin: Client, anonymous: Client) -> None:
    person = join(cloud, anonymous)
    now = cloud.world.now()
    add_server(cloud, person.project_id, launched=now - 7200, created=now - 7200)
    add_server(cloud, person.project_id, launched=now - 7200, terminated=now - 3600, deleted=True)
    path = f"{V}/os-simple-tenant-usage/{person.project_id}?start=2020-01-01T00:00:00"
    usage = person.client.get(path + "&end=2100-01-01T00:00:00").json()["tenant_usage"]
    assert usage["total_hours"] == pytest.approx(3, abs=0.01)
    assert usage["total_vcpus_usage"] == pytest.approx(6, abs=0.02)
    assert sorted(s["state"] for s in usage["server_usages"]) == ["active", "terminated"]
    page = person.client.get(path + "&limit=1", version="2.40").json()
    assert len(page["tenant_usage"]["server_usages"]) == 1
    assert "marker" in page["tenant_usage_links"][0]["href"]
    listed = admin.get(V + "/os-simple-tenant-usage?start=2020-01-01T00:00:00").json()["tenant_usages"]
    assert person.project_id in [u["tenant_id"] for u in listed]
    assert all("server_usages" not in u for u in listed)
    assert person.client.get(V + "/os-simple-tenant-usage").status_code == 403
    assert join(cloud, anonymous).client.get(path).status_code == 403
    assert admin.get(V + "/os-simple-tenant-usage/?start=2020-01-01T00:00:00").status_code == 404
    for query in ("start=yesterday", "start=2100-01-01T00:00:00", ""):
        assert admin.get(f"{V}/os-simple-tenant-usage?{query}").status_code == 400


def test_migrations(cloud: Cloud, admin: Client, member: Person) -> None:
    moved, now = str(uuid.uuid4()), cloud.world.now()
    cloud.db.run_sync(lambda tx: tx.execute(migration.insert().values(
        uuid=moved, server_id=moved, kind="resize", status="confirmed", source="a", dest="b", old_flavor=1,
        new_flavor=2, user_id="u", project_id="p", created=now, updated=now,
    )))
    path = f"{V}/os-migrations?instance_uuid={moved}"
    old = admin.get(path).json()["migrations"]
    assert [m["dest_compute"] for m in old] == ["b"]
    assert "migration_type" not in old[0]
    new = admin.get(path + "&user_id=u", version="2.80").json()["migrations"][0]
    assert (new["uuid"], new["migration_type"], new["project_id"]) == (moved, "resize", "p")
    assert admin.get(path + "&status=running").json()["migrations"] == []
    assert admin.get(path + "&changes-since=2100-01-01T00:00:00Z", version="2.59").json()["migrations"] == []
    assert admin.get(path + "&changes-since=never", version="2.59").status_code == 400
    assert admin.get(path + "&marker=none", version="2.59").status_code == 400
    assert admin.get(path + "&colour=red", version="2.75").status_code == 400
    assert member.client.get(path).status_code == 403


def test_external_events(cloud: Cloud, admin: Client, member: Person, host: str) -> None:
    path, known = V + "/os-server-external-events", add_server(cloud, "someone", host=host)
    event = {"name": "network-changed", "server_uuid": known, "tag": "port"}
    reply = admin.post(path, {"events": [event]})
    assert reply.status_code == 200
    assert reply.json() == {"events": [{**event, "status": "completed", "code": 200}]}
    unknown = {"name": "network-changed", "server_uuid": str(uuid.uuid4())}
    assert admin.post(path, {"events": [event, unknown]}).status_code == 207
    assert admin.post(path, {"events": [unknown]}).status_code == 404
    assert admin.post(path, {"events": []}).status_code == 400
    assert admin.post(path, {"events": [{**event, "name": "party"}]}).status_code == 400
    assert member.client.post(path, {"events": [event]}).status_code == 403


def test_members_see_nothing_of_it(member: Person) -> None:
    for path in (SERVICES, HYPER, HYPER + "/detail", HYPER + "/statistics", AGGREGATES, V + "/os-hosts",
                 V + "/os-migrations", V + "/os-availability-zone/detail"):
        assert member.client.get(path).status_code == 403, path


def test_extensions(member: Person) -> None:
    listed = member.client.get(V + "/extensions").json()["extensions"]
    assert member.client.get(V + "/extensions/os-keypairs").json()["extension"] in listed
    assert member.client.get(V + "/extensions/os-fping").status_code == 404
