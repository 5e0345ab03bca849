"""Resource providers, their inventories, traits, aggregates; classes and traits themselves."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from tests.api.conftest import Client
from tests.api.placement.conftest import Placement


def test_the_version_document_needs_no_token(anonymous: Client) -> None:
    version = anonymous.get("/placement/").json()["versions"][0]
    assert (version["min_version"], version["max_version"], version["status"]) == ("1.0", "1.39", "CURRENT")


def test_a_version_out_of_range_is_refused_with_the_range(admin: Client) -> None:
    error = admin.get("/placement/resource_providers", version="1.99").json()["errors"][0]
    assert (error["status"], error["min_version"], error["max_version"]) == (406, "1.0", "1.39")


def test_without_a_token_the_error_has_placements_shape(anonymous: Client) -> None:
    reply = anonymous.get("/placement/resource_providers", version="1.23")
    assert reply.status_code == 401
    assert set(reply.json()["errors"][0]) == {"status", "title", "detail", "code", "request_id"}


def test_a_plain_member_may_not_look(admin: Client, anonymous: Client) -> None:
    roles = admin.get("/identity/v3/roles")
    if roles.status_code != 200:
        pytest.skip("identity has no users yet")
    member = next(role["id"] for role in roles.json()["roles"] if role["name"] == "member")
    user = admin.post("/identity/v3/users", {"user": {"name": "p-member", "password": "secret"}}).json()["user"]["id"]
    project = admin.post("/identity/v3/projects", {"project": {"name": "p-member"}}).json()["project"]["id"]
    admin.put(f"/identity/v3/projects/{project}/users/{user}/roles/{member}")
    client = anonymous.login("p-member", "secret", "p-member")
    assert client.get("/placement/resource_providers", version="1.39").status_code == 403
    assert client.get(f"/placement/usages?project_id={project}", version="1.39").status_code == 200
    assert client.get("/placement/usages?project_id=other", version="1.39").status_code == 403


def test_a_provider_in_each_age_of_the_api(placement: Placement, admin: Client) -> None:
    name, new = uuid.uuid4().hex, str(uuid.uuid4())
    reply = admin.post("/placement/resource_providers", {"name": name, "uuid": new}, version="1.0")
    assert (reply.status_code, reply.content) == (201, b"")
    assert reply.headers["location"] == f"http://cloud.test/placement/resource_providers/{new}"
    old = placement("GET", f"/resource_providers/{new}", 200, version="1.0")
    assert set(old) == {"uuid", "name", "generation", "links"}
    assert [link["rel"] for link in old["links"]] == ["self", "inventories", "usages"]
    now = placement("GET", f"/resource_providers/{new}", 200)
    assert (now["parent_provider_uuid"], now["root_provider_uuid"]) == (None, new)
    assert {"allocations", "traits", "aggregates"} < {link["rel"] for link in now["links"]}
    fresh = admin.get(f"/placement/resource_providers/{new}", version="1.15")
    assert fresh.headers["cache-control"] == "no-cache"
    assert "last-modified" in fresh.headers


def test_names_and_ids_are_unique(placement: Placement) -> None:
    made = placement("POST", "/resource_providers", 200, {"name": "only-one"})
    again = placement("POST", "/resource_providers", 409, {"name": "only-one"})
    assert again["errors"][0]["code"] == "placement.duplicate_name"
    assert "uuid" in placement("POST", "/resource_providers", 409, {"name": "x", "uuid": made["uuid"]})["errors"][0][
        "detail"
    ]
    other = placement("POST", "/resource_providers", 200, {"name": "another"})
    placement("PUT", f"/resource_providers/{other['uuid']}", 409, {"name": "only-one"})


def test_bad_providers_are_refused(placement: Placement, new_id: Callable[[], str]) -> None:
    placement("POST", "/resource_providers", 400, {"name": "x" * 201})
    placement("POST", "/resource_providers", 400, {"name": 5})
    placement("POST", "/resource_providers", 400, {"name": "x", "colour": "red"})
    placement("POST", "/resource_providers", 400, {"name": "x", "uuid": "no"})
    placement("POST", "/resource_providers", 400, {"name": "x", "parent_provider_uuid": new_id()})
    placement("POST", "/resource_providers", 400, {"name": "x", "parent_provider_uuid": None}, version="1.13")
    placement("GET", "/resource_providers?colour=red", 400)
    placement("GET", "/resource_providers?in_tree=" + new_id(), 400, version="1.13")
    for path in ("", "/inventories", "/usages", "/traits", "/aggregates", "/allocations"):
        placement("GET", f"/resource_providers/{new_id()}{path}", 404)


def test_trees_move_as_a_whole_and_never_into_themselves(placement: Placement) -> None:
    top, other = placement.provider(), placement.provider()
    middle = placement.provider(parent=top)
    leaf = placement.provider(parent=middle)
    name = placement("GET", f"/resource_providers/{middle}", 200)["name"]
    body = {"name": name, "parent_provider_uuid": other}
    placement("PUT", f"/resource_providers/{middle}", 400, body, version="1.36")
    placement("PUT", f"/resource_providers/{middle}", 400, {"name": name, "parent_provider_uuid": leaf})
    placement("PUT", f"/resource_providers/{middle}", 200, body)
    assert placement("GET", f"/resource_providers/{leaf}", 200)["root_provider_uuid"] == other
    found = placement("GET", f"/resource_providers?in_tree={leaf}", 200)["resource_providers"]
    assert {row["uuid"] for row in found} == {other, middle, leaf}
    error = placement("DELETE", f"/resource_providers/{middle}", 409)["errors"][0]
    assert error["code"] == "placement.resource_provider.cannot_delete_parent"
    placement("PUT", f"/resource_providers/{middle}", 200, {"name": name, "parent_provider_uuid": None})
    assert placement("GET", f"/resource_providers/{leaf}", 200)["root_provider_uuid"] == middle


def test_inventories_follow_the_generation(placement: Placement) -> None:
    made = placement.provider(VCPU={"total": 8, "allocation_ratio": 2.0}, DISK_GB=100)
    path = f"/resource_providers/{made}/inventories"
    got = placement("GET", path, 200)
    assert got["inventories"]["VCPU"] == {
        "total": 8, "reserved": 0, "min_unit": 1, "max_unit": 2**31 - 1, "step_size": 1, "allocation_ratio": 2.0,
    }
    stale = placement("PUT", path, 409, {"resource_provider_generation": 0, "inventories": {}})
    assert stale["errors"][0]["code"] == "placement.concurrent_update"
    placement("PUT", path + "/VCPU", 200, {"total": 16, "resource_provider_generation": 1})
    placement("PUT", path + "/PCPU", 400, {"total": 16, "resource_provider_generation": 2})
    placement("POST", path, 201, {"resource_class": "PCPU", "total": 4})
    placement("POST", path, 409, {"resource_class": "PCPU", "total": 4})
    placement("POST", path, 400, {"resource_class": "CUSTOM_NEVER_MADE", "total": 4})
    placement("DELETE", path + "/PCPU", 204)
    placement("DELETE", path + "/PCPU", 404)
    placement("DELETE", path, 204)
    assert placement("GET", path, 200)["inventories"] == {}


def test_bad_inventories_are_refused(placement: Placement) -> None:
    made = placement.provider()
    path = f"/resource_providers/{made}/inventories"
    for bad in ({"total": 0}, {"total": -1}, {"total": 2**31}, {"total": "many"}, {"total": 5, "reserved": 6},
                {"total": 5, "allocation_ratio": 1e39}, {"total": 5, "colour": 1}, {"total": 10**30}):
        placement("PUT", path, 400, {"resource_provider_generation": 1, "inventories": {"VCPU": bad}})
    full = {"resource_provider_generation": 1, "inventories": {"VCPU": {"total": 5, "reserved": 5}}}
    placement("PUT", path, 400, full, version="1.25")
    placement("PUT", path, 200, full, version="1.26")


def test_classes_of_ones_own(placement: Placement) -> None:
    assert placement("GET", "/resource_classes/VCPU", 200)["name"] == "VCPU"
    placement("PUT", "/resource_classes/CUSTOM_GOLD", 201)
    placement("PUT", "/resource_classes/CUSTOM_GOLD", 204)
    placement("PUT", "/resource_classes/GOLD", 400)
    placement("POST", "/resource_classes", 409, {"name": "CUSTOM_GOLD"})
    names = [row["name"] for row in placement("GET", "/resource_classes", 200)["resource_classes"]]
    assert "CUSTOM_GOLD" in names
    made = placement.provider(CUSTOM_GOLD=5)
    placement("DELETE", "/resource_classes/CUSTOM_GOLD", 409)
    placement("DELETE", f"/resource_providers/{made}", 204)
    placement("DELETE", "/resource_classes/CUSTOM_GOLD", 204)
    placement("DELETE", "/resource_classes/CUSTOM_GOLD", 404)
    placement("DELETE", "/resource_classes/VCPU", 400)
    placement("PUT", "/resource_classes/CUSTOM_A", 201)
    renamed = placement("PUT", "/resource_classes/CUSTOM_A", 200, {"name": "CUSTOM_B"}, version="1.6")
    assert renamed["name"] == "CUSTOM_B"


def test_traits(placement: Placement) -> None:
    assert "HW_CPU_X86_VMX" in placement("GET", "/traits?name=startswith:HW_CPU_X86", 200)["traits"]
    placement("PUT", "/traits/CUSTOM_FAST", 201)
    placement("PUT", "/traits/CUSTOM_FAST", 204)
    placement("PUT", "/traits/FAST", 400)
    placement("GET", "/traits/NO_SUCH", 404)
    assert placement("GET", "/traits?name=in:CUSTOM_FAST,NO_SUCH", 200)["traits"] == ["CUSTOM_FAST"]
    placement("GET", "/traits?name=CUSTOM", 400)
    made = placement.provider(traits=("CUSTOM_FAST", "HW_CPU_X86_VMX"))
    path = f"/resource_providers/{made}/traits"
    got = placement("GET", path, 200)
    assert got == {"traits": ["CUSTOM_FAST", "HW_CPU_X86_VMX"], "resource_provider_generation": 2}
    assert "CUSTOM_FAST" in placement("GET", "/traits?associated=true", 200)["traits"]
    assert "CUSTOM_FAST" not in placement("GET", "/traits?associated=false", 200)["traits"]
    placement("DELETE", "/traits/CUSTOM_FAST", 409)
    placement("PUT", path, 409, {"resource_provider_generation": 1, "traits": []})
    placement("PUT", path, 400, {"resource_provider_generation": 2, "traits": ["CUSTOM_NEVER"]})
    placement("DELETE", path, 204)
    placement("DELETE", "/traits/CUSTOM_FAST", 204)
    placement("DELETE", "/traits/HW_CPU_X86_VMX", 400)


def test_aggregates_got_a_generation(placement: Placement, new_id: Callable[[], str]) -> None:
    made, group = placement.provider(), new_id()
    path = f"/resource_providers/{made}/aggregates"
    assert placement("PUT", path, 200, [group], version="1.1") == {"aggregates": [group]}
    assert placement("GET", path, 200) == {"aggregates": [group], "resource_provider_generation": 1}
    placement("PUT", path, 409, {"aggregates": [], "resource_provider_generation": 0})
    placement("PUT", path, 400, [group])
    placement("PUT", path, 400, ["no id"], version="1.1")
    body = {"aggregates": [], "resource_provider_generation": 1}
    assert placement("PUT", path, 200, body) == {"aggregates": [], "resource_provider_generation": 2}


def test_filters_of_the_list(placement: Placement, new_id: Callable[[], str]) -> None:
    group, other = new_id(), new_id()
    big = placement.provider(VCPU=64, traits=("HW_CPU_X86_AVX", "STORAGE_DISK_SSD"), aggregates=(group,))
    two = {"total": 2, "max_unit": 2}
    small = placement.provider(VCPU=two, traits=("STORAGE_DISK_SSD",), aggregates=(group, other))

    def ids(query: str, version: str = "1.39") -> set[str]:
        rows = placement("GET", "/resource_providers?" + query, 200, version=version)["resource_providers"]
        return {row["uuid"] for row in rows}

    assert ids(f"member_of={group}") == {big, small}
    assert ids(f"member_of={group}&member_of={other}") == {small}
    assert ids(f"member_of=in:{group},{other}&member_of=!{other}") == {big}
    assert ids(f"member_of={group}&resources=VCPU:4") == {big}
    assert ids(f"member_of={group}&required=!HW_CPU_X86_AVX") == {small}
    assert ids(f"member_of={group}&required=in:HW_CPU_X86_AVX,HW_CPU_X86_VMX&required=STORAGE_DISK_SSD") == {big}
    assert ids(f"uuid={big}") == {big}
    for bad in ("member_of=x", f"member_of={group},{other}", "required=NO_SUCH", "required=", "resources=VCPU:0",
                "resources=VCPU", "resources=VCPU:9999999999999999999", "resources=NO_CLASS:1", "uuid=x",
                "required=STORAGE_DISK_SSD,!STORAGE_DISK_SSD"):
        placement("GET", "/resource_providers?" + bad, 400)
    placement("GET", f"/resource_providers?member_of=!{group}", 400, version="1.31")
    placement("GET", "/resource_providers?required=!STORAGE_DISK_SSD", 400, version="1.21")
