"""What the volume service tells of itself: services, hosts, pools, zones, extensions, filters, clusters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from pileus.cloud import Cloud
from pileus.volume.tables import backend
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type
from tests.api.volume.test_types import put


def services(operator: Volumes, query: str = "", version: str = "3.71") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator.get("/os-services" + query, version)["services"]
    return found


def keeper(operator: Volumes) -> str:
    """The host of a cinder-volume."""
    return str(services(operator, "?binary=cinder-volume")[0]["host"])


def test_each_node_and_each_controller_has_its_services(operator: Volumes, volumes: Volumes) -> None:
    found = services(operator)
    assert {one["binary"] for one in found} == {"cinder-volume", "cinder-backup", "cinder-scheduler"}
    assert {one["state"] for one in found} == {"up"}
    assert {one["status"] for one in found} == {"enabled"}
    kept = services(operator, "?binary=cinder-volume")
    assert len(kept) == 2
    node, _, backend = kept[0]["host"].partition("@")
    assert backend == "fake"
    assert {one["binary"] for one in services(operator, f"?host={node}")} == {"cinder-volume", "cinder-backup"}
    assert services(operator, "?binary=nothing") == []
    fields = {version: set(services(operator, "?binary=cinder-volume", version)[0]) for version in
              ("3.0", "3.7", "3.49")}
    assert fields["3.7"] - fields["3.0"] == {"cluster"}
    assert fields["3.49"] - fields["3.7"] == {"backend_state"}
    volumes.refused(volumes.client.get(f"{V3}/os-services"), 403)


def test_a_disabled_node_gets_no_new_volumes(operator: Volumes, volumes: Volumes) -> None:
    hosts = [one["host"] for one in services(operator, "?binary=cinder-volume")]
    try:
        for host in hosts:
            body = {"binary": "cinder-volume", "host": host, "disabled_reason": "moving house"}
            reply = put(operator, "/os-services/disable-log-reason", body)
            assert reply.json() == {
                "binary": "cinder-volume", "service": "cinder-volume", "host": host, "disabled": True,
                "status": "disabled", "disabled_reason": "moving house",
            }
        assert services(operator, f"?host={hosts[0]}")[0]["disabled_reason"] == "moving house"
        assert operator.get("/os-availability-zone")["availabilityZoneInfo"] == [
            {"zoneName": "nova", "zoneState": {"available": False}}
        ]
        volumes.make("error")
    finally:
        for host in hosts:
            reply = put(operator, "/os-services/enable", {"binary": "cinder-volume", "host": host})
            assert reply.json()["disabled_reason"] is None
    assert services(operator, f"?host={hosts[0]}")[0]["status"] == "enabled"
    assert operator.get("/os-availability-zone")["availabilityZoneInfo"][0]["zoneState"] == {"available": True}
    volumes.drop(volumes.make())


def test_a_frozen_node_says_so(operator: Volumes) -> None:
    host = keeper(operator)
    assert put(operator, "/os-services/freeze", {"host": host}).status_code == 200
    [found] = services(operator, f"?host={host}")
    assert (found["frozen"], found["status"], found["disabled_reason"]) == (True, "disabled", "frozen")
    assert put(operator, "/os-services/thaw", {"host": host}).status_code == 200
    [found] = services(operator, f"?host={host}")
    assert (found["frozen"], found["status"]) == (False, "enabled")
    assert put(operator, "/os-services/disable", {"binary": "cinder-volume", "host": host}).json().keys() == {
        "binary", "service", "host", "disabled", "status"
    }
    assert put(operator, "/os-services/enable", {"service": "cinder-volume", "host": host}).status_code == 200


@pytest.mark.parametrize(("action", "body", "status"), [
    ("enable", {"host": "nowhere", "binary": "cinder-volume"}, 404), ("disable", {"host": "HOST", "binary": "x"}, 404),
    ("disable", {"binary": "cinder-volume"}, 400),
    ("disable-log-reason", {"host": "HOST", "binary": "cinder-volume"}, 400),
    ("freeze", {"host": "nowhere"}, 400), ("thaw", {}, 400), ("explode", {"host": "HOST"}, 404),
    ("failover_host", {"host": "HOST"}, 400), ("failover", {"host": "HOST"}, 400),
    ("disable", {"host": "NODE", "binary": "cinder-backup"}, 400),
])
def test_what_cannot_be_done_to_services(operator: Volumes, action: str, body: dict[str, str], status: int) -> None:
    host = keeper(operator)
    names = {"HOST": host, "NODE": host.partition("@")[0]}
    said = {name: names.get(value, value) for name, value in body.items()}
    operator.refused(put(operator, f"/os-services/{action}", said), status)


def test_hosts_tell_what_they_keep(operator: Volumes, volumes: Volumes) -> None:
    one = volumes.make(size=3)
    volumes.snap(one)
    host = operator.show(one)["os-vol-host-attr:host"].partition("#")[0]
    listed = operator.get("/os-hosts")["hosts"]
    assert len(listed) >= 5
    assert {line["service-state"] for line in listed} == {"enabled"}
    lines = [line["resource"] for line in operator.get(f"/os-hosts/{host}")["host"]]
    project = volumes.show(one)["os-vol-tenant-attr:tenant_id"]
    total, mine = lines[0], next(line for line in lines if line["project"] == project)
    assert total["project"] == "(total)"
    assert (mine["volume_count"], mine["total_volume_gb"], mine["snapshot_count"]) == ("1", "3", "1")
    assert int(total["total_snapshot_gb"]) >= 3
    operator.refused(operator.client.get(f"{V3}/os-hosts/nowhere"), 404)
    volumes.refused(volumes.client.get(f"{V3}/os-hosts"), 403)


def test_pools_are_the_nodes_that_keep_volumes(operator: Volumes, volumes: Volumes) -> None:
    pools = operator.get("/scheduler-stats/get_pools")["pools"]
    assert [set(one) for one in pools] == [{"name"}, {"name"}]
    details = operator.get("/scheduler-stats/get_pools?detail=True")["pools"]
    said = details[0]["capabilities"]
    assert (said["vendor_name"], said["storage_protocol"], said["backend_state"]) == ("Pileus", "NBD", "up")
    name = details[0]["name"]
    assert operator.get(f"/scheduler-stats/get_pools?name={name.replace('#', '%23')}")["pools"] == [{"name": name}]
    there = make_type(operator, extra_specs={"volume_backend_name": said["volume_backend_name"]})
    found = operator.get(f"/scheduler-stats/get_pools?volume_type={there['name']}")["pools"]
    assert found == [{"name": name}]
    assert operator.show(operator.make(volume_type=there["name"]))["os-vol-host-attr:host"] == name
    volumes.refused(volumes.client.get(f"{V3}/scheduler-stats/get_pools"), 403)
    host = name.partition("#")[0]
    able = operator.get(f"/capabilities/{host}")
    assert able["volume_backend_name"] == said["volume_backend_name"]
    assert able["namespace"] == f"OS::Storage::Capabilities::{host}"
    assert "encryption" not in able["properties"]
    assert operator.get(f"/capabilities/{name.replace('#', '%23')}") == able
    operator.refused(operator.client.get(f"{V3}/capabilities/nowhere"), 404)


def test_extensions_filters_and_clusters(volumes: Volumes, operator: Volumes) -> None:
    listed = volumes.get("/extensions")["extensions"]
    assert "os-hosts" in {one["alias"] for one in listed}
    assert volumes.get("/extensions/os-hosts")["extension"]["name"] == "Hosts"
    volumes.refused(volumes.client.get(f"{V3}/extensions/os-nothing"), 404)
    [found] = volumes.get("/resource_filters?resource=backup")["resource_filters"]
    assert found["resource"] == "backup"
    assert "name" in found["filters"]
    for name in found["filters"]:
        if name not in ("metadata", "size"):
            assert volumes.get(f"/backups?{name}=x")["backups"] == []
    assert len(volumes.get("/resource_filters")["resource_filters"]) == 9
    assert operator.get("/clusters") == operator.get("/clusters/detail") == {"clusters": []}
    operator.refused(operator.client.get(f"{V3}/clusters/one", version="3.7"), 404)


def test_nothing_is_cleaned_up_elsewhere_and_what_is_down_is_unavailable(operator: Volumes, cloud: Cloud) -> None:
    def clean(**asked: Any) -> Any:
        reply = operator.post("/workers/cleanup", asked, "3.24")
        assert reply.status_code == 202, reply.text
        found = reply.json()
        assert found.pop("cleaning") == []
        assert set(found) == {"unavailable"}
        return [one["host"] for one in found["unavailable"]]

    assert clean() == []
    gone = "nowhere"
    cloud.db.run_sync(lambda tx: tx.execute(backend.insert().values(
        node=gone, id="an-id", backend="fake", total_gib=1.0, free_gib=1.0, disabled=True, seen=0.0, created=0.0,
        updated=0.0,
    )))
    try:
        [one] = operator.post("/workers/cleanup", {}, "3.24").json()["unavailable"]
        assert one == {"id": "an-id", "host": "nowhere@fake", "binary": "cinder-volume", "cluster_name": None}
        for asked in ({"host": gone}, {"service_id": "an-id"}, {"disabled": True}, {"binary": "cinder-volume"},
                      {"resource_type": "volume", "resource_id": str(UUID(int=1)), "host": gone}):
            assert clean(**asked) == ["nowhere@fake"], asked
        for asked in ({"host": "x"}, {"service_id": 7}, {"disabled": "false"}, {"binary": "cinder-scheduler"},
                      {"cluster_name": "x"}, {"is_up": True}):
            assert clean(**asked) == [], asked
    finally:
        cloud.db.run_sync(lambda tx: tx.execute(backend.delete().where(backend.c.node == gone)))
    for wrong in ({"colour": 1}, {"binary": "cinder-backup"}, {"resource_type": "Backup"}, {"resource_id": "x"},
                  {"resource_id": str(UUID(int=1))}):
        operator.refused(operator.post("/workers/cleanup", wrong, "3.24"), 400)
    assert operator.post("/workers/cleanup", {}, "3.23").status_code == 404


def test_there_are_no_clusters_to_name(operator: Volumes) -> None:
    host = keeper(operator)
    for action in ("freeze", "thaw", "failover"):
        operator.refused(put(operator, f"/os-services/{action}", {"host": host, "cluster": "x"}), 400, "cluster")
    listed = f"{V3}/manageable_volumes?host={host}&cluster=x"
    operator.refused(operator.client.get(listed, version="3.17"), 400, "cluster")
    assert operator.client.get(listed, version="3.16").status_code == 200
    made, move = operator.make(), "os-migrate_volume"
    operator.refused(operator.act(made, move, {"host": host, "cluster": "x"}, "3.16"), 400, "cluster")
    operator.refused(operator.act(made, move, {"host": host, "cluster": None}, "3.15"), 400, "unexpected")
    operator.drop(made)


def test_pools_by_what_they_can(operator: Volumes) -> None:
    path = "/scheduler-stats/get_pools"
    assert len(operator.get(f"{path}?multiattach=True", "3.28")["pools"]) == 2
    assert operator.get(f"{path}?multiattach=False", "3.28")["pools"] == []
    assert operator.get(f"{path}?colour=red&detail=True", "3.30")["pools"] == []
    assert len(operator.get(f"{path}?colour=red", "3.27")["pools"]) == 2
    operator.refused(operator.client.get(f"{V3}{path}?colour=red", version="3.31"), 400, "colour")


@pytest.mark.parametrize(("resource", "path"), [
    ("volume", "/volumes"), ("snapshot", "/snapshots"), ("group", "/groups"), ("group_snapshot", "/group_snapshots"),
    ("message", "/messages"), ("attachment", "/attachments"),
])
def test_what_is_told_to_be_a_filter_is_one(volumes: Volumes, resource: str, path: str) -> None:
    [found] = volumes.get(f"/resource_filters?resource={resource}")["resource_filters"]
    values = {"size": "1", "bootable": "true", "multiattach": "true", "metadata": "{'a':'b'}", "glance_metadata":
              "{'a':'b'}", "consumes_quota": "true", "created_at": "gt:2099-01-01T00:00:00",
              "updated_at": "gt:2099-01-01T00:00:00"}
    for name in found["filters"]:
        reply = volumes.client.get(f"{V3}{path}?{name}={values.get(name, 'x')}", version="3.71")
        assert reply.status_code in (200, 404), (name, reply.text)
    volumes.refused(volumes.client.get(f"{V3}{path}?colour=x", version="3.71"), 400, "colour")
