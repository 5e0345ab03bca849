"""Attachments: how a volume gets to a host, by the attachments API and by the older actions."""

from __future__ import annotations

from typing import Any

from pileus.cloud import Cloud
from tests.api.compute.people import Person, join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes

SERVER = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


def _attach(volumes: Volumes, disk: str, **fields: Any) -> dict[str, Any]:
    reply = volumes.post("/attachments", {"attachment": {"volume_uuid": disk, **fields}})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["attachment"]
    return found


def test_a_host_gets_a_volume_and_gives_it_back(volumes: Volumes) -> None:
    disk = volumes.make()
    made = _attach(volumes, disk, mode="ro")
    assert (made["status"], made["connection_info"], made["attach_mode"]) == ("reserved", {}, "ro")
    assert volumes.show(disk)["status"] == "reserved"
    path = f"{V3}/attachments/{made['id']}"
    reply = volumes.client.put(path, {"attachment": {"connector": {"host": "rack1"}}}, version="3.71")
    info = reply.json()["attachment"]["connection_info"]
    assert (reply.status_code, info["driver_volume_type"], info["data"]["access_mode"]) == (200, "nbd", "ro")
    assert volumes.show(disk)["status"] == "attaching"
    assert volumes.post(f"/attachments/{made['id']}/action", {"os-complete": {}}).status_code == 204
    shown = volumes.show(disk)
    assert (shown["status"], shown["attachments"][0]["attachment_id"]) == ("in-use", made["id"])
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{disk}"), 400, "Detach")
    reply = volumes.client.delete(path, version="3.71")
    assert (reply.status_code, reply.json()) == (200, {"attachments": []})
    assert volumes.show(disk)["status"] == "available"
    volumes.drop(disk)


def test_each_time_with_another_key(volumes: Volumes) -> None:
    disk = volumes.make()
    keys = set()
    for _ in range(2):
        made = _attach(volumes, disk, connector={"host": "rack1"})
        keys.add(made["connection_info"]["data"]["tls_psk"])
        volumes.client.delete(f"{V3}/attachments/{made['id']}", version="3.71")
    assert len(keys) == 2


def test_one_that_is_taken_cannot_be_taken_again(volumes: Volumes) -> None:
    disk = volumes.make()
    _attach(volumes, disk, instance_uuid=SERVER)
    body = {"attachment": {"volume_uuid": disk, "instance_uuid": SERVER}}
    volumes.refused(volumes.post("/attachments", body), 400, "reserved")
    volumes.refused(volumes.act(disk, "os-extend", {"new_size": 2}), 400, "reserved")


def test_what_is_not_connected_is_not_complete(volumes: Volumes) -> None:
    made = _attach(volumes, volumes.make())
    volumes.refused(volumes.post(f"/attachments/{made['id']}/action", {"os-complete": {}}), 400, "connect")
    volumes.refused(volumes.post(f"/attachments/{made['id']}/action", {"os-dance": {}}), 400)


def test_a_node_that_cannot_give_it_out_says_why(volumes: Volumes) -> None:
    disk = volumes.make(metadata={"fake:export_error": "no port is free"})
    body = {"attachment": {"volume_uuid": disk, "connector": {"host": "rack1"}}}
    volumes.refused(volumes.post("/attachments", body), 409, "no port is free")
    [left] = volumes.get("/attachments")["attachments"]
    volumes.client.delete(f"{V3}/attachments/{left['id']}", version="3.71")
    assert volumes.show(disk)["status"] == "available"


def test_readers_never_see_the_key(cloud: Cloud, anonymous: Client, volumes: Volumes, person: Person) -> None:
    made = _attach(volumes, volumes.make(), connector={"host": "rack1"})
    reader = join(cloud, anonymous, "reader", person.project_id).client
    path = f"{V3}/attachments/{made['id']}"
    assert reader.get(path, version="3.71").json()["attachment"]["connection_info"] == {}
    assert volumes.get(f"/attachments/{made['id']}")["attachment"]["connection_info"]["data"]["tls_psk"]
    assert "psk" not in reader.get(f"{V3}/attachments/detail", version="3.71").text
    stranger = join(cloud, anonymous).client
    assert stranger.get(path, version="3.71").status_code == 404
    assert stranger.delete(path, version="3.71").status_code == 404


def test_attachments_are_listed(volumes: Volumes) -> None:
    first, second = volumes.make(), volumes.make()
    made = _attach(volumes, first, instance_uuid=SERVER)
    _attach(volumes, second)
    found = volumes.get(f"/attachments?volume_id={first}")["attachments"]
    assert found == [{"id": made["id"], "status": "reserved", "instance": SERVER, "volume_id": first}]
    assert len(volumes.get("/attachments/detail")["attachments"]) == 2
    assert volumes.client.get(f"{V3}/attachments", version="3.26").status_code == 404


def test_the_older_way(volumes: Volumes, operator: Volumes) -> None:
    disk = volumes.make()
    assert volumes.act(disk, "os-reserve").status_code == 202
    assert volumes.show(disk)["status"] == "attaching"
    volumes.refused(volumes.act(disk, "os-reserve"), 400)
    assert volumes.act(disk, "os-unreserve").status_code == 202
    assert volumes.show(disk)["status"] == "available"
    volumes.act(disk, "os-reserve")
    reply = volumes.act(disk, "os-initialize_connection", {"connector": {"host": "rack1"}})
    assert (reply.status_code, reply.json()["connection_info"]["driver_volume_type"]) == (200, "nbd")
    where = {"instance_uuid": SERVER, "mountpoint": "/dev/vdb"}
    assert volumes.act(disk, "os-attach", where).status_code == 202
    [attached] = volumes.show(disk)["attachments"]
    assert (attached["server_id"], attached["device"], attached["host_name"]) == (SERVER, "/dev/vdb", None)
    assert operator.show(disk)["attachments"][0]["host_name"] == "rack1"
    volumes.act(disk, "os-begin_detaching")
    assert volumes.show(disk)["status"] == "detaching"
    volumes.act(disk, "os-roll_detaching")
    assert volumes.show(disk)["status"] == "in-use"
    assert volumes.act(disk, "os-terminate_connection", {"connector": {"host": "rack1"}}).status_code == 202
    assert volumes.act(disk, "os-detach", {"attachment_id": attached["attachment_id"]}).status_code == 202
    assert volumes.show(disk)["status"] == "available"
    assert volumes.act(disk, "os-detach", {}).status_code == 202  # as it is already
    volumes.refused(volumes.act(disk, "os-detach", {"attachment_id": attached["attachment_id"]}), 400)


def test_force_detach_is_for_operators(volumes: Volumes, operator: Volumes) -> None:
    disk = volumes.make()
    volumes.act(disk, "os-attach", {"instance_uuid": SERVER, "mountpoint": "/dev/vdb"})
    operator.act(disk, "os-reset_status", {"status": "error"})
    value = {"attachment_id": volumes.show(disk)["attachments"][0]["attachment_id"], "connector": None}
    volumes.refused(volumes.act(disk, "os-force_detach", value), 403)
    assert operator.act(disk, "os-force_detach", value).status_code == 202
    assert volumes.settled(disk, "available")["attachments"] == []


def test_a_read_only_volume_is_attached_for_reading(volumes: Volumes) -> None:
    disk = volumes.make()
    volumes.act(disk, "os-update_readonly_flag", {"readonly": True})
    where = {"instance_uuid": SERVER, "mountpoint": "/dev/vdb"}
    volumes.refused(volumes.act(disk, "os-attach", where), 400, "read-only")
    assert _attach(volumes, disk)["attach_mode"] == "ro"


def test_one_in_use_is_extended_from_3_42_on(volumes: Volumes) -> None:
    disk = volumes.make()
    volumes.act(disk, "os-attach", {"instance_uuid": SERVER, "mountpoint": "/dev/vdb"})
    volumes.refused(volumes.act(disk, "os-extend", {"new_size": 2}, version="3.41"), 400, "in-use")
    assert volumes.act(disk, "os-extend", {"new_size": 2}).status_code == 202
    assert volumes.settled(disk, "in-use")["size"] == 2
