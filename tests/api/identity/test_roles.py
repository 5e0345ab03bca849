"""Roles, grants and role assignments."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Client
from tests.api.identity.people import SYSTEM, V3, auth, grant, made, name, on_domain, on_project, role_id, session


def test_a_roles_life(admin: Client) -> None:
    role = made(admin, "roles", description="does things")
    assert role["domain_id"] is None
    assert role["options"] == {}
    assert admin.post(f"{V3}/roles", {"role": {"name": role["name"]}}).status_code == 409
    changed = admin.patch(f"{V3}/roles/{role['id']}", {"role": {"name": name("role"), "options": {"immutable": True}}})
    assert changed.json()["role"]["options"] == {"immutable": True}
    assert admin.delete(f"{V3}/roles/{role['id']}").status_code == 403
    assert admin.patch(f"{V3}/roles/{role['id']}", {"role": {"options": {"immutable": None}}}).status_code == 200
    assert admin.delete(f"{V3}/roles/{role['id']}").status_code == 204
    assert admin.get(f"{V3}/roles/{role['id']}").status_code == 404
    assert admin.post(f"{V3}/roles", {"role": {"name": "x" * 256}}).status_code == 400


def test_the_standard_roles_are_there(admin: Client) -> None:
    names = {row["name"] for row in admin.get(f"{V3}/roles").json()["roles"]}
    assert {"admin", "manager", "member", "reader", "service"} <= names


@pytest.mark.parametrize("place", ["projects", "domains", "system", "OS-INHERIT/projects", "OS-INHERIT/domains"])
@pytest.mark.parametrize("actor", ["users", "groups"])
def test_grants_everywhere(admin: Client, place: str, actor: str) -> None:
    who = made(admin, actor)["id"]
    where = place if place == "system" else f"{place}/{made(admin, place.split('/')[-1])['id']}"
    end = "/inherited_to_projects" if "INHERIT" in place else ""
    roles, role = f"{V3}/{where}/{actor}/{who}/roles", role_id(admin, "member")
    assert admin.get(f"{roles}{end}").json()["roles"] == []
    assert admin.request("HEAD", f"{roles}/{role}{end}").status_code == 404
    for _ in range(2):
        assert admin.put(f"{roles}/{role}{end}").status_code == 204
    assert admin.request("HEAD", f"{roles}/{role}{end}").status_code == 204
    assert admin.get(f"{roles}/{role}{end}").status_code == 204
    assert [row["name"] for row in admin.get(f"{roles}{end}").json()["roles"]] == ["member"]
    assert admin.delete(f"{roles}/{role}{end}").status_code == 204
    assert admin.delete(f"{roles}/{role}{end}").status_code == 404
    assert admin.put(f"{roles}/unknown{end}").status_code == 404
    assert admin.put(f"{V3}/{where}/{actor}/unknown/roles/{role}{end}").status_code == 404


def test_a_withdrawn_role_counts_at_once(admin: Client, anonymous: Client) -> None:
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert own.get(f"{V3}/auth/projects").status_code == 200
    path = f"{V3}/projects/{project['id']}/users/{user['id']}/roles/{role_id(admin, 'member')}"
    assert admin.delete(path).status_code == 204
    assert own.get(f"{V3}/auth/projects").status_code == 401
    assert auth(anonymous, user, on_project(project["id"])).status_code == 401


def test_roles_come_through_groups_inheritance_and_implication(admin: Client, anonymous: Client) -> None:
    domain = made(admin, "domains")
    user = made(admin, "users", password="secret", domain_id=domain["id"])
    group = made(admin, "groups", domain_id=domain["id"])
    top = made(admin, "projects", domain_id=domain["id"])
    low = made(admin, "projects", parent_id=top["id"])
    admin.put(f"{V3}/groups/{group['id']}/users/{user['id']}")
    path = f"{V3}/OS-INHERIT/projects/{top['id']}/groups/{group['id']}/roles/{role_id(admin, 'member')}"
    assert admin.put(f"{path}/inherited_to_projects").status_code == 204
    assert auth(anonymous, user, on_project(top["id"])).status_code == 401
    token = auth(anonymous, user, on_project(low["id"])).json()["token"]
    assert {row["name"] for row in token["roles"]} == {"member", "reader"}
    reached = session(anonymous, user).get(f"{V3}/auth/projects").json()["projects"]
    assert [row["id"] for row in reached] == [low["id"]]
    assert [row["id"] for row in admin.get(f"{V3}/users/{user['id']}/projects").json()["projects"]] == [low["id"]]
    assert admin.delete(f"{V3}/groups/{group['id']}/users/{user['id']}").status_code == 204
    assert auth(anonymous, user, on_project(low["id"])).status_code == 401


def test_domains_that_a_user_can_reach(admin: Client, anonymous: Client) -> None:
    domain, user = made(admin, "domains"), made(admin, "users", password="secret")
    grant(admin, f"domains/{domain['id']}", f"users/{user['id']}", "reader")
    own = session(anonymous, user)
    assert [row["id"] for row in own.get(f"{V3}/auth/domains").json()["domains"]] == [domain["id"]]
    assert own.get(f"{V3}/auth/system").json()["system"] == []
    assert own.get(f"{V3}/auth/catalog").status_code == 403
    assert auth(anonymous, user, on_domain(domain["id"])).status_code == 201
    assert auth(anonymous, user, SYSTEM).status_code == 401


def test_implied_roles(admin: Client, anonymous: Client) -> None:
    prior, implied = made(admin, "roles"), made(admin, "roles")
    path = f"{V3}/roles/{prior['id']}/implies"
    assert admin.request("HEAD", f"{path}/{implied['id']}").status_code == 404
    reply = admin.put(f"{path}/{implied['id']}")
    assert reply.status_code == 201
    assert reply.json()["role_inference"]["implies"]["id"] == implied["id"]
    assert admin.request("HEAD", f"{path}/{implied['id']}").status_code == 204
    assert [row["id"] for row in admin.get(path).json()["role_inference"]["implies"]] == [implied["id"]]
    rules = admin.get(f"{V3}/role_inferences").json()["role_inferences"]
    assert any(rule["prior_role"]["id"] == prior["id"] for rule in rules)
    assert admin.put(f"{path}/{role_id(admin, 'admin')}").status_code == 403
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", prior["name"])
    token = auth(anonymous, user, on_project(project["id"])).json()["token"]
    assert {row["name"] for row in token["roles"]} == {prior["name"], implied["name"]}
    assert admin.delete(f"{path}/{implied['id']}").status_code == 204
    token = auth(anonymous, user, on_project(project["id"])).json()["token"]
    assert {row["name"] for row in token["roles"]} == {prior["name"]}


def test_a_domains_role_stays_in_its_domain_and_only_implies(admin: Client, anonymous: Client) -> None:
    domain = made(admin, "domains")
    role = made(admin, "roles", domain_id=domain["id"])
    assert [row["id"] for row in admin.get(f"{V3}/roles?domain_id={domain['id']}").json()["roles"]] == [role["id"]]
    assert role["id"] not in {row["id"] for row in admin.get(f"{V3}/roles").json()["roles"]}
    user, inside = made(admin, "users", password="secret"), made(admin, "projects", domain_id=domain["id"])
    outside = made(admin, "projects")
    assert admin.put(f"{V3}/projects/{outside['id']}/users/{user['id']}/roles/{role['id']}").status_code == 403
    assert admin.put(f"{V3}/projects/{inside['id']}/users/{user['id']}/roles/{role['id']}").status_code == 204
    assert auth(anonymous, user, on_project(inside["id"])).status_code == 401
    assert admin.put(f"{V3}/roles/{role['id']}/implies/{role_id(admin, 'reader')}").status_code == 201
    assert admin.put(f"{V3}/roles/{role_id(admin, 'reader')}/implies/{role['id']}").status_code == 403
    token = auth(anonymous, user, on_project(inside["id"])).json()["token"]
    assert [row["name"] for row in token["roles"]] == ["reader"]


def listed(admin: Client, query: str) -> list[dict[str, Any]]:
    reply = admin.get(f"{V3}/role_assignments?{query}")
    assert reply.status_code == 200, reply.text
    rows: list[dict[str, Any]] = reply.json()["role_assignments"]
    return rows


def test_role_assignments_as_granted_and_as_they_come_out(admin: Client) -> None:
    domain = made(admin, "domains")
    user = made(admin, "users", domain_id=domain["id"])
    group = made(admin, "groups", domain_id=domain["id"])
    top = made(admin, "projects", domain_id=domain["id"])
    low = made(admin, "projects", parent_id=top["id"])
    admin.put(f"{V3}/groups/{group['id']}/users/{user['id']}")
    member = role_id(admin, "member")
    admin.put(f"{V3}/OS-INHERIT/domains/{domain['id']}/groups/{group['id']}/roles/{member}/inherited_to_projects")
    grant(admin, f"projects/{top['id']}", f"users/{user['id']}", "reader")

    granted = listed(admin, f"group.id={group['id']}")
    assert granted == [{
        "role": {"id": member}, "group": {"id": group["id"]},
        "scope": {"domain": {"id": domain["id"]}, "OS-INHERIT:inherited_to": "projects"},
        "links": {"assignment": f"http://cloud.test{V3}/OS-INHERIT/domains/{domain['id']}/groups/{group['id']}"
                                f"/roles/{member}/inherited_to_projects"},
    }]
    named = listed(admin, f"user.id={user['id']}&include_names")
    assert named[0]["scope"]["project"] == {
        "id": top["id"], "name": top["name"], "domain": {"id": domain["id"], "name": domain["name"]},
    }
    assert named[0]["user"]["domain"]["name"] == domain["name"]
    assert named[0]["role"]["name"] == "reader"

    def pairs(query: str) -> set[tuple[str, str]]:
        return {(row["scope"]["project"]["id"], row["role"]["name"]) for row in listed(admin, query)}

    whole = {(top["id"], "member"), (top["id"], "reader"), (low["id"], "member"), (low["id"], "reader")}
    assert pairs(f"user.id={user['id']}&effective&include_names=1") == whole
    assert pairs(f"scope.project.id={low['id']}&effective=True&include_names=True") == {
        (low["id"], "member"), (low["id"], "reader"),
    }
    assert pairs(f"user.id={user['id']}&effective&include_names&role.id={member}") == {
        (top["id"], "member"), (low["id"], "member"),
    }
    assert pairs(f"scope.project.id={top['id']}&include_subtree&effective&include_names") == whole
    inherited = listed(admin, f"scope.project.id={low['id']}&effective")
    assert all(row["links"]["membership"].endswith(f"/groups/{group['id']}/users/{user['id']}") for row in inherited)
    assert listed(admin, f"scope.project.id={low['id']}") == []
    assert listed(admin, f"scope.domain.id={domain['id']}&effective") == []


def test_system_assignments_are_listed_apart(admin: Client) -> None:
    rows = listed(admin, "scope.system=all")
    assert rows
    assert all(row["scope"] == {"system": {"all": True}} for row in rows)


@pytest.mark.parametrize("query", [
    "scope.project.id=a&scope.domain.id=b", "scope.system=all&scope.domain.id=b", "scope.system=all&scope.project.id=b",
    "user.id=a&group.id=b", "effective&group.id=a", "include_subtree",
    "effective&scope.domain.id=a&scope.OS-INHERIT:inherited_to=projects",
])
def test_filters_that_exclude_each_other(admin: Client, query: str) -> None:
    assert admin.get(f"{V3}/role_assignments?{query}").status_code == 400


def test_plain_users_list_no_assignments(admin: Client, anonymous: Client) -> None:
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert own.get(f"{V3}/role_assignments").status_code == 403
    assert own.get(f"{V3}/projects/{project['id']}/users/{user['id']}/roles").status_code == 403
    admin_role = role_id(admin, "admin")
    assert own.put(f"{V3}/projects/{project['id']}/users/{user['id']}/roles/{admin_role}").status_code == 403
