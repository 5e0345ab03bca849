"""Backups: copies that outlive their volume, become volumes again, and never stay stuck."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.node.storage.fake import FakeStorage
from pileus.volume import room_rest
from pileus.volume.tables_rest import backup
from pileus.work.tables import task
from tests.api.compute.guests import eventually
from tests.api.compute.people import Person, join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes


def ask(volumes: Volumes, volume_id: str, **fields: Any) -> Any:
    return volumes.post("/backups", {"backup": {"volume_id": volume_id, **fields}})


def settled(volumes: Volumes, backup_id: str, status: str = "available") -> dict[str, Any]:
    """The backup once it has this status."""

    def test() -> Any:
        found = volumes.get(f"/backups/{backup_id}")["backup"]
        return found if found["status"] == status else None

    found: dict[str, Any] = eventually(volumes.client, test)
    return found


def make(volumes: Volumes, volume_id: str, status: str = "available", **fields: Any) -> str:
    """A backup with this status; its id."""
    reply = ask(volumes, volume_id, **fields)
    assert reply.status_code == 202, reply.text
    made: str = reply.json()["backup"]["id"]
    settled(volumes, made, status)
    return made


def test_a_backup_outlives_its_volume_and_becomes_one_again(volumes: Volumes) -> None:
    one = volumes.make(size=2, metadata={"a": "b"}, name="data")
    reply = ask(volumes, one, name="copy", description="of data", metadata={"c": "d"})
    assert reply.status_code == 202
    assert reply.json()["backup"].keys() == {"id", "name", "links", "metadata"}
    made = reply.json()["backup"]["id"]
    found = settled(volumes, made)
    assert (found["name"], found["size"], found["volume_id"], found["metadata"]) == ("copy", 2, one, {"c": "d"})
    assert (found["is_incremental"], found["has_dependent_backups"], found["fail_reason"]) == (False, False, None)
    assert volumes.settled(one, "available")
    volumes.drop(one)
    again = volumes.post(f"/backups/{made}/restore", {"restore": {}})
    assert again.status_code == 202
    told = again.json()["restore"]
    assert told == {
        "backup_id": made, "volume_id": told["volume_id"], "volume_name": f"restore_backup_{made}"
    }
    restored = volumes.settled(told["volume_id"], "available")
    assert (restored["size"], restored["metadata"]) == (2, {"a": "b"})
    other = volumes.make(size=3, backup_id=made)
    assert volumes.show(other)["size"] == 3
    assert volumes.client.delete(f"{V3}/backups/{made}").status_code == 202
    volumes.gone(made, "backups")


def test_versions_add_fields(volumes: Volumes, operator: Volumes) -> None:
    made = make(volumes, volumes.make())
    shown = {version: set(volumes.get(f"/backups/{made}", version)["backup"]) for version in ("3.0", "3.43", "3.56")}
    assert shown["3.43"] - shown["3.0"] == {"metadata"}
    assert shown["3.56"] - shown["3.43"] == {"user_id"}
    seen = operator.get(f"/backups/{made}", "3.18")["backup"]
    assert seen["os-backup-project-attr:project_id"]
    assert "os-backup-project-attr:project_id" not in operator.get(f"/backups/{made}", "3.17")["backup"]


def test_a_volume_that_is_in_use_needs_force_and_a_snapshot_does_not(volumes: Volumes) -> None:
    one = volumes.make()
    taken = volumes.snap(one)
    assert volumes.act(one, "os-reserve").status_code == 202
    assert volumes.act(one, "os-attach", {"mountpoint": "/dev/vdb", "host_name": "x"}).status_code == 202
    volumes.refused(ask(volumes, one), 400, "force")
    make(volumes, one, force=True)
    assert volumes.settled(one, "in-use")
    made = make(volumes, one, snapshot_id=taken)
    assert volumes.get(f"/backups/{made}")["backup"]["snapshot_id"] == taken
    assert volumes.get(f"/snapshots/{taken}")["snapshot"]["status"] == "available"
    volumes.refused(ask(volumes, volumes.make(), snapshot_id=taken), 400, "not of volume")


def test_a_backup_is_restored_into_a_volume_that_is_there(volumes: Volumes, operator: Volumes) -> None:
    one = volumes.make(size=2, metadata={"a": "b"})
    assert volumes.act(one, "os-set_bootable", {"bootable": True}).status_code == 200
    made = make(volumes, one)
    assert volumes.act(one, "os-set_bootable", {"bootable": False}).status_code == 200
    small = volumes.make(size=1)
    path = f"/backups/{made}/restore"
    volumes.refused(volumes.post(path, {"restore": {"volume_id": small}}), 400, "needs 2")
    host = operator.show(one)["os-vol-host-attr:host"]
    elsewhere = next(
        made for made in (volumes.make(size=2) for _ in range(4))
        if operator.show(made)["os-vol-host-attr:host"] != host
    )
    volumes.refused(volumes.post(path, {"restore": {"volume_id": elsewhere}}), 400, "Restore it into a new volume")
    assert volumes.post(path, {"restore": {"volume_id": one}}).status_code == 202
    found = volumes.settled(one, "available")
    assert (found["bootable"], found["metadata"]) == ("true", {"a": "b"})
    settled(volumes, made)


def test_an_incremental_backup_stands_on_the_one_before(volumes: Volumes, operator: Volumes) -> None:
    one = volumes.make()
    full = make(volumes, one)
    first = make(volumes, one, incremental=True)
    second = make(volumes, one, incremental=True)

    def shown(backup_id: str) -> tuple[bool, bool]:
        found = volumes.get(f"/backups/{backup_id}")["backup"]
        return found["is_incremental"], found["has_dependent_backups"]

    assert [shown(made) for made in (full, first, second)] == [(False, True), (True, True), (True, False)]
    listed = {b["id"]: b["has_dependent_backups"] for b in volumes.get("/backups/detail")["backups"]}
    assert listed == {full: True, first: True, second: False}
    volumes.refused(volumes.client.delete(f"{V3}/backups/{full}"), 400, "Incremental backups exist")
    act = operator.post(f"/backups/{full}/action", {"os-force_delete": {}})
    operator.refused(act, 400, "Incremental backups exist")
    volumes.settled(volumes.make(backup_id=second), "available")
    for made in (second, first, full):
        assert volumes.client.delete(f"{V3}/backups/{made}").status_code == 202
        volumes.gone(made, "backups")


def test_a_storage_that_knows_no_increments_makes_a_full_backup_and_says_so(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeStorage, "increments", False)
    one = volumes.make()
    full = make(volumes, one)
    other = make(volumes, one, incremental=True)
    assert volumes.get(f"/backups/{other}")["backup"]["is_incremental"] is False
    assert volumes.client.delete(f"{V3}/backups/{full}").status_code == 202
    volumes.gone(full, "backups")


def test_a_failure_is_told(volumes: Volumes) -> None:
    one = volumes.make(metadata={"fake:backup_error": "no more room", "fake:restore_error": "bad copy"})
    reply = ask(volumes, one)
    made = reply.json()["backup"]["id"]
    assert "no more room" in settled(volumes, made, "error")["fail_reason"]
    assert volumes.settled(one, "available")
    [told] = [m for m in volumes.get("/messages")["messages"] if m["resource_uuid"] == made]
    assert (told["event_id"], told["message_level"]) == ("VOLUME_VOLUME_BACKUP_013_001", "ERROR")
    assert volumes.client.delete(f"{V3}/backups/{made}").status_code == 202
    volumes.gone(made, "backups")


def test_a_failed_restore_spoils_the_volume_and_not_the_backup(volumes: Volumes) -> None:
    one = volumes.make(metadata={"fake:restore_error": "bad copy"})
    made = make(volumes, one)
    assert volumes.post(f"/backups/{made}/restore", {"restore": {"volume_id": one}}).status_code == 202
    eventually(volumes.client, lambda: volumes.show(one)["status"] == "error_restoring")
    assert settled(volumes, made)
    volumes.drop(one)


def test_what_is_not_made_here_is_refused(volumes: Volumes) -> None:
    one = volumes.make()
    volumes.refused(ask(volumes, one, incremental=True), 400, "make a full one")
    volumes.refused(ask(volumes, one, container="c"), 400, "container")
    volumes.refused(ask(volumes, one, availability_zone="moon"), 400, "zone")
    volumes.refused(ask(volumes, str(uuid.uuid4())), 404)
    volumes.refused(volumes.post("/backups", {"backup": {"volume_id": one, "metadata": {}}}, "3.42"), 400)


def test_backups_are_changed_from_3_9_on(volumes: Volumes) -> None:
    made = make(volumes, volumes.make())
    path = f"{V3}/backups/{made}"
    reply = volumes.client.put(path, {"backup": {"name": "n", "description": "d"}}, version="3.9")
    assert (reply.status_code, reply.json()["backup"]["name"]) == (200, "n")
    reply = volumes.client.put(path, {"backup": {"metadata": {"a": "b"}}}, version="3.43")
    assert reply.json()["backup"]["metadata"] == {"a": "b"}
    assert volumes.get(f"/backups/{made}")["backup"]["description"] == "d"
    volumes.refused(volumes.client.put(path, {"backup": {}}, version="3.9"), 400)
    volumes.refused(volumes.client.put(path, {"backup": {"name": "n"}}, version="3.8"), 404)


def test_lists_are_paged_filtered_and_counted(volumes: Volumes, operator: Volumes) -> None:
    one = volumes.make()
    made = [make(volumes, one, name=f"b{number}") for number in range(3)]
    found = volumes.get("/backups?limit=2&sort=name:asc&with_count=True")
    assert ([b["name"] for b in found["backups"]], found["count"]) == (["b0", "b1"], 3)
    following = found["backups_links"][0]["href"].removeprefix("http://cloud.test" + V3)
    assert [b["name"] for b in volumes.get(following)["backups"]] == ["b2"]
    assert [b["id"] for b in volumes.get("/backups/detail?name=b1")["backups"]] == [made[1]]
    assert len(volumes.get("/backups?name~=b&status=available")["backups"]) == 3
    assert made[0] not in [b["id"] for b in operator.get("/backups")["backups"]]
    assert made[0] in [b["id"] for b in operator.get("/backups?all_tenants=1")["backups"]]


def test_others_do_not_have_it(volumes: Volumes, cloud: Cloud, anonymous: Client) -> None:
    made = make(volumes, volumes.make())
    other = Volumes(join(cloud, anonymous).client)
    other.refused(other.client.get(f"{V3}/backups/{made}"), 404)
    other.refused(other.client.delete(f"{V3}/backups/{made}"), 404)
    other.refused(other.post(f"/backups/{made}/restore", {"restore": {}}), 404)
    other.refused(other.ask(backup_id=made), 404)


def test_administrators_reset_and_force(volumes: Volumes, operator: Volumes) -> None:
    made = make(volumes, volumes.make())
    act = f"/backups/{made}/action"
    volumes.refused(volumes.post(act, {"os-reset_status": {"status": "error"}}), 403)
    assert operator.post(act, {"os-reset_status": {"status": "error"}}).status_code == 202
    assert volumes.get(f"/backups/{made}")["backup"]["status"] == "error"
    volumes.refused(volumes.post(f"/backups/{made}/restore", {"restore": {}}), 400, "available")
    operator.refused(operator.post(act, {"os-reset_status": {"status": "lost"}}), 400)
    operator.refused(operator.post(act, {}), 400)
    assert operator.post(act, {"os-force_delete": {}}).status_code == 202
    volumes.gone(made, "backups")


def test_a_record_goes_out_and_comes_in(volumes: Volumes, operator: Volumes) -> None:
    made = make(volumes, volumes.make(), name="copy")
    volumes.refused(volumes.client.get(f"{V3}/backups/{made}/export_record"), 403)
    record = operator.get(f"/backups/{made}/export_record")["backup-record"]
    assert record["backup_service"].startswith("cinder.backup.drivers")
    operator.refused(operator.post("/backups/import_record", {"backup-record": record}), 400, "already")
    other = str(uuid.uuid4())
    changed = {**json.loads(base64.b64decode(record["backup_url"])), "id": other}
    url = base64.b64encode(json.dumps(changed).encode()).decode()
    reply = operator.post("/backups/import_record", {"backup-record": {**record, "backup_url": url}})
    assert (reply.status_code, reply.json()["backup"]["id"]) == (201, other)
    # Both stand for one copy, which goes with the last of them.
    assert volumes.client.delete(f"{V3}/backups/{made}").status_code == 202
    volumes.gone(made, "backups")
    restored = operator.post(f"/backups/{other}/restore", {"restore": {"name": "r"}}).json()["restore"]["volume_id"]
    operator.settled(restored, "available")
    assert operator.client.delete(f"{V3}/backups/{other}").status_code == 202
    operator.gone(other, "backups")
    operator.drop(restored)


@pytest.mark.parametrize("wrong", [
    {"backup_service": "cinder.backup.drivers.swift"}, {"backup_url": "%%"}, {"backup_url": "e30="},
    {"backup_url": base64.b64encode(b'{"id":"","volume_id":"x","size":1,"node":"n","stored_as":"x","created":1}')
     .decode()},
])
def test_a_bad_record_is_refused(volumes: Volumes, operator: Volumes, wrong: dict[str, str]) -> None:
    record = {"backup_service": "cinder.backup.drivers.pileus", "backup_url": "e30=", **wrong}
    operator.refused(operator.post("/backups/import_record", {"backup-record": record}), 400)


def test_nothing_stays_stuck_when_its_task_is_lost(volumes: Volumes, cloud: Cloud, person: Person) -> None:
    one = volumes.make(metadata={"fake:hang": "backup"})
    made = ask(volumes, one).json()["backup"]["id"]
    assert volumes.show(one)["status"] == "backing-up"

    def lose(tx: Any) -> None:
        tx.execute(task.delete().where(task.c.kind == "volume.backup"))
        tx.execute(backup.update().where(backup.c.id == made).values(changed=0.0))
        from pileus.volume.tables import volume

        tx.execute(volume.update().where(volume.c.id == one).values(changed=0.0))

    cloud.db.run_sync(lose)
    cloud.db.run_sync(lambda tx: room_rest.reconcile(tx, cloud))
    assert volumes.get(f"/backups/{made}")["backup"]["status"] == "error"
    assert volumes.show(one)["status"] == "available"
