"""Tokens: issued, validated, revoked."""

from __future__ import annotations

from tests.api.conftest import PASSWORD, Client


def test_a_token_describes_its_holder_and_scope(admin: Client) -> None:
    reply = admin.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": admin.token or ""})
    assert reply.status_code == 200
    token = reply.json()["token"]
    assert token["user"]["name"] == "admin"
    assert token["project"]["name"] == "admin"
    assert {role["name"] for role in token["roles"]} == {"admin", "manager", "member", "reader"}
    assert any(entry["type"] == "identity" for entry in token["catalog"])


def test_a_wrong_password_and_an_unknown_user_read_the_same(anonymous: Client) -> None:
    texts = set()
    for name, password in (("admin", "wrong"), ("nobody", PASSWORD)):
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        reply = anonymous.post(
            "/identity/v3/auth/tokens",
            {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}},
        )
        assert reply.status_code == 401
        texts.add(reply.text)
    assert len(texts) == 1


def test_a_revoked_token_is_void_at_once(anonymous: Client) -> None:
    client = anonymous.login("admin", PASSWORD, "admin")
    assert client.get("/identity/v3/projects").status_code == 200
    assert client.delete("/identity/v3/auth/tokens", headers={"X-Subject-Token": client.token or ""}).status_code == 204
    assert client.get("/identity/v3/projects").status_code == 401


def test_a_disabled_project_voids_its_tokens(admin: Client, anonymous: Client) -> None:
    made = admin.post("/identity/v3/projects", {"project": {"name": "short-lived"}}).json()["project"]
    assert made["enabled"] is True
    scoped = {"project": {"id": made["id"]}}
    body = {"identity": {"methods": ["token"], "token": {"id": admin.token}}, "scope": scoped}
    assert anonymous.post("/identity/v3/auth/tokens", {"auth": body}).status_code == 401


def test_a_tampered_token_is_refused(admin: Client, anonymous: Client) -> None:
    token = admin.token or ""
    broken = token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    reply = anonymous.get("/identity/v3/projects", headers={"X-Auth-Token": broken})
    assert reply.status_code == 401
    assert reply.json()["error"]["title"] == "Unauthorized"
