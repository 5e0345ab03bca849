"""Users: their life, their passwords, and who may see or change them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.settings import Settings
from pileus.web.app import App
from tests.api.conftest import PASSWORD, Client

USERS = "/identity/v3/users"


def make(admin: Client, name: str, **more: Any) -> dict[str, Any]:
    reply = admin.post(USERS, {"user": {"name": name, "password": "first", **more}})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()["user"]
    return made


def login(client: Client, user_id: str, password: str) -> Any:
    user = {"id": user_id, "password": password}
    body = {"identity": {"methods": ["password"], "password": {"user": user}}}
    return client.post("/identity/v3/auth/tokens", {"auth": body})


def test_a_user_keeps_what_it_was_given(admin: Client) -> None:
    made = make(admin, "ann", email="ann@example.org", description="a person", project_id="kept", shoe={"size": 41})
    assert made["email"] == "ann@example.org"
    assert made["shoe"] == {"size": 41}
    assert made["project_id"] == "kept"
    assert made["enabled"] is True
    assert made["domain_id"] == "default"
    assert made["password_expires_at"] is None
    assert made["links"]["self"].endswith(f"{USERS}/{made['id']}")
    assert "password" not in made
    assert "default_project_id" not in made
    assert admin.get(f"{USERS}/{made['id']}").json()["user"] == made
    changed = admin.patch(f"{USERS}/{made['id']}", {"user": {"email": "new", "name": "ann2", "description": None}})
    assert changed.status_code == 200
    assert changed.json()["user"]["email"] == "new"
    assert changed.json()["user"]["shoe"] == {"size": 41}
    assert admin.delete(f"{USERS}/{made['id']}").status_code == 204
    assert admin.get(f"{USERS}/{made['id']}").status_code == 404


@pytest.mark.parametrize("wrong", [
    {"name": ""}, {"name": "   "}, {"name": "x" * 256}, {"name": 5}, {"name": "a", "enabled": "true"},
    {"name": "a", "enabled": 1}, {"name": "a", "options": {"nonsense": True}},
    {"name": "a", "options": {"multi_factor_auth_rules": [["retina"]]}}, {"name": "a", "password": 7}, {},
])
def test_what_a_user_cannot_be(admin: Client, wrong: dict[str, Any]) -> None:
    assert admin.post(USERS, {"user": wrong}).status_code == 400


def test_an_unknown_domain_is_not_found(admin: Client) -> None:
    assert admin.post(USERS, {"user": {"name": "a", "domain_id": "nowhere"}}).status_code == 404
    assert admin.post("/identity/v3/groups", {"group": {"name": "a", "domain_id": "nowhere"}}).status_code == 404


def test_names_are_unique_within_a_domain(admin: Client) -> None:
    make(admin, "twin")
    assert admin.post(USERS, {"user": {"name": "twin"}}).status_code == 409
    other = admin.post("/identity/v3/domains", {"domain": {"name": "twins"}}).json()["domain"]["id"]
    assert admin.post(USERS, {"user": {"name": "twin", "domain_id": other}}).status_code == 201


def test_a_domain_and_an_id_cannot_be_changed(admin: Client) -> None:
    made = make(admin, "fixed")
    assert admin.patch(f"{USERS}/{made['id']}", {"user": {"domain_id": "other"}}).status_code == 400
    assert admin.patch(f"{USERS}/{made['id']}", {"user": {"id": "other"}}).status_code == 400


def test_lists_filter_and_page(admin: Client) -> None:
    for number in range(5):
        make(admin, f"paged-{number}", enabled=number != 3)
    rows = admin.get(f"{USERS}?name__startswith=paged-").json()["users"]
    assert [row["name"] for row in rows] == [f"paged-{number}" for number in range(5)]
    assert [row["name"] for row in admin.get(f"{USERS}?enabled=False&name__icontains=PAGED").json()["users"]] == [
        "paged-3"
    ]
    seen, url = [], f"{USERS}?name__startswith=paged-&limit=2"
    for _ in range(4):
        page = admin.get(url).json()
        seen += [row["name"] for row in page["users"]]
        if page["links"]["next"] is None:
            break
        url = page["links"]["next"].removeprefix("http://cloud.test")
    assert seen == [f"paged-{number}" for number in range(5)]
    assert admin.get(f"{USERS}?limit=-1").status_code == 400
    assert admin.get(f"{USERS}?marker=nobody").status_code == 400
    assert admin.get(f"{USERS}?password_expires_at=soon").status_code == 400


def test_a_disabled_user_is_out_at_once_and_old_tokens_stay_void(admin: Client, anonymous: Client) -> None:
    made = make(admin, "leaver")
    token = login(anonymous, made["id"], "first").headers["x-subject-token"]
    own = Client(anonymous.app, anonymous.loop, token)
    assert own.get(f"{USERS}/{made['id']}").status_code == 200
    assert admin.patch(f"{USERS}/{made['id']}", {"user": {"enabled": False}}).json()["user"]["enabled"] is False
    assert own.get(f"{USERS}/{made['id']}").status_code == 401
    assert login(anonymous, made["id"], "first").status_code == 401
    admin.patch(f"{USERS}/{made['id']}", {"user": {"enabled": True}})
    assert login(anonymous, made["id"], "first").status_code == 201
    assert own.get(f"{USERS}/{made['id']}").status_code == 401


def test_a_plain_user_sees_himself_only(admin: Client, anonymous: Client) -> None:
    one, two = make(admin, "self"), make(admin, "stranger")
    own = Client(anonymous.app, anonymous.loop, login(anonymous, one["id"], "first").headers["x-subject-token"])
    assert own.get(f"{USERS}/{one['id']}").status_code == 200
    for path in (USERS, f"{USERS}/{two['id']}", f"{USERS}/unknown"):
        assert own.get(path).status_code == 403
    assert own.post(USERS, {"user": {"name": "mine"}}).status_code == 403
    assert own.patch(f"{USERS}/{one['id']}", {"user": {"enabled": True}}).status_code == 403
    assert own.delete(f"{USERS}/{two['id']}").status_code == 403


def test_own_password_change(admin: Client, anonymous: Client) -> None:
    made = make(admin, "changer")
    token = login(anonymous, made["id"], "first").headers["x-subject-token"]
    path = f"{USERS}/{made['id']}/password"
    wrong = {"user": {"original_password": "nope", "password": "second"}}
    assert anonymous.post(path, wrong).status_code == 401
    assert anonymous.post(f"{USERS}/nobody/password", wrong).status_code == 401
    assert anonymous.post(path, {"user": {"password": "second"}}).status_code == 400
    right = {"user": {"original_password": "first", "password": "second"}}
    assert anonymous.post(path, right).status_code == 204
    assert login(anonymous, made["id"], "first").status_code == 401
    assert login(anonymous, made["id"], "second").status_code == 201
    assert Client(anonymous.app, anonymous.loop, token).get(f"{USERS}/{made['id']}").status_code == 401


def test_a_locked_password_stays(admin: Client, anonymous: Client) -> None:
    made = make(admin, "locked", options={"lock_password": True})
    assert made["options"] == {"lock_password": True}
    change = {"user": {"original_password": "first", "password": "second"}}
    assert anonymous.post(f"{USERS}/{made['id']}/password", change).status_code == 400
    freed = admin.patch(f"{USERS}/{made['id']}", {"user": {"options": {"lock_password": None}}})
    assert freed.json()["user"]["options"] == {}
    assert anonymous.post(f"{USERS}/{made['id']}/password", change).status_code == 204


def test_multi_factor_rules_are_kept_to(admin: Client, anonymous: Client, cloud: Cloud) -> None:
    from pileus.identity.totp import passcode

    chosen = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
    made = make(admin, "careful", options=chosen)
    assert login(anonymous, made["id"], "first").status_code == 401
    secret = {"user_id": made["id"], "type": "totp", "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}
    assert admin.post("/identity/v3/credentials", {"credential": secret}).status_code == 201
    for digits, status in (("000000", 401), (passcode(secret["blob"], int(cloud.world.now()) // 30), 201)):
        body = {
            "methods": ["password", "totp"],
            "password": {"user": {"id": made["id"], "password": "first"}},
            "totp": {"user": {"id": made["id"], "passcode": digits}},
        }
        assert anonymous.post("/identity/v3/auth/tokens", {"auth": {"identity": body}}).status_code == status


def test_a_passcode_alone_is_not_enough(admin: Client, anonymous: Client, cloud: Cloud) -> None:
    from pileus.identity.totp import passcode

    made = make(admin, "digits")
    secret = {"user_id": made["id"], "type": "totp", "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}
    admin.post("/identity/v3/credentials", {"credential": secret})
    digits = passcode(secret["blob"], int(cloud.world.now()) // 30)
    body = {"methods": ["totp"], "totp": {"user": {"id": made["id"], "passcode": digits}}}
    assert anonymous.post("/identity/v3/auth/tokens", {"auth": {"identity": body}}).status_code == 401


def test_passcodes_are_those_of_the_rfc() -> None:
    from pileus.identity.totp import passcode

    # RFC 6238, appendix B: the SHA-1 column's last six digits.
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert [passcode(secret, at // 30) for at in (59, 1111111109, 20000000000)] == ["287082", "081804", "353130"]


def test_removing_a_user_removes_what_was_the_users(admin: Client) -> None:
    made = make(admin, "gone")
    group = admin.post("/identity/v3/groups", {"group": {"name": "leavers"}}).json()["group"]["id"]
    role = admin.get("/identity/v3/roles?name=reader").json()["roles"][0]["id"]
    assert admin.put(f"/identity/v3/groups/{group}/users/{made['id']}").status_code == 204
    assert admin.put(f"/identity/v3/system/users/{made['id']}/roles/{role}").status_code == 204
    blob = {"user_id": made["id"], "type": "cert", "blob": "x"}
    credential = admin.post("/identity/v3/credentials", {"credential": blob}).json()["credential"]["id"]
    assert admin.delete(f"{USERS}/{made['id']}").status_code == 204
    assert admin.get(f"/identity/v3/groups/{group}/users").json()["users"] == []
    assert admin.get(f"/identity/v3/role_assignments?user.id={made['id']}").json()["role_assignments"] == []
    assert admin.get(f"/identity/v3/credentials/{credential}").status_code == 404


# -- security compliance, in a cloud of its own


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    state: Path = tmp_path_factory.mktemp("strict")
    cloud = Cloud(Settings(
        state_dir=str(state), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", lockout_failures=2, lockout_minutes=30,
        password_days=90, password_history=2, password_pattern=r"^(?=.*\d).{7,}$",
    ), rooms=("identity",))
    cloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def outside(strict: Cloud, loop: asyncio.AbstractEventLoop) -> Client:
    return Client(App(strict, strict.served, {}), loop)


@pytest.fixture(scope="module")
def keeper(outside: Client) -> Client:
    return outside.login("admin", PASSWORD, "admin")


def test_passwords_must_match_the_pattern(keeper: Client, outside: Client) -> None:
    assert keeper.post(USERS, {"user": {"name": "weak", "password": "short"}}).status_code == 400
    made = keeper.post(USERS, {"user": {"name": "strong", "password": "long enough 1"}}).json()["user"]
    assert made["password_expires_at"] is not None
    weak = {"user": {"original_password": "long enough 1", "password": "weak"}}
    assert outside.post(f"{USERS}/{made['id']}/password", weak).status_code == 400
    assert keeper.patch(f"{USERS}/{made['id']}", {"user": {"password": "weak"}}).status_code == 400


def test_passwords_are_not_used_again_but_by_an_administrator(keeper: Client, outside: Client) -> None:
    made = keeper.post(USERS, {"user": {"name": "historian", "password": "password 1"}}).json()["user"]
    path = f"{USERS}/{made['id']}/password"

    def change(old: str, new: str) -> int:
        return outside.post(path, {"user": {"original_password": old, "password": new}}).status_code

    assert change("password 1", "password 1") == 400
    assert change("password 1", "password 2") == 204
    assert change("password 2", "password 1") == 400
    assert change("password 2", "password 3") == 204
    assert change("password 3", "password 1") == 204
    assert keeper.patch(f"{USERS}/{made['id']}", {"user": {"password": "password 1"}}).status_code == 200


def test_wrong_passwords_lock_an_account(keeper: Client, outside: Client) -> None:
    free = {"name": "never", "password": "password 1", "options": {"ignore_lockout_failure_attempts": True}}
    for who, after in (({"name": "lockable", "password": "password 1"}, 401), (free, 201)):
        made = keeper.post(USERS, {"user": who}).json()["user"]
        for _ in range(2):
            assert login(outside, made["id"], "wrong").status_code == 401
        assert login(outside, made["id"], "password 1").status_code == after


def test_an_expired_password_can_only_be_changed(keeper: Client, outside: Client, strict: Cloud) -> None:
    from pileus.identity.tables import user

    made = keeper.post(USERS, {"user": {"name": "late", "password": "password 1"}}).json()["user"]
    past = user.update().where(user.c.id == made["id"]).values(password_expires=1.0)
    strict.db.run_sync(lambda tx: tx.execute(past))
    listed = keeper.get(f"{USERS}?password_expires_at=lt:2001-01-01T00:00:00Z").json()["users"]
    assert [row["name"] for row in listed] == ["late"]
    assert login(outside, made["id"], "password 1").status_code == 401
    change = {"user": {"original_password": "password 1", "password": "password 2"}}
    assert outside.post(f"{USERS}/{made['id']}/password", change).status_code == 204
    assert login(outside, made["id"], "password 2").status_code == 201
