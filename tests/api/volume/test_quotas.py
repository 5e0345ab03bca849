"""Quotas and limits: how much a project may have of volumes, all in all and of a type."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.compute.people import Person
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type
from tests.api.volume.test_types import put

FULL = {"volumes", "snapshots", "gigabytes", "per_volume_gigabytes", "backups", "backup_gigabytes", "groups"}


def sets(person: Person) -> str:
    return f"/os-quota-sets/{person.project_id}"


def allow(operator: Volumes, person: Person, **limits: Any) -> dict[str, Any]:
    reply = put(operator, sets(person), {"quota_set": limits})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["quota_set"]
    return found


def test_a_project_gets_its_own_and_loses_them(operator: Volumes, volumes: Volumes, person: Person) -> None:
    kind = make_type(operator)
    shown = volumes.get(sets(person))["quota_set"]
    assert shown.keys() >= FULL | {"id", f"volumes_{kind['name']}", f"gigabytes_{kind['name']}"}
    assert (shown["id"], shown["volumes"], shown[f"volumes_{kind['name']}"]) == (person.project_id, 10, -1)
    changed = allow(operator, person, volumes=3, gigabytes="-1", **{f"volumes_{kind['name']}": 2})
    assert (changed["volumes"], changed["gigabytes"], changed[f"volumes_{kind['name']}"]) == (3, -1, 2)
    assert "id" not in changed
    assert volumes.get(sets(person) + "/defaults")["quota_set"]["volumes"] == 10
    volumes.refused(put(volumes, sets(person), {"quota_set": {"volumes": 99}}), 403)
    assert operator.client.delete(V3 + sets(person)).status_code == 200
    assert volumes.get(sets(person))["quota_set"]["volumes"] == 10


def test_others_do_not_see_them(volumes: Volumes, operator: Volumes) -> None:
    volumes.refused(volumes.client.get(f"{V3}/os-quota-sets/another"), 403)
    operator.refused(operator.client.get(f"{V3}/os-quota-sets/nobody"), 404)


@pytest.mark.parametrize("body", [
    {"volumes": -2}, {"volumes": 2**31}, {"volumes": "many"}, {"volumes": None}, {"colour": 1}, {"volumes_colour": 1},
    {"volumes": True}, {"volumes": 1.5},
])
def test_bad_limits_are_refused(operator: Volumes, person: Person, body: dict[str, Any]) -> None:
    operator.refused(put(operator, sets(person), {"quota_set": body}), 400)


def test_what_is_in_use_is_counted(operator: Volumes, volumes: Volumes, person: Person) -> None:
    kind = make_type(operator)
    one = volumes.make(size=2, volume_type=kind["name"])
    volumes.snap(one)
    used = volumes.get(sets(person) + "?usage=True")["quota_set"]
    assert used["volumes"] == {"limit": 10, "in_use": 1, "reserved": 0}
    assert used["gigabytes"]["in_use"] == 4
    assert used[f"gigabytes_{kind['name']}"] == {"limit": -1, "in_use": 4, "reserved": 0}
    absolute = volumes.get("/limits")["limits"]["absolute"]
    assert absolute["totalVolumesUsed"] == 1
    assert (absolute["totalGigabytesUsed"], absolute["totalSnapshotsUsed"]) == (4, 1)
    assert (absolute["maxTotalVolumes"], absolute["maxTotalBackupGigabytes"]) == (10, 1000)
    assert len(absolute) == 10
    operator.refused(
        put(operator, sets(person) + "?skip_validation=False", {"quota_set": {"gigabytes": 3}}), 400, "in use"
    )
    allow(operator, person, gigabytes=3)


def test_administrators_see_the_limits_of_others_from_3_39_on(operator: Volumes, volumes: Volumes,
                                                              person: Person) -> None:
    allow(operator, person, volumes=4)
    path = f"/limits?project_id={person.project_id}"
    assert operator.get(path, "3.39")["limits"]["absolute"]["maxTotalVolumes"] == 4
    assert operator.get(path, "3.38")["limits"]["absolute"]["maxTotalVolumes"] == 10
    assert volumes.get("/limits?project_id=another")["limits"]["absolute"]["maxTotalVolumes"] == 4


def test_more_than_allowed_is_413(operator: Volumes, volumes: Volumes, person: Person) -> None:
    one = volumes.make()
    allow(operator, person, volumes=1)
    volumes.refused(volumes.ask(), 413, "volumes")
    allow(operator, person, volumes=-1, gigabytes=2)
    volumes.refused(volumes.ask(size=2), 413, "gigabytes")
    volumes.refused(volumes.act(one, "os-extend", {"new_size": 3}), 413, "gigabytes")
    allow(operator, person, gigabytes=-1, per_volume_gigabytes=1)
    volumes.refused(volumes.ask(size=2), 413, "larger than maximum")
    allow(operator, person, snapshots=0, groups=0, backups=0)
    volumes.refused(volumes.post("/snapshots", {"snapshot": {"volume_id": one}}), 413, "snapshots")
    volumes.refused(volumes.post("/backups", {"backup": {"volume_id": one}}), 413, "backups")


def test_a_type_has_limits_of_its_own_which_follow_its_name(
    operator: Volumes, volumes: Volumes, person: Person
) -> None:
    kind = make_type(operator)
    allow(operator, person, **{f"volumes_{kind['name']}": 1})
    one = volumes.make(volume_type=kind["id"])
    volumes.refused(volumes.ask(volume_type=kind["id"]), 413, f"volumes_{kind['name']}")
    other = volumes.make()
    volumes.refused(volumes.act(other, "os-retype", {"new_type": kind["id"]}), 413, kind["name"])
    renamed = kind["name"] + "-new"
    assert put(operator, f"/types/{kind['id']}", {"volume_type": {"name": renamed}}).status_code == 200
    assert volumes.get(sets(person))["quota_set"][f"volumes_{renamed}"] == 1
    volumes.drop(one)
    assert operator.client.delete(f"{V3}/types/{kind['id']}").status_code == 202
    assert f"volumes_{renamed}" not in volumes.get(sets(person))["quota_set"]


def test_the_default_class_is_what_projects_have(operator: Volumes, volumes: Volumes, person: Person) -> None:
    kind = make_type(operator)
    path = "/os-quota-class-sets/default"
    assert operator.get(path)["quota_class_set"]["id"] == "default"
    wanted = {"backups": 11, f"snapshots_{kind['name']}": 7}
    try:
        changed = put(operator, path, {"quota_class_set": wanted}).json()["quota_class_set"]
        assert changed.items() >= wanted.items()
        assert "id" not in changed
        assert volumes.get(sets(person))["quota_set"].items() >= wanted.items()
        assert put(operator, "/os-quota-class-sets/gold", {"quota_class_set": {"backups": 99}}).status_code == 200
        assert operator.get("/os-quota-class-sets/gold")["quota_class_set"]["backups"] == 99
        assert volumes.get(sets(person))["quota_set"]["backups"] == 11
    finally:
        put(operator, path, {"quota_class_set": {"backups": 10}})
    volumes.refused(volumes.client.get(V3 + path), 403)
