"""Credentials, trusts and application credentials: what stands for a user, and what it may not do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from tests.api.conftest import Client
from tests.api.identity.people import V3, auth, grant, made, name, on_project, role_id, session

Person = tuple[dict[str, Any], dict[str, Any], Client]


def person(admin: Client, anonymous: Client, role: str = "member") -> Person:
    """A user with a role on a project of his own, and his session there."""
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", role)
    return user, project, session(anonymous, user, on_project(project["id"]))


# -- credentials


def test_credentials_are_sealed_at_rest(admin: Client, cloud: Cloud) -> None:
    from pileus.identity.credentials import rotate_keys
    from pileus.identity.tables import credential

    user, project = made(admin, "users"), made(admin, "projects")
    blob = json.dumps({"access": name("key"), "secret": "very secret"})
    given = {"user_id": user["id"], "project_id": project["id"], "type": "ec2", "blob": blob}
    reply = admin.post(f"{V3}/credentials", {"credential": given})
    assert reply.status_code == 201
    kept = reply.json()["credential"]
    assert kept["blob"] == blob
    assert kept["type"] == "ec2"
    assert kept["project_id"] == project["id"]
    stored = cloud.db.run_sync(lambda tx: tx.scalar(sa.select(credential.c.blob).where(credential.c.id == kept["id"])))
    assert "secret" not in stored
    assert admin.post(f"{V3}/credentials", {"credential": given}).status_code == 409
    for _ in range(4):
        cloud.db.run_sync(lambda tx: rotate_keys(tx, cloud))
    path = f"{V3}/credentials/{kept['id']}"
    assert admin.get(path).json()["credential"]["blob"] == blob
    changed = json.dumps({"access": json.loads(blob)["access"], "secret": "newer"})
    assert admin.patch(path, {"credential": {"blob": changed}}).json()["credential"]["blob"] == changed
    assert [row["id"] for row in admin.get(f"{V3}/credentials?user_id={user['id']}").json()["credentials"]] == [
        kept["id"]
    ]
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404


@pytest.mark.parametrize("wrong", [
    {"blob": "no json"}, {"blob": "{}"}, {"blob": "[]"}, {"project_id": None}, {"user_id": "nobody"}, {"type": ""},
])
def test_what_an_ec2_credential_cannot_be(admin: Client, wrong: dict[str, object]) -> None:
    user, project = made(admin, "users"), made(admin, "projects")
    good = {"user_id": user["id"], "project_id": project["id"], "type": "ec2", "blob": '{"access": "a"}'}
    assert admin.post(f"{V3}/credentials", {"credential": {**good, **wrong}}).status_code == 400


def test_credentials_are_their_owners(admin: Client, anonymous: Client) -> None:
    one, _, own = person(admin, anonymous)
    other, _, others = person(admin, anonymous)
    mine = {"user_id": one["id"], "type": "cert", "blob": "mine"}
    made_one = own.post(f"{V3}/credentials", {"credential": mine})
    assert made_one.status_code == 201
    path = f"{V3}/credentials/{made_one.json()['credential']['id']}"
    assert own.get(path).status_code == 200
    assert len(own.get(f"{V3}/credentials").json()["credentials"]) == 1
    assert others.get(path).status_code == 403
    assert others.delete(path).status_code == 403
    assert others.get(f"{V3}/credentials?user_id={one['id']}").json()["credentials"] == []
    assert others.post(f"{V3}/credentials", {"credential": mine}).status_code == 403
    assert own.patch(path, {"credential": {"user_id": other["id"]}}).status_code == 403


def test_ec2_credentials_by_their_own_path(admin: Client, anonymous: Client) -> None:
    user, project, own = person(admin, anonymous)
    other, _, _ = person(admin, anonymous)
    path = f"{V3}/users/{user['id']}/credentials/OS-EC2"
    reply = own.post(path, {"tenant_id": project["id"]})
    assert reply.status_code == 201
    pair = reply.json()["credential"]
    assert pair["access"]
    assert pair["secret"]
    assert pair["tenant_id"] == project["id"]
    assert own.get(f"{path}/{pair['access']}").json()["credential"] == pair
    assert own.get(path).json()["credentials"] == [pair]
    theirs = f"{V3}/users/{other['id']}/credentials/OS-EC2"
    assert own.get(theirs).status_code == 403
    assert own.post(theirs, {"tenant_id": project["id"]}).status_code == 403
    assert admin.get(f"{theirs}/{pair['access']}").status_code == 404
    assert own.delete(f"{path}/{pair['access']}").status_code == 204
    assert own.get(path).json()["credentials"] == []


# -- trusts


def entrust(own: Client, trustor: dict[str, Any], trustee: dict[str, Any], project: dict[str, Any], **more: Any) -> Any:
    body = {
        "trustor_user_id": trustor["id"], "trustee_user_id": trustee["id"], "project_id": project["id"],
        "impersonation": True, "roles": [{"name": "member"}], "expires_at": None, **more,
    }
    return own.post(f"{V3}/OS-TRUST/trusts", {"trust": body})


def test_a_trustee_acts_for_the_trustor_until_the_trust_ends(admin: Client, anonymous: Client) -> None:
    trustor, project, own = person(admin, anonymous)
    trustee, _, theirs = person(admin, anonymous)
    reply = entrust(own, trustor, trustee, project)
    assert reply.status_code == 201
    trust = reply.json()["trust"]
    assert [row["name"] for row in trust["roles"]] == ["member"]
    assert trust["deleted_at"] is None
    token = auth(anonymous, trustee, {"OS-TRUST:trust": {"id": trust["id"]}})
    assert token.status_code == 201
    assert token.json()["token"]["user"]["id"] == trustor["id"]
    acting = Client(anonymous.app, anonymous.loop, token.headers["x-subject-token"])
    assert acting.get(f"{V3}/projects/{project['id']}").status_code == 200
    path = f"{V3}/OS-TRUST/trusts/{trust['id']}"
    listed = admin.get(f"{V3}/OS-TRUST/trusts/").json()["trusts"]
    assert "roles" not in next(row for row in listed if row["id"] == trust["id"])
    assert theirs.get(path).json()["trust"]["id"] == trust["id"]
    assert theirs.delete(path).status_code == 403
    assert theirs.get(f"{V3}/OS-TRUST/trusts?trustee_user_id={trustee['id']}").json()["trusts"][0]["id"] == trust["id"]
    assert theirs.get(f"{V3}/OS-TRUST/trusts?trustor_user_id={trustor['id']}").status_code == 403
    assert theirs.get(f"{V3}/OS-TRUST/trusts").status_code == 403
    member = role_id(admin, "member")
    assert own.get(f"{path}/roles").json()["roles"][0]["id"] == member
    assert own.request("HEAD", f"{path}/roles/{member}").status_code == 200
    assert own.get(f"{path}/roles/{role_id(admin, 'admin')}").status_code == 404
    assert own.delete(path).status_code == 204
    assert own.get(path).status_code == 404
    assert acting.get(f"{V3}/projects/{project['id']}").status_code == 401


def test_nobody_entrusts_what_he_does_not_have(admin: Client, anonymous: Client) -> None:
    trustor, project, own = person(admin, anonymous)
    trustee, foreign, theirs = person(admin, anonymous)
    assert entrust(own, trustor, trustee, project, roles=[{"name": "admin"}]).status_code == 404
    assert entrust(own, trustor, trustee, project, roles=[]).status_code == 403
    assert entrust(own, trustor, trustee, foreign).status_code == 404
    assert entrust(theirs, trustor, trustee, project).status_code == 403
    assert entrust(own, trustor, {"id": "nobody"}, project).status_code == 404
    for wrong in ({"expires_at": "2001-01-01T00:00:00Z"}, {"expires_at": "soon"}, {"remaining_uses": 0},
                  {"impersonation": "yes"}):
        assert entrust(own, trustor, trustee, project, **wrong).status_code == 400, wrong


def test_uses_of_a_trust_are_counted(admin: Client, anonymous: Client) -> None:
    trustor, project, own = person(admin, anonymous)
    trustee, _, _ = person(admin, anonymous)
    trust = entrust(own, trustor, trustee, project, remaining_uses=1).json()["trust"]
    scope = {"OS-TRUST:trust": {"id": trust["id"]}}
    assert auth(anonymous, trustor, scope).status_code == 403
    assert auth(anonymous, trustee, scope).status_code == 201
    assert auth(anonymous, trustee, scope).status_code == 404


def test_a_trust_is_passed_on_within_its_bounds(admin: Client, anonymous: Client) -> None:
    trustor, project, own = person(admin, anonymous)
    second, _, _ = person(admin, anonymous)
    third, _, _ = person(admin, anonymous)
    closed = entrust(own, trustor, second, project).json()["trust"]
    acting = session(anonymous, second, {"OS-TRUST:trust": {"id": closed["id"]}})
    assert entrust(acting, trustor, third, project).status_code == 403
    opened = entrust(own, trustor, second, project, allow_redelegation=True).json()["trust"]
    assert opened["redelegation_count"] == 3
    acting = session(anonymous, second, {"OS-TRUST:trust": {"id": opened["id"]}})
    assert entrust(acting, trustor, third, project, roles=[{"name": "reader"}]).status_code == 403
    passed = entrust(acting, trustor, third, project, allow_redelegation=True)
    assert passed.status_code == 201
    assert passed.json()["trust"]["redelegated_trust_id"] == opened["id"]
    assert passed.json()["trust"]["redelegation_count"] == 2
    last = session(anonymous, third, {"OS-TRUST:trust": {"id": passed.json()["trust"]["id"]}})
    assert last.get(f"{V3}/projects/{project['id']}").status_code == 200
    assert own.delete(f"{V3}/OS-TRUST/trusts/{opened['id']}").status_code == 204
    assert last.get(f"{V3}/projects/{project['id']}").status_code == 401
    assert own.get(f"{V3}/OS-TRUST/trusts/{passed.json()['trust']['id']}").status_code == 404


# -- application credentials


def app_credential(own: Client, user: dict[str, Any], **more: Any) -> Any:
    body = {"application_credential": {"name": name("program"), **more}}
    return own.post(f"{V3}/users/{user['id']}/application_credentials", body)


def by_app_credential(client: Client, made_one: dict[str, Any], secret: str | None = None) -> Any:
    given = {"id": made_one["id"], "secret": secret or made_one["secret"]}
    body = {"identity": {"methods": ["application_credential"], "application_credential": given}}
    return client.post(f"{V3}/auth/tokens", {"auth": body})


def program(client: Client, made_one: dict[str, Any]) -> Client:
    reply = by_app_credential(client, made_one)
    assert reply.status_code == 201, reply.text
    return Client(client.app, client.loop, reply.headers["x-subject-token"])


def test_a_program_logs_in_with_some_of_its_owners_roles(admin: Client, anonymous: Client) -> None:
    user, project, own = person(admin, anonymous)
    reply = app_credential(own, user, roles=[{"name": "reader"}], description="mine")
    assert reply.status_code == 201
    given = reply.json()["application_credential"]
    assert given["secret"]
    assert given["unrestricted"] is False
    assert given["project_id"] == project["id"]
    path = f"{V3}/users/{user['id']}/application_credentials"
    shown = own.get(f"{path}/{given['id']}").json()["application_credential"]
    assert shown == {k: v for k, v in given.items() if k != "secret"}
    assert [row["id"] for row in own.get(path).json()["application_credentials"]] == [given["id"]]
    token = by_app_credential(anonymous, given).json()["token"]
    assert [row["name"] for row in token["roles"]] == ["reader"]
    assert token["project"]["id"] == project["id"]
    assert token["application_credential"] == {"id": given["id"], "name": given["name"], "restricted": True}
    assert by_app_credential(anonymous, given, "wrong").status_code == 401
    acting = program(anonymous, given)
    assert own.delete(f"{path}/{given['id']}").status_code == 204
    assert acting.get(f"{V3}/auth/projects").status_code == 401
    assert by_app_credential(anonymous, given).status_code == 401


def test_application_credentials_are_made_by_their_owner_within_his_roles(admin: Client, anonymous: Client) -> None:
    user, _, own = person(admin, anonymous)
    other, _, others = person(admin, anonymous)
    assert app_credential(own, user, roles=[{"name": "admin"}]).status_code == 400
    assert app_credential(own, user, roles=[{"name": "nonsense"}]).status_code == 400
    assert app_credential(own, user, expires_at="2001-01-01T00:00:00").status_code == 400
    assert app_credential(others, user).status_code == 403
    assert app_credential(admin, user).status_code == 403
    given = app_credential(own, user).json()["application_credential"]
    assert app_credential(own, user, name=given["name"]).status_code == 409
    assert others.get(f"{V3}/users/{user['id']}/application_credentials/{given['id']}").status_code == 403
    assert others.get(f"{V3}/users/{other['id']}/application_credentials/{given['id']}").status_code == 403
    assert others.delete(f"{V3}/users/{other['id']}/application_credentials/{given['id']}").status_code == 403


def test_a_restricted_program_makes_no_credentials(admin: Client, anonymous: Client) -> None:
    user, project, own = person(admin, anonymous)
    restricted = program(anonymous, app_credential(own, user).json()["application_credential"])
    free = program(anonymous, app_credential(own, user, unrestricted=True).json()["application_credential"])
    key = {"user_id": user["id"], "project_id": project["id"], "type": "ec2", "blob": '{"access": "%s"}'}
    for client, status in ((restricted, 403), (free, 201)):
        assert app_credential(client, user).status_code == status
        blob = {**key, "blob": json.dumps({"access": name("access")})}
        assert client.post(f"{V3}/credentials", {"credential": blob}).status_code == status
        ec2 = client.post(f"{V3}/users/{user['id']}/credentials/OS-EC2", {"tenant_id": project["id"]})
        assert ec2.status_code == status
        assert entrust(client, user, user, project).status_code == 403
        assert client.get(f"{V3}/OS-TRUST/trusts?trustor_user_id={user['id']}").status_code == 403
        totp = {"user_id": user["id"], "type": "totp", "blob": "AAAA"}
        assert client.post(f"{V3}/credentials", {"credential": totp}).status_code == 403
    body = {"identity": {"methods": ["token"], "token": {"id": free.token}}}
    assert anonymous.post(f"{V3}/auth/tokens", {"auth": body}).status_code == 403


def test_a_trusts_token_makes_no_application_credential(admin: Client, anonymous: Client) -> None:
    trustor, project, own = person(admin, anonymous)
    trustee, _, _ = person(admin, anonymous)
    trust = entrust(own, trustor, trustee, project).json()["trust"]
    acting = session(anonymous, trustee, {"OS-TRUST:trust": {"id": trust["id"]}})
    assert app_credential(acting, trustor).status_code == 403
    assert acting.get(f"{V3}/users/{trustor['id']}/application_credentials").status_code == 403


def test_access_rules_bound_a_program(admin: Client, anonymous: Client) -> None:
    user, project, own = person(admin, anonymous)
    rules = [{"service": "identity", "method": "GET", "path": "/v3/auth/*"}]
    given = app_credential(own, user, access_rules=rules).json()["application_credential"]
    assert given["access_rules"][0].items() >= rules[0].items()
    acting = program(anonymous, given)
    assert acting.get(f"{V3}/auth/projects").status_code == 200
    assert acting.get(f"{V3}/projects/{project['id']}").status_code == 401
    path = f"{V3}/users/{user['id']}/access_rules"
    listed = own.get(path).json()["access_rules"]
    assert [row["id"] for row in listed] == [given["access_rules"][0]["id"]]
    assert own.get(f"{path}/{listed[0]['id']}").status_code == 200
    assert own.delete(f"{path}/{listed[0]['id']}").status_code == 403
    again = app_credential(own, user, access_rules=[{"id": listed[0]["id"]}]).json()["application_credential"]
    assert [row["id"] for row in again["access_rules"]] == [listed[0]["id"]]
    for wrong in ([{"id": "unknown"}], [{"service": "identity"}], [{**rules[0], "path": "relative"}]):
        assert app_credential(own, user, access_rules=wrong).status_code == 400
    for one in (given, again):
        assert own.delete(f"{V3}/users/{user['id']}/application_credentials/{one['id']}").status_code == 204
    assert own.delete(f"{path}/{listed[0]['id']}").status_code == 204
    _, _, others = person(admin, anonymous)
    assert others.get(path).status_code == 403


def test_a_withdrawn_role_ends_the_programs_of_the_project(admin: Client, anonymous: Client) -> None:
    user, project, own = person(admin, anonymous)
    acting = program(anonymous, app_credential(own, user).json()["application_credential"])
    path = f"{V3}/projects/{project['id']}/users/{user['id']}/roles/{role_id(admin, 'member')}"
    assert admin.delete(path).status_code == 204
    assert acting.get(f"{V3}/auth/projects").status_code == 401
    assert admin.put(path).status_code == 204
    assert acting.get(f"{V3}/auth/projects").status_code == 401


def test_token_replies_are_the_same_twice(admin: Client, anonymous: Client) -> None:
    user, project, _ = person(admin, anonymous)
    reply = auth(anonymous, user, on_project(project["id"]))
    token = reply.headers["x-subject-token"]
    again = admin.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": token})
    assert again.status_code == 200
    assert msgspec.json.decode(again.content) == reply.json()
    assert admin.request("HEAD", f"{V3}/auth/tokens", headers={"X-Subject-Token": token}).status_code == 200
    _, _, stranger = person(admin, anonymous)
    assert stranger.get(f"{V3}/auth/tokens", headers={"X-Subject-Token": token}).status_code == 403
    assert stranger.delete(f"{V3}/auth/tokens", headers={"X-Subject-Token": token}).status_code == 403
