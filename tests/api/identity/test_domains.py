"""Domains, their groups, and what a domain's manager and reader may do."""

from __future__ import annotations

import pytest

from tests.api.conftest import Client
from tests.api.identity.people import SYSTEM, V3, auth, grant, made, name, on_domain, on_project, role_id, session


def test_a_disabled_domain_voids_the_tokens_of_its_people(admin: Client, anonymous: Client) -> None:
    domain = made(admin, "domains", description="a place")
    assert domain["enabled"] is True
    assert domain["description"] == "a place"
    user = made(admin, "users", password="secret", domain_id=domain["id"])
    project = made(admin, "projects", domain_id=domain["id"])
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert own.get(f"{V3}/auth/projects").status_code == 200
    assert admin.patch(f"{V3}/domains/{domain['id']}", {"domain": {"enabled": False}}).status_code == 200
    assert own.get(f"{V3}/auth/projects").status_code == 401
    assert auth(anonymous, user).status_code == 401


def test_a_domain_goes_with_all_in_it_but_only_when_disabled(admin: Client) -> None:
    domain = made(admin, "domains")
    user = made(admin, "users", password="secret", domain_id=domain["id"])
    group = made(admin, "groups", domain_id=domain["id"])
    project = made(admin, "projects", domain_id=domain["id"])
    role = made(admin, "roles", domain_id=domain["id"])
    grant(admin, f"domains/{domain['id']}", f"groups/{group['id']}", "reader")
    path = f"{V3}/domains/{domain['id']}"
    assert admin.delete(path).status_code == 403
    assert admin.patch(path, {"domain": {"enabled": False}}).status_code == 200
    assert admin.delete(path).status_code == 204
    for gone in (path, f"{V3}/users/{user['id']}", f"{V3}/groups/{group['id']}", f"{V3}/projects/{project['id']}",
                 f"{V3}/roles/{role['id']}"):
        assert admin.get(gone).status_code == 404
    assert admin.get(f"{V3}/role_assignments?scope.domain.id={domain['id']}").json()["role_assignments"] == []


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "x" * 65}, {"name": "d", "enabled": "no"}, {"name": None}])
def test_what_a_domain_cannot_be(admin: Client, wrong: dict[str, object]) -> None:
    assert admin.post(f"{V3}/domains", {"domain": wrong}).status_code == 400


def test_domain_names_are_unique_and_found(admin: Client) -> None:
    one = made(admin, "domains")
    assert admin.post(f"{V3}/domains", {"domain": {"name": one["name"]}}).status_code == 409
    assert [row["id"] for row in admin.get(f"{V3}/domains?name={one['name']}").json()["domains"]] == [one["id"]]
    assert admin.get(f"{V3}/domains?name=Default").json()["domains"][0]["id"] == "default"


def test_an_immutable_domain_stays(admin: Client) -> None:
    domain = made(admin, "domains", enabled=False, options={"immutable": True})
    path = f"{V3}/domains/{domain['id']}"
    assert admin.patch(path, {"domain": {"description": "x"}}).status_code == 403
    assert admin.delete(path).status_code == 403
    assert admin.patch(path, {"domain": {"options": {"immutable": False}}}).status_code == 200
    assert admin.delete(path).status_code == 204


def test_a_member_sees_the_domain_of_his_project(admin: Client, anonymous: Client) -> None:
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert own.get(f"{V3}/domains/default").json()["domain"]["enabled"] is True
    assert own.get(f"{V3}/domains/{made(admin, 'domains')['id']}").status_code == 403
    assert own.get(f"{V3}/domains").status_code == 403


def test_a_manager_rules_his_domain_and_no_other(admin: Client, anonymous: Client) -> None:
    domain, other = made(admin, "domains"), made(admin, "domains")
    manager = made(admin, "users", password="secret", domain_id=domain["id"])
    grant(admin, f"domains/{domain['id']}", f"users/{manager['id']}", "manager")
    own = session(anonymous, manager, on_domain(domain["id"]))
    user = made(own, "users", domain_id=domain["id"])
    project = made(own, "projects", domain_id=domain["id"])
    group = made(own, "groups", domain_id=domain["id"])
    assert own.put(f"{V3}/groups/{group['id']}/users/{user['id']}").status_code == 204
    grant_path = f"{V3}/projects/{project['id']}/users/{user['id']}/roles"
    assert own.put(f"{grant_path}/{role_id(admin, 'member')}").status_code == 204
    assert own.put(f"{grant_path}/{role_id(admin, 'admin')}").status_code == 403
    for plural in ("users", "projects", "groups"):
        wanted = {plural[:-1]: {"name": name("x"), "domain_id": other["id"]}}
        assert own.post(f"{V3}/{plural}", wanted).status_code == 403
        assert {row["domain_id"] for row in own.get(f"{V3}/{plural}").json()[plural]} == {domain["id"]}
    stranger = made(admin, "users", domain_id=other["id"])
    assert own.get(f"{V3}/users/{stranger['id']}").status_code == 403
    assert own.put(f"{V3}/groups/{group['id']}/users/{stranger['id']}").status_code == 403
    assert own.post(f"{V3}/domains", {"domain": {"name": name("x")}}).status_code == 403
    assert {row["name"] for row in own.get(f"{V3}/roles").json()["roles"]} == {"manager", "member", "reader"}


def test_a_system_reader_reads_everything_and_changes_nothing(admin: Client, anonymous: Client) -> None:
    user = made(admin, "users", password="secret")
    grant(admin, "system", f"users/{user['id']}", "reader")
    own = session(anonymous, user, SYSTEM)
    assert own.get(f"{V3}/auth/system").json()["system"] == [{"all": True}]
    for plural in ("domains", "users", "projects", "groups", "roles", "services", "endpoints", "policies",
                   "role_assignments", "credentials", "role_inferences", "OS-TRUST/trusts"):
        assert own.get(f"{V3}/{plural}").status_code == 200, plural
    for plural in ("domains", "users", "projects", "groups", "roles"):
        assert own.post(f"{V3}/{plural}", {plural[:-1]: {"name": name("x")}}).status_code == 403, plural


def test_groups_and_their_members(admin: Client) -> None:
    group = made(admin, "groups", description="us", project_id="extra", colour="red")
    assert group["project_id"] == "extra"
    assert group["colour"] == "red"
    user = made(admin, "users", password="secret", email="a@b")
    path = f"{V3}/groups/{group['id']}/users"
    assert admin.request("HEAD", f"{path}/{user['id']}").status_code == 404
    for _ in range(2):
        assert admin.put(f"{path}/{user['id']}").status_code == 204
    assert admin.request("HEAD", f"{path}/{user['id']}").status_code == 204
    assert admin.get(path).json()["users"] == [user]
    assert [row["id"] for row in admin.get(f"{V3}/users/{user['id']}/groups").json()["groups"]] == [group["id"]]
    assert admin.delete(f"{path}/{user['id']}").status_code == 204
    assert admin.delete(f"{path}/{user['id']}").status_code == 404
    assert admin.put(f"{path}/nobody").status_code == 404
    changed = admin.patch(f"{V3}/groups/{group['id']}", {"group": {"name": name("group"), "description": "all"}})
    assert changed.json()["group"]["description"] == "all"
    assert changed.json()["group"]["colour"] == "red"
    assert admin.delete(f"{V3}/groups/{group['id']}").status_code == 204
    assert admin.get(path).status_code == 404


def test_projects_form_trees_that_are_disabled_from_below(admin: Client) -> None:
    parent = made(admin, "projects")
    child = made(admin, "projects", parent_id=parent["id"])
    path = f"{V3}/projects/{parent['id']}"
    assert admin.patch(path, {"project": {"enabled": False}}).status_code == 403
    assert admin.delete(path).status_code == 403
    assert admin.patch(f"{V3}/projects/{child['id']}", {"project": {"enabled": False}}).status_code == 200
    assert admin.patch(path, {"project": {"enabled": False}}).status_code == 200
    assert admin.patch(f"{V3}/projects/{child['id']}", {"project": {"enabled": True}}).status_code == 403
