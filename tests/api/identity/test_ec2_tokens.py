"""POST /v3/ec2tokens and /v3/s3tokens: a token for the maker of a signature, for services and administrators only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from botocore.auth import SigV2Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pileus.cloud import Cloud
from tests.api.conftest import Client
from tests.api.identity.people import V3, grant, made, session
from tests.api.identity.test_delegation import Person, person

EC2, S3 = f"{V3}/ec2tokens", f"{V3}/s3tokens"


@pytest.fixture(scope="module")
def alice(admin: Client, anonymous: Client) -> Person:
    return person(admin, anonymous)


@pytest.fixture(scope="module")
def service(admin: Client, anonymous: Client) -> Client:
    """What a service has: the role of that name, and nothing else."""
    _, _, client = person(admin, anonymous, "service")
    return client


def key_of(alice: Person) -> dict[str, str]:
    user, project, client = alice
    reply = client.post(f"{V3}/users/{user['id']}/credentials/OS-EC2", {"tenant_id": project["id"]})
    assert reply.status_code == 201, reply.text
    key: dict[str, str] = reply.json()["credential"]
    return key


def blob_key(client: Client, user: str, project: str, **blob: Any) -> dict[str, str]:
    """A key that its user has written himself, by POST /v3/credentials."""
    key = {"access": hashlib.sha256(repr((user, blob, time.time())).encode()).hexdigest()[:32], "secret": "his own"}
    reply = client.post(f"{V3}/credentials", {"credential": {
        "type": "ec2", "user_id": user, "project_id": project, "blob": json.dumps({**key, **blob}),
    }})
    assert reply.status_code == 201, reply.text
    return key


def version_4(key: dict[str, str]) -> dict[str, Any]:
    request = AWSRequest("GET", "http://swift.test/bucket", params={"prefix": "a b"})
    SigV4Auth(Credentials(key["access"], key["secret"]), "ec2", "here").add_auth(request)
    headers = {"Host": "swift.test", **{k: str(v) for k, v in request.headers.items()}}
    signature = headers["Authorization"].rpartition("=")[2]
    return {"credentials": {
        "access": key["access"], "signature": signature, "host": "swift.test", "verb": "GET", "path": "/bucket",
        "params": {"prefix": "a b"}, "headers": headers, "body_hash": hashlib.sha256(b"").hexdigest(),
    }}


def version_2(key: dict[str, str]) -> dict[str, Any]:
    request = AWSRequest("GET", "http://swift.test/", params={"Action": "x"})
    SigV2Auth(Credentials(key["access"], key["secret"])).add_auth(request)
    params = {k: str(v) for k, v in request.params.items()}
    return {"credentials": {
        "access": key["access"], "signature": params.pop("Signature"), "host": "swift.test:8080", "verb": "GET",
        "path": "/", "params": params,
    }}


def s3(key: dict[str, str], secret: str = "", moment: float | None = None) -> dict[str, Any]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
    scope = f"{stamp[:8]}/here/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, "0" * 64))
    made = ("AWS4" + (secret or key["secret"])).encode()
    for part in scope.split("/"):
        made = hmac.digest(made, part.encode(), "sha256")
    return {"credentials": {
        "access": key["access"], "token": base64.b64encode(text.encode()).decode(),
        "signature": hmac.digest(made, text.encode(), "sha256").hex(),
    }}


WAYS = [pytest.param(EC2, version_4, id="4"), pytest.param(EC2, version_2, id="2"), pytest.param(S3, s3, id="s3")]


@pytest.mark.parametrize(("path", "sign"), WAYS)
def test_only_services_may_ask(
    admin: Client, anonymous: Client, alice: Person, service: Client, path: str, sign: Any,
) -> None:
    """OSSA-2025-002: whoever has seen a signature could change it into a token."""
    user, project, client = alice
    key = key_of(alice)
    assert anonymous.post(path, sign(key)).status_code == 401
    assert client.post(path, sign(key)).status_code == 403
    for asker in (admin, service):
        reply = asker.post(path, sign(key))
        assert reply.status_code == 200, reply.text
        token = reply.json()["token"]
        assert token["user"]["id"] == user["id"]
        assert token["project"]["id"] == project["id"]
        assert "admin" not in {role["name"] for role in token["roles"]}
        his = Client(client.app, client.loop, reply.headers["x-subject-token"])
        assert [p["id"] for p in his.get(f"{V3}/auth/projects").json()["projects"]] == [project["id"]]


@pytest.mark.parametrize(("path", "sign"), WAYS)
def test_a_wrong_signature_gives_nothing(
    admin: Client, alice: Person, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, path: str, sign: Any,
) -> None:
    key = key_of(alice)
    wrong = sign(key)
    wrong["credentials"]["signature"] = "0" * 64
    assert admin.post(path, wrong).status_code == 401
    assert admin.post(path, sign({**key, "secret": "x"})).status_code == 401
    assert admin.post(path, sign({**key, "access": "x"})).status_code == 401
    old = sign(key)
    now = cloud.world.now()
    monkeypatch.setattr(cloud.world, "now", lambda: now + 1000)
    assert admin.post(path, old).status_code == 401


def test_what_is_no_signature(admin: Client) -> None:
    for path, body in (
        (EC2, {}), (EC2, {"credentials": {}}), (EC2, {"credentials": {"access": "a", "signature": "b"}}),
        (EC2, {"credentials": {"headers": {"Authorization": "x"}}}), (S3, {}), (S3, {"credentials": {}}),
        (S3, {"credentials": {"access": "a", "signature": "b", "token": "?"}}),
        (S3, {"credentials": {"access": "a", "signature": "b", "token": "YQ=="}}),
    ):
        assert admin.post(path, body).status_code == 400, body


def asked(admin: Client, key: dict[str, str]) -> httpx.Response:
    return admin.post(EC2, version_4(key))


def test_roles_are_those_of_the_moment(admin: Client, anonymous: Client) -> None:
    user, project, client = person(admin, anonymous)
    key = key_of((user, project, client))
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "manager")
    assert "manager" in {r["name"] for r in asked(admin, key).json()["token"]["roles"]}
    admin.patch(f"{V3}/users/{user['id']}", {"user": {"enabled": False}})
    assert asked(admin, key).status_code == 401


def test_a_key_for_a_project_where_its_user_is_nobody(admin: Client, alice: Person) -> None:
    user, _, client = alice
    other = made(admin, "projects")
    assert asked(admin, blob_key(client, user["id"], other["id"])).status_code == 401


def test_nobody_writes_himself_a_delegation(admin: Client, anonymous: Client, alice: Person) -> None:
    """A blob's trust or application credential must be its user's own, and for the key's project."""
    user, project, client = alice
    bob, place, session_of_bob = person(admin, anonymous)
    trust = session_of_bob.post(f"{V3}/OS-TRUST/trusts", {"trust": {
        "trustor_user_id": bob["id"], "trustee_user_id": user["id"], "impersonation": True,
        "project_id": place["id"], "roles": [{"name": "member"}],
    }}).json()["trust"]["id"]
    program = session_of_bob.post(f"{V3}/users/{bob['id']}/application_credentials", {
        "application_credential": {"name": "his"},
    }).json()["application_credential"]["id"]
    for blob in ({"trust_id": trust}, {"trust_id": "nothing"}, {"app_cred_id": program}, {"access_token_id": "x"},
                 {"access_id": "x"}, {"secret": 7}, {"secret": ""}):
        for where in (project["id"], place["id"]):
            assert asked(admin, blob_key(client, user["id"], where, **blob)).status_code == 401, blob
    assert asked(admin, blob_key(client, user["id"], project["id"])).status_code == 200


@pytest.mark.parametrize("impersonation", [True, False])
def test_a_trusts_key_ends_with_the_trust(
    admin: Client, anonymous: Client, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, impersonation: bool,
) -> None:
    trustor, project, client = person(admin, anonymous, "manager")
    trustee, _, theirs = person(admin, anonymous)
    trust = client.post(f"{V3}/OS-TRUST/trusts", {"trust": {
        "trustor_user_id": trustor["id"], "trustee_user_id": trustee["id"], "impersonation": impersonation,
        "project_id": project["id"], "roles": [{"name": "member"}], "expires_at": "2999-01-01T00:00:00Z",
    }}).json()["trust"]
    token = session(theirs, trustee, {"OS-TRUST:trust": {"id": trust["id"]}})
    holder = trustor if impersonation else trustee
    key = key_of((holder, project, token))
    shown = asked(admin, key).json()["token"]
    assert shown["OS-TRUST:trust"]["id"] == trust["id"]
    assert shown["user"]["id"] == holder["id"]
    assert "manager" not in {role["name"] for role in shown["roles"]}
    assert client.delete(f"{V3}/OS-TRUST/trusts/{trust['id']}").status_code == 204
    assert asked(admin, key).status_code == 401


def test_an_application_credentials_key_ends_with_it(admin: Client, anonymous: Client) -> None:
    user, project, client = person(admin, anonymous, "manager")
    path = f"{V3}/users/{user['id']}/application_credentials"
    program = client.post(path, {"application_credential": {
        "name": "p", "unrestricted": True, "roles": [{"name": "member"}],
    }}).json()["application_credential"]
    reply = anonymous.post(f"{V3}/auth/tokens", {"auth": {"identity": {
        "methods": ["application_credential"],
        "application_credential": {"id": program["id"], "secret": program["secret"]},
    }}})
    token = Client(client.app, client.loop, reply.headers["x-subject-token"])
    key = key_of((user, project, token))
    shown = asked(admin, key).json()["token"]
    assert shown["application_credential"]["id"] == program["id"]
    assert "manager" not in {role["name"] for role in shown["roles"]}
    assert client.delete(f"{path}/{program['id']}").status_code == 204
    assert asked(admin, key).status_code == 401


def test_a_blob_cannot_be_made_another_keys(admin: Client, alice: Person) -> None:
    """What signs is the key that the credential was made for, whatever its user writes into it later."""
    user, project, client = alice
    one = blob_key(client, user["id"], project["id"])
    path = f"{V3}/credentials/{hashlib.sha256(one['access'].encode()).hexdigest()}"
    changed = {"credential": {"blob": json.dumps({"access": "another", "secret": "x"})}}
    assert client.patch(path, changed).status_code == 200
    for secret in (one["secret"], "x"):
        assert asked(admin, {**one, "secret": secret}).status_code == 401
    assert asked(admin, {"access": "another", "secret": "x"}).status_code == 401
