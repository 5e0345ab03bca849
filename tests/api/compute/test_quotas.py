"""Quotas, limits and server groups: how much a project may have."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.compute import quotas, server_groups
from pileus.web.errors import OverQuota
from tests.api.compute.people import Person, join
from tests.api.compute.rows import add_server
from tests.api.conftest import Client

V = "/compute/v2.1"
GROUPS = V + "/os-server-groups"
FULL = {
    "instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members",
    "injected_files", "injected_file_content_bytes", "injected_file_path_bytes", "floating_ips", "fixed_ips",
    "security_groups", "security_group_rules",
}
NETWORK = {"floating_ips", "fixed_ips", "security_groups", "security_group_rules"}
INJECTED = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}


@pytest.fixture
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


def sets(person: Person) -> str:
    return f"{V}/os-quota-sets/{person.project_id}"


@pytest.mark.parametrize(("version", "keys"), [
    (None, FULL), ("2.35", FULL), ("2.36", FULL - NETWORK), ("2.57", FULL - NETWORK - INJECTED),
])
def test_each_version_has_its_resources(member: Person, version: str | None, keys: set[str]) -> None:
    for path in ("", "/defaults", "/detail"):
        shown = member.client.get(sets(member) + path, version=version).json()["quota_set"]
        assert set(shown) == keys | {"id"}
        assert shown["id"] == member.project_id


def test_a_project_gets_its_own_and_loses_them(admin: Client, member: Person) -> None:
    changed = admin.put(sets(member), {"quota_set": {"cores": 4, "ram": "-1"}}, version="2.57").json()["quota_set"]
    assert (changed["cores"], changed["ram"], changed["instances"]) == (4, -1, 10)
    assert "id" not in changed
    assert member.client.get(sets(member)).json()["quota_set"]["cores"] == 4
    assert member.client.get(sets(member) + "/defaults").json()["quota_set"]["cores"] == 20
    assert admin.delete(sets(member)).status_code == 202
    assert member.client.get(sets(member)).json()["quota_set"]["cores"] == 20


def test_a_user_has_no_more_than_his_project(admin: Client, member: Person) -> None:
    mine = f"{sets(member)}?user_id={member.user_id}"
    assert admin.put(mine, {"quota_set": {"instances": 3}}).json()["quota_set"]["instances"] == 3
    assert member.client.get(mine).json()["quota_set"]["instances"] == 3
    assert member.client.get(sets(member)).json()["quota_set"]["instances"] == 10
    for value in (11, -1):
        assert admin.put(mine, {"quota_set": {"instances": value}}).status_code == 400
    assert admin.delete(mine).status_code == 202
    assert member.client.get(mine).json()["quota_set"]["instances"] == 10


def test_not_below_what_is_in_use_unless_forced(admin: Client, member: Person, cloud: Cloud) -> None:
    add_server(cloud, member.project_id)
    detail = member.client.get(sets(member) + "/detail").json()["quota_set"]
    assert detail["cores"] == {"limit": 20, "in_use": 2, "reserved": 0}
    assert detail["ram"]["in_use"] == 512
    reply = admin.put(sets(member), {"quota_set": {"cores": 1}})
    assert reply.status_code == 400
    assert "must be greater than or equal to already used" in reply.json()["badRequest"]["message"]
    assert admin.put(sets(member), {"quota_set": {"cores": 1, "force": True}}).json()["quota_set"]["cores"] == 1


@pytest.mark.parametrize(("body", "version"), [
    ({"cores": -2}, None), ({"cores": 2**31}, None), ({"cores": "many"}, None), ({"cores": None}, None),
    ({"colour": 1}, None), ({"floating_ips": 1}, "2.36"), ({"injected_files": 1}, "2.57"), ({"force": "x"}, None),
])
def test_what_is_no_quota(admin: Client, member: Person, body: dict[str, Any], version: str | None) -> None:
    assert admin.put(sets(member), {"quota_set": body}, version=version).status_code == 400


def test_who_may_look_and_change(admin: Client, member: Person, cloud: Cloud, anonymous: Client) -> None:
    other = join(cloud, anonymous)
    assert other.client.get(sets(member)).status_code == 403
    assert other.client.get(sets(member) + "/detail").status_code == 403
    assert member.client.put(sets(member), {"quota_set": {"cores": 99}}).status_code == 403
    assert member.client.delete(sets(member)).status_code == 403
    assert admin.get(V + "/os-quota-sets/nobody").status_code == 400
    assert admin.put(V + "/os-quota-sets/nobody", {"quota_set": {"cores": 1}}).status_code == 400
    assert member.client.get(V + "/os-quota-class-sets/default").status_code == 403


def test_the_default_class_moves_the_defaults(admin: Client, member: Person) -> None:
    path = V + "/os-quota-class-sets/default"
    assert set(admin.get(path).json()["quota_class_set"]) == FULL - {"server_groups", "server_group_members"} | {"id"}
    assert set(admin.get(path, version="2.57").json()["quota_class_set"]) == FULL - NETWORK - INJECTED | {"id"}
    try:
        changed = admin.put(path, {"quota_class_set": {"cores": 33}}, version="2.50").json()["quota_class_set"]
        assert changed["cores"] == 33
        assert member.client.get(sets(member)).json()["quota_set"]["cores"] == 33
    finally:
        admin.put(path, {"quota_class_set": {"cores": 20}})


def test_a_claim_beyond_the_quota(admin: Client, member: Person, cloud: Cloud) -> None:
    project = member.project_id
    add_server(cloud, project)
    admin.put(sets(member), {"quota_set": {"instances": 2, "cores": 4}})

    def claim(**wanted: int) -> None:
        cloud.db.run_sync(lambda tx: quotas.room(tx, cloud, project, wanted))

    claim(instances=1, cores=2, ram=512)
    with pytest.raises(OverQuota) as caught:
        claim(instances=2, cores=3, ram=1)
    assert caught.value.message == (
        "Quota exceeded for instances,cores: Requested 2, 3, but already used 1, 2 of 2, 4 instances,cores"
    )
    add_server(cloud, project, deleted=True)
    claim(instances=1)  # what is deleted does not count


def test_limits(member: Person, admin: Client, cloud: Cloud) -> None:
    add_server(cloud, member.project_id)
    absolute = member.client.get(V + "/limits").json()["limits"]["absolute"]
    assert (absolute["maxTotalCores"], absolute["totalCoresUsed"], absolute["totalInstancesUsed"]) == (20, 2, 1)
    assert {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps", "totalSecurityGroupsUsed"} <= set(absolute)
    newer = member.client.get(V + "/limits", version="2.57").json()["limits"]
    assert newer["rate"] == []
    assert not {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps"} & set(newer["absolute"])
    query = f"?tenant_id={member.project_id}"
    assert admin.get(V + "/limits" + query).json()["limits"]["absolute"]["totalRAMUsed"] == 512
    assert member.client.get(V + "/limits" + query).status_code == 403


def test_server_groups_come_and_go(member: Person, cloud: Cloud) -> None:
    body = {"server_group": {"name": "apart", "policies": ["anti-affinity"]}}
    made = member.client.post(GROUPS, body).json()["server_group"]
    assert {k: v for k, v in made.items() if k != "id"} == {
        "name": "apart", "policies": ["anti-affinity"], "members": [], "metadata": {},
    }
    inside = add_server(cloud, member.project_id, group_id=made["id"])
    add_server(cloud, member.project_id, group_id=made["id"], deleted=True)
    shown = member.client.get(f"{GROUPS}/{made['id']}", version="2.64").json()["server_group"]
    assert shown == {
        "id": made["id"], "name": "apart", "policy": "anti-affinity", "rules": {}, "members": [inside],
        "project_id": member.project_id, "user_id": member.user_id,
    }
    assert member.client.get(GROUPS, version="2.64").json() == {"server_groups": [shown]}
    assert member.client.delete(f"{GROUPS}/{made['id']}").status_code == 204
    assert member.client.get(f"{GROUPS}/{made['id']}").status_code == 404


def test_rules_of_server_groups(member: Person) -> None:
    body: dict[str, Any] = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": "3"}}
    made = member.client.post(GROUPS, {"server_group": body}, version="2.64").json()["server_group"]
    assert made["rules"] == {"max_server_per_host": 3}
    body["policy"] = "affinity"
    assert member.client.post(GROUPS, {"server_group": body}, version="2.64").status_code == 400


@pytest.mark.parametrize(("body", "version"), [
    ({"name": "g"}, None), ({"name": "g", "policies": []}, None), ({"name": "", "policies": ["affinity"]}, None),
    ({"name": "g", "policies": ["affinity", "anti-affinity"]}, None), ({"name": "g", "policies": ["love"]}, None),
    ({"name": "g", "policies": ["soft-affinity"]}, "2.14"), ({"name": "g", "policy": "affinity"}, "2.63"),
    ({"name": "g", "policies": ["affinity"]}, "2.64"), ({"name": "g"}, "2.64"),
    ({"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 0}}, "2.64"),
])
def test_what_is_no_server_group(member: Person, body: dict[str, Any], version: str | None) -> None:
    assert member.client.post(GROUPS, {"server_group": body}, version=version).status_code == 400


def test_server_groups_of_other_projects_do_not_exist(
    admin: Client, member: Person, cloud: Cloud, anonymous: Client
) -> None:
    body = {"server_group": {"name": "ours", "policies": ["soft-affinity"]}}
    made = member.client.post(GROUPS, body, version="2.15").json()["server_group"]
    other, reader = join(cloud, anonymous), join(cloud, anonymous, "reader", member.project_id)
    path = f"{GROUPS}/{made['id']}"
    assert other.client.get(path).status_code == 404
    assert other.client.delete(path).status_code == 404
    assert other.client.get(GROUPS + "?all_projects=1").json()["server_groups"] == []
    assert reader.client.get(path).status_code == 200
    assert reader.client.delete(path).status_code == 403
    assert reader.client.post(GROUPS, body, version="2.15").status_code == 403
    assert admin.get(path).status_code == 200
    assert made["id"] in [g["id"] for g in admin.get(GROUPS + "?all_projects=true").json()["server_groups"]]


def test_quotas_of_server_groups(admin: Client, member: Person, cloud: Cloud) -> None:
    admin.put(sets(member), {"quota_set": {"server_groups": 1, "server_group_members": 1}})
    body = {"server_group": {"name": "one", "policies": ["affinity"]}}
    made = member.client.post(GROUPS, body).json()["server_group"]
    assert member.client.post(GROUPS, body).status_code == 403
    group = cloud.db.run_sync(lambda tx: server_groups.find(tx, member.project_id, made["id"]))
    cloud.db.run_sync(lambda tx: server_groups.room(tx, cloud, group))
    with pytest.raises(OverQuota):
        cloud.db.run_sync(lambda tx: server_groups.room(tx, cloud, group, 2))
