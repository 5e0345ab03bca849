"""Groups of volumes, their types and their snapshots."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.volume import groups
from tests.api.compute.guests import eventually
from tests.api.compute.people import join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type
from tests.api.volume.test_types import put


def make_group_type(operator: Volumes, **fields: Any) -> dict[str, Any]:
    """A group type."""
    reply = operator.post("/group_types", {"group_type": {"name": "kind-" + uuid.uuid4().hex, **fields}})
    assert reply.status_code == 202, reply.text
    found: dict[str, Any] = reply.json()["group_type"]
    return found


@pytest.fixture
def kind(operator: Volumes) -> dict[str, Any]:
    return make_group_type(operator)


@pytest.fixture
def fast(operator: Volumes) -> dict[str, Any]:
    return make_type(operator)


def make(volumes: Volumes, kind: dict[str, Any], *types: dict[str, Any], **fields: Any) -> str:
    """A group; its id."""
    reply = volumes.post("/groups", {"group": {
        "group_type": kind["id"], "volume_types": [one["id"] for one in types], "name": "g", **fields
    }})
    assert reply.status_code == 202, reply.text
    made: str = reply.json()["group"]["id"]
    return made


def settled(volumes: Volumes, path: str, status: str = "available") -> dict[str, Any]:
    """The group or group snapshot once it has this status."""

    def test() -> Any:
        [found] = volumes.get(path).values()
        return found if found["status"] == status else None

    found: dict[str, Any] = eventually(volumes.client, test)
    return found


def delete(volumes: Volumes, group_id: str, with_volumes: bool = True) -> Any:
    return volumes.post(f"/groups/{group_id}/action", {"delete": {"delete-volumes": with_volumes}})


# -- types


def test_group_types_are_made_changed_and_removed(operator: Volumes, volumes: Volumes) -> None:
    made = make_group_type(operator, description="d", group_specs={"a": "b"})
    assert made.keys() == {"id", "name", "description", "is_public", "group_specs"}
    path = f"/group_types/{made['id']}"
    assert volumes.get(path)["group_type"].keys() == made.keys() - {"group_specs"}
    changed = put(operator, path, {"group_type": {"name": made["name"] + "2", "is_public": False}}).json()
    assert (changed["group_type"]["name"], changed["group_type"]["is_public"]) == (made["name"] + "2", False)
    volumes.refused(volumes.client.get(V3 + path, version="3.11"), 404)
    named = {query: {one["id"] for one in operator.get(f"/group_types?{query}")["group_types"]}
             for query in ("", "is_public=None", "is_public=False")}
    assert [made["id"] in named[query] for query in named] == [False, True, True]
    operator.refused(put(operator, path, {"group_type": {}}), 400)
    operator.refused(operator.post("/group_types", {"group_type": {"name": made["name"] + "2"}}), 409)
    operator.refused(operator.post("/group_types", {"group_type": {"name": "x"}}, "3.10"), 404)
    operator.refused(operator.client.get(f"{V3}/group_types/default", version="3.11"), 404, "no default")
    volumes.refused(volumes.post("/group_types", {"group_type": {"name": "x"}}), 403)
    assert operator.client.delete(V3 + path, version="3.11").status_code == 202
    operator.refused(operator.client.get(V3 + path, version="3.11"), 404)


def test_group_specs_are_added_changed_and_removed(operator: Volumes) -> None:
    path = f"/group_types/{make_group_type(operator, group_specs={'a': '1'})['id']}/group_specs"
    assert operator.post(path, {"group_specs": {"b": "2"}}).json() == {"group_specs": {"b": "2"}}
    assert operator.get(path) == {"group_specs": {"a": "1", "b": "2"}}
    assert put(operator, path + "/a", {"a": "3"}).json() == {"a": "3"}
    assert operator.get(path + "/a") == {"a": "3"}
    operator.refused(put(operator, path + "/a", {"b": "3"}), 400)
    assert operator.client.delete(f"{V3}{path}/a", version="3.11").status_code == 202
    operator.refused(operator.client.get(f"{V3}{path}/a", version="3.11"), 404)


# -- groups


def test_a_group_comes_and_goes_with_its_volumes(
    volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any]
) -> None:
    made = make(volumes, kind, fast, description="d")
    found = volumes.get(f"/groups/{made}?list_volume=True")["group"]
    assert (found["status"], found["group_type"], found["volume_types"]) == ("available", kind["id"], [fast["id"]])
    assert (found["volumes"], found["replication_status"]) == ([], "disabled")
    one = volumes.make(volume_type=fast["id"], group_id=made)
    assert volumes.show(one)["group_id"] == made
    assert volumes.get(f"/groups/{made}?list_volume=True")["group"]["volumes"] == [one]
    assert [g["id"] for g in volumes.get("/groups/detail")["groups"]] == [made]
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{one}"), 400, "part of group")
    volumes.refused(delete(volumes, made, False), 400, "delete-volumes")
    assert delete(volumes, made).status_code == 202
    _gone(volumes, f"/groups/{made}")
    volumes.gone(one)


def _gone(volumes: Volumes, path: str) -> None:
    eventually(volumes.client, lambda: volumes.client.get(V3 + path, version="3.71").status_code == 404)


def test_volumes_come_into_a_group_and_go_out(volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any]) -> None:
    made = make(volumes, kind, fast)
    one, other = volumes.make(volume_type=fast["id"]), volumes.make()
    path = f"/groups/{made}"
    assert put(volumes, path, {"group": {"add_volumes": one, "name": "n", "description": "d"}}).status_code == 202
    assert volumes.get(path)["group"]["name"] == "n"
    assert volumes.show(one)["group_id"] == made
    volumes.refused(put(volumes, path, {"group": {"add_volumes": other}}), 400, "type")
    volumes.refused(put(volumes, path, {"group": {"add_volumes": str(uuid.uuid4())}}), 400, "cannot be found")
    volumes.refused(put(volumes, path, {"group": {"remove_volumes": other}}), 400, "not in group")
    volumes.refused(put(volumes, path, {"group": {}}), 400)
    volumes.refused(volumes.act(one, "os-retype", {"new_type": volumes.show(other)["volume_type"]}), 400, "none of")
    assert put(volumes, path, {"group": {"remove_volumes": one}}).status_code == 202
    assert volumes.show(one)["group_id"] is None
    volumes.refused(volumes.ask(group_id=made), 400, "type is none of")
    volumes.refused(volumes.ask(group_id=str(uuid.uuid4()), volume_type=fast["id"]), 404)
    assert delete(volumes, made, False).status_code == 202
    _gone(volumes, path)


def test_a_group_is_copied(volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any]) -> None:
    made = make(volumes, kind, fast)
    path = "/groups/action"
    empty = volumes.post(path, {"create-from-src": {"source_group_id": made, "name": "c"}})
    volumes.refused(empty, 400, "empty")
    ones = {volumes.make(volume_type=fast["id"], group_id=made, name=name) for name in "ab"}
    copy = volumes.post(path, {"create-from-src": {"source_group_id": made, "name": "c"}}).json()["group"]["id"]
    assert settled(volumes, f"/groups/{copy}")["source_group_id"] == made
    inside = [one for one in volumes.get("/volumes/detail")["volumes"] if one["group_id"] == copy]
    assert {one["source_volid"] for one in inside} == ones
    for body in ({}, {"source_group_id": made, "group_snapshot_id": made}):
        volumes.refused(volumes.post(path, {"create-from-src": body}), 400)
    for group_id in (copy, made):
        assert delete(volumes, group_id).status_code == 202
        _gone(volumes, f"/groups/{group_id}")


def test_a_copy_that_fails_makes_the_group_fail(volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any],
                                                cloud: Cloud) -> None:
    made = make(volumes, kind, fast)
    volumes.make("error", volume_type=fast["id"], group_id=made, metadata={"fake:create_error": "broken"})
    groups_ = volumes.post("/groups/action", {"create-from-src": {"source_group_id": made}})
    volumes.refused(groups_, 400, "error")
    cloud.db.run_sync(lambda tx: groups.change(tx, cloud, made, status="creating", waits=True))
    cloud.db.run_sync(lambda tx: groups.settle_all(tx, cloud))
    assert volumes.get(f"/groups/{made}")["group"]["status"] == "error"
    assert delete(volumes, made).status_code == 202
    _gone(volumes, f"/groups/{made}")


def test_what_cannot_be_a_group(operator: Volumes, volumes: Volumes, kind: dict[str, Any],
                                fast: dict[str, Any]) -> None:
    body = {"group_type": kind["id"], "volume_types": [fast["id"]]}
    for wrong, status in (({"group_type": "nothing"}, 404), ({"volume_types": ["nothing"]}, 404),
                          ({"volume_types": []}, 400), ({"availability_zone": "moon"}, 400), ({"colour": 1}, 400)):
        volumes.refused(volumes.post("/groups", {"group": {**body, **wrong}}), status)
    strict = make_group_type(operator, group_specs={"consistent_group_snapshot_enabled": "<is> True"})
    volumes.refused(volumes.post("/groups", {"group": {**body, "group_type": strict["id"]}}), 400, "one moment")
    made = make(volumes, kind, fast)
    operator.refused(operator.client.delete(f"{V3}/group_types/{kind['id']}", version="3.11"), 400, "in use")
    operator.refused(operator.client.delete(f"{V3}/types/{fast['id']}"), 400, "in use")
    volumes.refused(volumes.post(f"/groups/{made}/action", {"enable_replication": {}}), 400, "not replicated")
    volumes.refused(volumes.post(f"/groups/{made}/action", {"enable_replication": {}}, "3.37"), 400)


def test_administrators_reset_a_group(operator: Volumes, volumes: Volumes, kind: dict[str, Any],
                                      fast: dict[str, Any]) -> None:
    made = make(volumes, kind, fast)
    act = f"/groups/{made}/action"
    for status in ("creating", "error", "available"):
        assert operator.post(act, {"reset_status": {"status": status}}).status_code == 202
        assert volumes.get(f"/groups/{made}")["group"]["status"] == status
    operator.refused(operator.post(act, {"reset_status": {"status": "lost"}}), 400)
    operator.refused(operator.post(act, {"reset_status": {"status": "error"}}, "3.19"), 400)
    volumes.refused(volumes.post(act, {"reset_status": {"status": "error"}}), 403)


def test_others_do_not_have_it(volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any], cloud: Cloud,
                               anonymous: Client) -> None:
    made = make(volumes, kind, fast)
    other = Volumes(join(cloud, anonymous).client)
    other.refused(other.client.get(f"{V3}/groups/{made}", version="3.71"), 404)
    other.refused(delete(other, made), 404)
    other.refused(other.ask(group_id=made, volume_type=fast["id"]), 404)
    other.refused(other.post("/group_snapshots", {"group_snapshot": {"group_id": made}}), 404)


# -- snapshots of groups


def test_a_group_snapshot_is_one_of_each_volume(volumes: Volumes, kind: dict[str, Any], fast: dict[str, Any]) -> None:
    group = make(volumes, kind, fast)
    volumes.refused(volumes.post("/group_snapshots", {"group_snapshot": {"group_id": group}}), 400, "empty")
    ones = {volumes.make(volume_type=fast["id"], group_id=group, name=name) for name in "ab"}
    reply = volumes.post("/group_snapshots", {"group_snapshot": {"group_id": group, "name": "s"}})
    assert reply.status_code == 202
    assert reply.json()["group_snapshot"].keys() == {"id", "name", "group_type_id"}
    made = reply.json()["group_snapshot"]["id"]
    path = f"/group_snapshots/{made}"
    assert settled(volumes, path)["group_id"] == group
    inside = volumes.get("/snapshots/detail")["snapshots"]
    assert {one["volume_id"] for one in inside} == ones
    assert {one["group_snapshot_id"] for one in inside} == {made}
    volumes.refused(volumes.client.delete(f"{V3}/snapshots/{inside[0]['id']}"), 400, "group snapshot")
    assert [one["id"] for one in volumes.get(f"/group_snapshots/detail?group_id={group}")["group_snapshots"]] == [made]
    volumes.refused(delete(volumes, group), 400, "has snapshots")
    copy = volumes.post("/groups/action", {"create-from-src": {"group_snapshot_id": made}}).json()["group"]["id"]
    assert settled(volumes, f"/groups/{copy}")["group_snapshot_id"] == made
    assert volumes.client.delete(V3 + path, version="3.71").status_code == 202
    _gone(volumes, path)
    assert volumes.get("/snapshots")["snapshots"] == []
    for group_id in (copy, group):
        assert delete(volumes, group_id).status_code == 202
        _gone(volumes, f"/groups/{group_id}")


def test_a_group_snapshot_of_which_one_fails_has_failed(volumes: Volumes, operator: Volumes, kind: dict[str, Any],
                                                        fast: dict[str, Any]) -> None:
    group = make(volumes, kind, fast)
    volumes.make(volume_type=fast["id"], group_id=group)
    volumes.make(volume_type=fast["id"], group_id=group, metadata={"fake:snapshot_error": "no more room"})
    reply = volumes.post("/group_snapshots", {"group_snapshot": {"group_id": group}})
    path = f"/group_snapshots/{reply.json()['group_snapshot']['id']}"
    settled(volumes, path, "error")
    act = path + "/action"
    assert operator.post(act, {"reset_status": {"status": "available"}}).status_code == 202
    assert volumes.get(path)["group_snapshot"]["status"] == "available"
    volumes.refused(volumes.post(act, {"reset_status": {"status": "error"}}), 403)
    operator.refused(operator.post(act, {"reset_status": {"status": "lost"}}), 400)
    assert volumes.client.delete(V3 + path, version="3.71").status_code == 202
    _gone(volumes, path)


def test_whose_a_group_is_is_told_to_operators(
    volumes: Volumes, operator: Volumes, kind: dict[str, Any], fast: dict[str, Any]
) -> None:
    made = make(volumes, kind, fast)
    path = f"/groups/{made}"
    project = operator.get(path, "3.58")["group"]["project_id"]
    assert project == volumes.client.get("/identity/v3/auth/projects").json()["projects"][0]["id"]
    assert "project_id" not in operator.get(path, "3.57")["group"]
    assert "project_id" not in volumes.get(path, "3.58")["group"]
    assert {"project_id"} & set(volumes.get("/groups/detail")["groups"][0]) == set()
