"""Snapshots of volumes: made, shown, changed, copied from, gone back to, and deleted."""

from __future__ import annotations

from tests.api.compute.people import Person
from tests.api.volume.bench import V3, Volumes


def test_a_snapshot_is_made_and_deleted(volumes: Volumes, person: Person) -> None:
    disk = volumes.make()
    reply = volumes.post("/snapshots", {"snapshot": {"volume_id": disk, "name": "one", "metadata": {"a": "b"}}})
    made = reply.json()["snapshot"]
    assert (reply.status_code, made["status"], made["size"], made["volume_id"]) == (202, "creating", 1, disk)
    shown = volumes.snapshot(made["id"], "available")
    assert shown["os-extended-snapshot-attributes:progress"] == "100%"
    assert shown["os-extended-snapshot-attributes:project_id"] == person.project_id
    assert (shown["name"], shown["metadata"], shown["user_id"]) == ("one", {"a": "b"}, person.user_id)
    assert "user_id" not in volumes.get(f"/snapshots/{made['id']}", "3.40")["snapshot"]
    assert volumes.client.delete(f"{V3}/snapshots/{made['id']}").status_code == 202
    volumes.gone(made["id"], "snapshots")


def test_it_is_renamed(volumes: Volumes) -> None:
    made = volumes.snap(volumes.make())
    path = f"{V3}/snapshots/{made}"
    reply = volumes.client.put(path, {"snapshot": {"name": "new", "description": "d"}})
    assert (reply.status_code, reply.json()["snapshot"]["name"]) == (200, "new")
    volumes.refused(volumes.client.put(path, {"snapshot": {}}), 400)


def test_a_volume_with_snapshots_stays(volumes: Volumes) -> None:
    disk = volumes.make()
    first, second = volumes.snap(disk), volumes.snap(disk)
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{disk}"), 400, "2 dependent snapshots")
    assert volumes.client.delete(f"{V3}/volumes/{disk}?cascade=True").status_code == 202
    volumes.gone(disk)
    volumes.gone(first, "snapshots")
    volumes.gone(second, "snapshots")


def test_a_volume_from_a_snapshot(volumes: Volumes) -> None:
    disk = volumes.make(size=2)
    taken = volumes.snap(disk)
    made = volumes.make(snapshot_id=taken, size=None)
    assert (volumes.show(made)["size"], volumes.show(made)["snapshot_id"]) == (2, taken)
    volumes.refused(volumes.ask(snapshot_id=taken, size=1), 400, "smaller")
    assert volumes.client.delete(f"{V3}/snapshots/{taken}").status_code == 202
    volumes.gone(taken, "snapshots")
    assert volumes.show(made)["status"] == "available"


def test_a_snapshot_that_is_being_copied_is_deleted_afterwards(volumes: Volumes) -> None:
    taken = volumes.snap(volumes.make())
    copy = volumes.ask(snapshot_id=taken, metadata={"fake:create_delay": "0.3"}).json()["volume"]["id"]
    assert volumes.client.delete(f"{V3}/snapshots/{taken}").status_code == 202
    assert volumes.get(f"/snapshots/{taken}")["snapshot"]["status"] == "deleting"
    volumes.settled(copy, "available")
    volumes.gone(taken, "snapshots")


def test_only_the_newest_is_gone_back_to(volumes: Volumes) -> None:
    disk = volumes.make()
    first, second = volumes.snap(disk), volumes.snap(disk)
    volumes.refused(volumes.act(disk, "revert", {"snapshot_id": first}), 400, "latest")
    assert volumes.act(disk, "revert", {"snapshot_id": second}).status_code == 202
    volumes.settled(disk, "available")
    assert volumes.snapshot(second, "available")
    volumes.act(disk, "os-extend", {"new_size": 2})
    volumes.settled(disk, "available")
    volumes.refused(volumes.act(disk, "revert", {"snapshot_id": second}), 400, "size")


def test_one_of_a_volume_in_use_needs_force_before_3_66(volumes: Volumes) -> None:
    disk = volumes.make()
    volumes.act(disk, "os-attach", {"instance_uuid": disk, "mountpoint": "/dev/vdb"})
    body = {"snapshot": {"volume_id": disk}}
    volumes.refused(volumes.post("/snapshots", body, "3.65"), 400, "in-use")
    forced = {"snapshot": {"volume_id": disk, "force": True}}
    assert volumes.post("/snapshots", forced, "3.65").status_code == 202
    assert volumes.post("/snapshots", body, "3.66").status_code == 202
    volumes.refused(volumes.post("/snapshots", {"snapshot": {"volume_id": disk, "force": False}}, "3.66"), 400)


def test_metadata(volumes: Volumes) -> None:
    made = volumes.snap(volumes.make(), metadata={"a": "1"})
    path, client = f"{V3}/snapshots/{made}/metadata", volumes.client
    assert client.post(path, {"metadata": {"b": "2"}}).json() == {"metadata": {"a": "1", "b": "2"}}
    assert client.get(f"{path}/b").json() == {"meta": {"b": "2"}}
    assert client.put(f"{path}/b", {"meta": {"b": "3"}}).json() == {"meta": {"b": "3"}}
    assert client.delete(f"{path}/a").status_code == 200
    assert client.get(path).json() == {"metadata": {"b": "3"}}
    assert client.put(path, {"metadata": {"c": "4"}}).json() == {"metadata": {"c": "4"}}


def test_statuses_are_for_operators(volumes: Volumes, operator: Volumes) -> None:
    made = volumes.snap(volumes.make())

    def act(who: Volumes, action: str, **value: str) -> object:
        return who.post(f"/snapshots/{made}/action", {action: value})

    volumes.refused(act(volumes, "os-reset_status", status="error"), 403)
    assert act(operator, "os-reset_status", status="creating").status_code == 202  # type: ignore[attr-defined]
    volumes.refused(volumes.client.delete(f"{V3}/snapshots/{made}"), 400, "creating")
    reply = act(operator, "os-update_snapshot_status", status="creating", progress="80%")
    assert reply.status_code == 202  # type: ignore[attr-defined]
    assert volumes.get(f"/snapshots/{made}")["snapshot"]["os-extended-snapshot-attributes:progress"] == "80%"
    volumes.refused(act(operator, "os-update_snapshot_status", status="deleting"), 400)
    assert act(operator, "os-force_delete").status_code == 202  # type: ignore[attr-defined]
    volumes.gone(made, "snapshots")


def test_one_that_fails_says_so(volumes: Volumes) -> None:
    disk = volumes.make(metadata={"fake:snapshot_error": "no room"})
    made = volumes.snap(disk, "error")
    assert volumes.client.delete(f"{V3}/snapshots/{made}").status_code == 202
    volumes.gone(made, "snapshots")


def test_quota_counts_snapshots_and_their_gigabytes(volumes: Volumes) -> None:
    disk = volumes.make(size=500)
    volumes.snap(disk)
    volumes.refused(volumes.post("/snapshots", {"snapshot": {"volume_id": disk}}), 413, "gigabytes", "1000G")
