"""Flavors: sizes, extra specs, and who may use the private ones."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.cloud import Cloud
from tests.api.compute.people import Person, join
from tests.api.conftest import Client

ROOT = "/compute/v2.1/flavors"


@pytest.fixture(scope="module")
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


def make(admin: Client, name: str, **more: Any) -> Any:
    reply = admin.post(ROOT, {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 2, **more}})
    assert reply.status_code == 200, reply.text
    return reply.json()["flavor"]


def test_the_first_start_makes_the_usual_five(member: Person) -> None:
    flavors = member.client.get(ROOT).json()["flavors"]
    assert [(f["id"], f["name"]) for f in flavors][:5] == [
        ("1", "m1.tiny"), ("2", "m1.small"), ("3", "m1.medium"), ("4", "m1.large"), ("5", "m1.xlarge"),
    ]
    assert set(flavors[0]) == {"id", "name", "links"}
    assert flavors[0]["links"][0] == {"rel": "self", "href": "http://cloud.test/compute/v2.1/flavors/1"}


def test_deleted_flavors_do_not_come_back_with_a_restart(admin: Client, cloud: Cloud) -> None:
    before = admin.get(ROOT + "/2").json()["flavor"]
    for number in range(1, 6):
        assert admin.delete(f"{ROOT}/{number}").status_code == 202
    cloud.open()
    assert admin.get(ROOT).json()["flavors"] == []
    for number, name in enumerate(("tiny", "small", "medium", "large", "xlarge"), 1):
        make(admin, "m1." + name, id=str(number), ram=before["ram"])


@pytest.mark.parametrize(("version", "keys", "swap"), [
    (None, set(), ""), ("2.55", {"description"}, ""), ("2.61", {"description", "extra_specs"}, ""),
    ("2.75", {"description", "extra_specs"}, 0),
])
def test_each_version_has_its_fields(member: Person, version: str | None, keys: set[str], swap: Any) -> None:
    shown = member.client.get(ROOT + "/1", version=version).json()["flavor"]
    listed = member.client.get(ROOT + "/detail", version=version).json()["flavors"][0]
    assert shown == listed
    assert shown["swap"] == swap
    assert set(shown) == keys | {
        "id", "name", "links", "ram", "disk", "vcpus", "swap", "rxtx_factor", "OS-FLV-EXT-DATA:ephemeral",
        "OS-FLV-DISABLED:disabled", "os-flavor-access:is_public",
    }


def test_made_described_and_deleted(admin: Client) -> None:
    made = make(admin, "told", id="told", swap=512, rxtx_factor="1.5", **{"OS-FLV-EXT-DATA:ephemeral": "3"})
    assert (made["swap"], made["rxtx_factor"], made["OS-FLV-EXT-DATA:ephemeral"]) == (512, 1.5, 3)
    change = {"flavor": {"description": "small"}}
    assert admin.put(ROOT + "/told", change).status_code == 404  # 2.1 has no update
    assert admin.put(ROOT + "/told", change, version="2.55").json()["flavor"]["description"] == "small"
    assert admin.delete(ROOT + "/told").status_code == 202
    assert admin.get(ROOT + "/told").status_code == 404
    assert admin.delete(ROOT + "/told").status_code == 404


def test_a_number_as_id_and_no_id(admin: Client) -> None:
    assert make(admin, "numbered", id=4711)["id"] == "4711"
    assert len(make(admin, "unnumbered", id=None)["id"]) == 36


def test_names_and_ids_are_unique(admin: Client) -> None:
    make(admin, "twice", id="twice")
    for body in ({"name": "twice", "id": "other"}, {"name": "other", "id": "twice"}):
        reply = admin.post(ROOT, {"flavor": {"ram": 1, "vcpus": 1, "disk": 0, **body}})
        assert reply.status_code == 409
        assert "already exists" in reply.json()["conflictingRequest"]["message"]


@pytest.mark.parametrize("change", [
    {"id": 1e300}, {"id": -1e300},
    {"name": ""}, {"name": " blank"}, {"name": "n" * 256}, {"name": 1}, {"id": ""}, {"id": " x"}, {"id": "i" * 256},
    {"id": "tab\t"}, {"ram": 0}, {"ram": -1}, {"ram": "many"}, {"ram": 2**31}, {"vcpus": 0}, {"disk": -1},
    {"swap": -1}, {"swap": "9" * 40}, {"rxtx_factor": 0}, {"rxtx_factor": -1.5}, {"rxtx_factor": "fast"},
    {"os-flavor-access:is_public": "perhaps"}, {"OS-FLV-EXT-DATA:ephemeral": -1}, {"colour": "red"},
    {"description": "not before 2.55"},
])
def test_what_is_no_flavor_is_refused(admin: Client, change: dict[str, Any]) -> None:
    reply = admin.post(ROOT, {"flavor": {"name": "bad", "ram": 1, "vcpus": 1, "disk": 0, **change}})
    assert reply.status_code == 400, reply.text
    assert reply.json()["badRequest"]["code"] == 400


def test_members_only_read(member: Person) -> None:
    body = {"flavor": {"name": "mine", "ram": 1, "vcpus": 1, "disk": 1}}
    assert member.client.post(ROOT, body).status_code == 403
    assert member.client.delete(ROOT + "/1").status_code == 403
    assert member.client.post(ROOT + "/1/os-extra_specs", {"extra_specs": {"a": "b"}}).status_code == 403
    assert member.client.get(ROOT + "/1/os-flavor-access").status_code == 403


def test_filters_sorting_and_pages(admin: Client) -> None:
    for number in range(3):
        make(admin, f"page-{number}", id=f"page-{number}", ram=1_000_000 + number, disk=900)
    wanted = "?minRam=1000000&minDisk=900&sort_key=memory_mb&sort_dir=desc"
    names = [f["name"] for f in admin.get(ROOT + wanted).json()["flavors"]]
    assert names == ["page-2", "page-1", "page-0"]
    page = admin.get(ROOT + wanted + "&limit=2").json()
    assert [f["name"] for f in page["flavors"]] == ["page-2", "page-1"]
    after = page["flavors_links"][0]["href"].removeprefix("http://cloud.test")
    assert [f["name"] for f in admin.get(after).json()["flavors"]] == ["page-0"]
    assert admin.get(ROOT + "?limit=0").json()["flavors"] == []


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=x", "minRam=x", "minDisk=x", "marker=unknown", "sort_key=colour", "sort_dir=up",
    "is_public=perhaps", "minRam=" + "9" * 30,
])
def test_a_query_that_cannot_be_meant(admin: Client, query: str) -> None:
    assert admin.get(f"{ROOT}?{query}").status_code == 400


def test_unknown_parameters_are_refused_from_2_75_on(admin: Client) -> None:
    assert admin.get(ROOT + "?colour=red", version="2.74").status_code == 200
    assert admin.get(ROOT + "?colour=red", version="2.75").status_code == 400


def test_a_private_flavor_is_for_those_with_access(admin: Client, member: Person) -> None:
    make(admin, "private", id="private", **{"os-flavor-access:is_public": False})
    access, action = ROOT + "/private/os-flavor-access", ROOT + "/private/action"
    assert member.client.get(ROOT + "/private").status_code == 404
    assert "private" not in [f["id"] for f in member.client.get(ROOT).json()["flavors"]]
    assert "private" in [f["id"] for f in admin.get(ROOT + "?is_public=none").json()["flavors"]]
    assert [f["id"] for f in admin.get(ROOT + "?is_public=False").json()["flavors"]] == ["private"]
    assert admin.get(access).json() == {"flavor_access": []}

    add = {"addTenantAccess": {"tenant": member.project_id}}
    granted = {"flavor_access": [{"flavor_id": "private", "tenant_id": member.project_id}]}
    assert admin.post(action, add).json() == granted
    assert admin.post(action, add).status_code == 409
    assert member.client.get(ROOT + "/private").status_code == 200
    assert "private" in [f["id"] for f in member.client.get(ROOT).json()["flavors"]]

    remove = {"removeTenantAccess": {"tenant": member.project_id}}
    assert admin.post(action, remove).json() == {"flavor_access": []}
    assert admin.post(action, remove).status_code == 404
    assert member.client.get(ROOT + "/private").status_code == 404


def test_access_needs_a_private_flavor_and_a_project(admin: Client, member: Person) -> None:
    add = {"addTenantAccess": {"tenant": member.project_id}}
    assert admin.get(ROOT + "/1/os-flavor-access").status_code == 404
    assert admin.post(ROOT + "/1/action", add, version="2.7").status_code == 409
    assert admin.post(ROOT + "/1/action", {"addTenantAccess": {"tenant": "nobody"}}).status_code == 400
    assert admin.post(ROOT + "/1/action", {}).status_code == 400
    assert admin.post(ROOT + "/1/action", {"fly": {}}).status_code == 400
    assert member.client.post(ROOT + "/1/action", add).status_code == 403


def test_extra_specs(admin: Client, member: Person) -> None:
    make(admin, "special", id="special")
    specs = ROOT + "/special/os-extra_specs"
    assert admin.post(specs, {"extra_specs": {"hw:cpu_cores": 2, "own": "x"}}).json() == {
        "extra_specs": {"hw:cpu_cores": 2, "own": "x"}
    }
    assert member.client.get(specs).json() == {"extra_specs": {"hw:cpu_cores": "2", "own": "x"}}
    assert member.client.get(specs + "/own").json() == {"own": "x"}
    assert admin.put(specs + "/own", {"own": "y"}).json() == {"own": "y"}
    assert admin.put(specs + "/own", {"other": "y"}).status_code == 400
    assert admin.put(specs + "/own", {"own": "y", "other": "z"}).status_code == 400
    assert admin.delete(specs + "/own").status_code == 200
    assert admin.get(specs + "/own").status_code == 404
    assert admin.delete(specs + "/own").status_code == 404
    assert admin.get(ROOT + "/special", version="2.61").json()["flavor"]["extra_specs"] == {"hw:cpu_cores": "2"}
    assert admin.get(ROOT + "/nothing/os-extra_specs").status_code == 404


@pytest.mark.parametrize(("key", "value", "status"), [
    ("hw:cpu_policy", "dedicated", 200), ("hw:cpu_policy", "mine", 400), ("hw:no_such_thing", "1", 400),
    ("hw:numa_mem.0", "512", 200), ("resources:VCPU", "2", 200), ("resources:CUSTOM_GOLD", "much", 400),
    ("trait:HW_CPU_X86_AVX2", "required", 200), ("trait:HW_CPU_X86_AVX2", "wanted", 400),
    ("trait1:HW_CPU_X86_AVX2", "forbidden", 200), ("quota:disk_read_iops_sec", "10", 200), ("free", "text", 200),
    ("my:own", "text", 200), ("hw:mem_page_size", "2MB", 200), ("hw:mem_page_size", "tiny", 400),
])
def test_known_extra_specs_are_checked_from_2_86_on(admin: Client, key: str, value: str, status: int) -> None:
    body = {"extra_specs": {key: value}}
    assert admin.post(ROOT + "/5/os-extra_specs", body, version="2.86").status_code == status
    assert admin.post(ROOT + "/5/os-extra_specs", body, version="2.85").status_code == 200


@pytest.mark.parametrize("specs", [{"": "x"}, {"k" * 256: "x"}, {"k/": "x"}, {"k": None}, {"k": "v" * 256}, {"k": []}])
def test_what_is_no_extra_spec(admin: Client, specs: dict[str, Any]) -> None:
    assert admin.post(ROOT + "/5/os-extra_specs", {"extra_specs": specs}).status_code == 400
