"""Volume types: who sees them, their extra specs, access, encryption, and which one counts where none is asked for."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.compute.people import Person
from tests.api.volume.bench import V3, Volumes

TYPES = V3 + "/types"


def make(operator: Volumes, **fields: Any) -> dict[str, Any]:
    """A volume type."""
    reply = operator.post("/types", {"volume_type": {"name": "type-" + uuid.uuid4().hex, **fields}})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["volume_type"]
    return found


def put(operator: Volumes, path: str, body: Any) -> Any:
    return operator.client.put(V3 + path, body, version="3.71")


def names(volumes: Volumes, query: str = "") -> set[str]:
    return {one["name"] for one in volumes.get("/types" + query)["volume_types"]}


def test_a_new_cloud_has_a_default_type(operator: Volumes, volumes: Volumes) -> None:
    found = volumes.get("/types/default")["volume_type"]
    assert found["name"] == "__DEFAULT__"
    assert volumes.show(volumes.make())["volume_type"] == "__DEFAULT__"
    volumes.refused(operator.client.delete(f"{TYPES}/{found['id']}"), 400, "default volume type")


def test_administrators_make_change_and_remove_types(operator: Volumes, volumes: Volumes) -> None:
    made = make(operator, description="fast", extra_specs={"a": "b"})
    assert set(made) == {"id", "name", "description", "is_public", "extra_specs", "os-volume-type-access:is_public"}
    shown = operator.get(f"/types/{made['id']}")["volume_type"]
    assert shown == {**made, "qos_specs_id": None}
    changed = put(operator, f"/types/{made['id']}", {"volume_type": {"name": made["name"] + "2"}}).json()
    assert changed["volume_type"]["name"] == made["name"] + "2"
    assert set(changed["volume_type"]) == {"id", "name", "description", "is_public", "extra_specs"}
    volumes.refused(volumes.client.delete(f"{TYPES}/{made['id']}"), 403)
    assert operator.client.delete(f"{TYPES}/{made['id']}").status_code == 202
    volumes.refused(operator.client.get(f"{TYPES}/{made['id']}"), 404, "could not be found")


def test_bad_types_are_refused(operator: Volumes) -> None:
    made = make(operator)
    operator.refused(operator.post("/types", {"volume_type": {"name": made["name"]}}), 409, "already exists")
    for body in ({"name": ""}, {"name": " "}, {"name": None}, {}, {"name": "x", "colour": 1}, {"name": "x" * 256}):
        operator.refused(operator.post("/types", {"volume_type": body}), 400)
    operator.refused(put(operator, f"/types/{made['id']}", {"volume_type": {}}), 400, "Specify")
    operator.refused(put(operator, f"/types/{made['id']}", {"volume_type": {"name": " "}}), 400, "empty")
    other = make(operator)
    operator.refused(put(operator, f"/types/{made['id']}", {"volume_type": {"name": other["name"]}}), 409)


def test_users_see_neither_extra_specs_nor_qos_of_types(operator: Volumes, volumes: Volumes) -> None:
    made = make(operator, extra_specs={"secret": "x", "multiattach": "<is> True"})
    shown = volumes.get(f"/types/{made['id']}")["volume_type"]
    assert shown["extra_specs"] == {"multiattach": "<is> True"}
    assert "qos_specs_id" not in shown


def test_a_type_with_volumes_stays(operator: Volumes, volumes: Volumes) -> None:
    made = make(operator)
    one = volumes.make(volume_type=made["name"])
    assert volumes.show(one)["volume_type_id"] == made["id"]
    operator.refused(operator.client.delete(f"{TYPES}/{made['id']}"), 400, "still in use")
    volumes.drop(one)
    assert operator.client.delete(f"{TYPES}/{made['id']}").status_code == 202


def test_private_types_are_seen_by_those_who_have_access(
    operator: Volumes, volumes: Volumes, person: Person
) -> None:
    made = make(operator, **{"os-volume-type-access:is_public": False})
    path = f"/types/{made['id']}"
    volumes.refused(volumes.client.get(V3 + path), 404)
    volumes.refused(volumes.ask(volume_type=made["id"]), 404)
    assert made["name"] not in names(operator)
    assert made["name"] in names(operator, "?is_public=None") & names(operator, "?is_public=False")
    access = {"project": person.project_id}
    assert operator.post(path + "/action", {"addProjectAccess": access}).status_code == 202
    operator.refused(operator.post(path + "/action", {"addProjectAccess": access}), 409)
    operator.refused(operator.post(path + "/action", {"addProjectAccess": {"project": "nobody"}}), 400)
    assert operator.get(path + "/os-volume-type-access")["volume_type_access"] == [
        {"volume_type_id": made["id"], "project_id": person.project_id}
    ]
    assert made["name"] in names(volumes)
    volumes.drop(volumes.make(volume_type=made["name"]))
    assert operator.post(path + "/action", {"removeProjectAccess": access}).status_code == 202
    operator.refused(operator.post(path + "/action", {"removeProjectAccess": access}), 404)
    volumes.refused(volumes.client.get(V3 + path), 404)


def test_public_types_have_no_access_list(operator: Volumes, person: Person) -> None:
    path = f"/types/{make(operator)['id']}"
    operator.refused(operator.client.get(f"{V3}{path}/os-volume-type-access"), 404, "public")
    reply = operator.post(path + "/action", {"addProjectAccess": {"project": person.project_id}})
    operator.refused(reply, 409, "public")


def test_extra_specs_are_added_changed_and_removed(operator: Volumes) -> None:
    path = f"/types/{make(operator, extra_specs={'a': '1'})['id']}/extra_specs"
    assert operator.post(path, {"extra_specs": {"b": "2"}}).json() == {"extra_specs": {"b": "2"}}
    assert operator.get(path) == {"extra_specs": {"a": "1", "b": "2"}}
    assert put(operator, path + "/a", {"a": "3"}).json() == {"a": "3"}
    assert operator.get(path + "/a") == {"a": "3"}
    for body in ({"b": "1"}, {"a": "1", "b": "2"}, {}, None, {"a": 1}):
        operator.refused(put(operator, path + "/a", body), 400)
    operator.refused(operator.post(path, {"extra_specs": None}), 400)
    operator.refused(operator.post(path, {"extra_specs": ["a"]}), 400)
    assert operator.client.delete(V3 + path + "/a").status_code == 202
    operator.refused(operator.client.get(V3 + path + "/a"), 404, "no extra specs")
    operator.refused(operator.client.delete(V3 + path + "/a"), 404)


def test_types_are_filtered_by_extra_specs_from_3_52_on(operator: Volumes) -> None:
    key = "key" + uuid.uuid4().hex
    made = make(operator, extra_specs={key: "x"})
    query = f"?extra_specs={{'{key}':'x'}}"
    assert names(operator, query) == {made["name"]}
    assert names(operator, f"?extra_specs={{'{key}':'y'}}") == set()
    assert len(operator.get("/types" + query, "3.51")["volume_types"]) > 1


def test_volumes_of_a_type_are_where_and_as_it_wants(operator: Volumes, volumes: Volumes) -> None:
    zone = make(operator, extra_specs={"RESKEY:availability_zones": "moon"})
    there = volumes.make("error", volume_type=zone["name"])
    [message] = [one for one in volumes.get("/messages")["messages"] if one["resource_uuid"] == there]
    assert "the volume type rules out" in message["user_message"]
    several = make(operator, extra_specs={"multiattach": "<is> True"})
    assert volumes.show(volumes.make(volume_type=several["name"]))["multiattach"] is True
    reply = operator.post(f"/types/{several['id']}/extra_specs", {"extra_specs": {"multiattach": "<is> False"}})
    operator.refused(reply, 400, "in use")


# -- encryption

LUKS = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}


def test_a_type_says_how_it_would_be_encrypted(operator: Volumes) -> None:
    made = make(operator)
    path = f"/types/{made['id']}/encryption"
    assert operator.get(path) == {}
    reply = operator.post(path, {"encryption": LUKS}).json()["encryption"]
    assert reply == {**LUKS, "volume_type_id": made["id"], "encryption_id": reply["encryption_id"]}
    operator.refused(operator.post(path, {"encryption": LUKS}), 400, "already exists")
    one = f"{path}/{reply['encryption_id']}"
    assert put(operator, one, {"encryption": {"key_size": 128}}).json() == {"encryption": {"key_size": 128}}
    shown = operator.get(path)
    assert (shown["key_size"], shown["cipher"], shown["deleted"]) == (128, "aes-xts-plain64", False)
    assert operator.get(path + "/cipher") == {"cipher": "aes-xts-plain64"}
    operator.refused(operator.client.get(f"{V3}{path}/colour"), 404)
    assert operator.client.delete(V3 + one).status_code == 202
    assert operator.get(path) == {}
    operator.refused(operator.client.delete(V3 + one), 404)


@pytest.mark.parametrize("wrong", [
    {"provider": None}, {"key_size": 0}, {"key_size": "x"}, {"control_location": "middle"},
])
def test_bad_encryption_is_refused(operator: Volumes, wrong: dict[str, Any]) -> None:
    path = f"/types/{make(operator)['id']}/encryption"
    operator.refused(operator.post(path, {"encryption": {**LUKS, **wrong}}), 400)


def test_no_volume_is_said_to_be_encrypted_that_is_not(operator: Volumes, volumes: Volumes) -> None:
    made = make(operator)
    one = volumes.make(volume_type=made["name"])
    path = f"/types/{made['id']}/encryption"
    operator.refused(operator.post(path, {"encryption": LUKS}), 400, "in use")
    volumes.drop(one)
    assert operator.post(path, {"encryption": LUKS}).status_code == 200
    volumes.refused(volumes.ask(volume_type=made["name"]), 400, "key store")
    other = volumes.make()
    assert volumes.get(f"/volumes/{other}/encryption") == {"encryption_key_id": None}
    volumes.refused(volumes.act(other, "os-retype", {"new_type": made["name"]}), 400, "key store")


# -- default types


def test_a_project_has_a_default_type_of_its_own(operator: Volumes, volumes: Volumes, person: Person) -> None:
    made = make(operator)
    path = f"/default-types/{person.project_id}"
    operator.refused(operator.client.get(V3 + path, version="3.62"), 404)
    operator.refused(operator.client.get(V3 + path, version="3.61"), 404, "not in this version")
    wanted = {"project_id": person.project_id, "volume_type_id": made["id"]}
    assert put(operator, path, {"default_type": {"volume_type": made["name"]}}).json() == {"default_type": wanted}
    assert put(operator, path, {"default_type": {"volume_type": made["id"]}}).json() == {"default_type": wanted}
    assert operator.get(path) == {"default_type": wanted}
    assert wanted in operator.get("/default-types")["default_types"]
    assert volumes.get("/types/default")["volume_type"]["id"] == made["id"]
    one = volumes.make()
    assert volumes.show(one)["volume_type"] == made["name"]
    volumes.drop(one)
    operator.refused(operator.client.delete(f"{TYPES}/{made['id']}"), 400, "default type of a project")
    volumes.refused(volumes.client.get(V3 + path, version="3.62"), 403)
    assert operator.client.delete(V3 + path, version="3.62").status_code == 204
    assert operator.client.delete(f"{TYPES}/{made['id']}").status_code == 202


def test_a_default_type_must_be_one_that_the_project_sees(operator: Volumes, person: Person) -> None:
    hidden = make(operator, **{"os-volume-type-access:is_public": False})
    path = f"/default-types/{person.project_id}"
    operator.refused(put(operator, path, {"default_type": {"volume_type": hidden["id"]}}), 400, "private")
    operator.refused(put(operator, path, {"default_type": {"volume_type": "nothing"}}), 404)
    operator.refused(put(operator, "/default-types/nobody", {"default_type": {"volume_type": hidden["id"]}}), 404)
