"""Key pairs: imported or made, each user's own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pileus.cloud import Cloud
from tests.api.compute.people import Person, join
from tests.api.conftest import Client

ROOT = "/compute/v2.1/os-keypairs"
KEY = (
    "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBO/gkGLuKJgeAq7R2oQMLyVbS6q1Gqhi"
)


@pytest.fixture
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


@pytest.fixture(scope="module")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A key from ssh-keygen and the fingerprint that ssh-keygen prints for it."""
    path: Path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", path], check=True, timeout=20)
    said = subprocess.run(
        ["ssh-keygen", "-l", "-E", "md5", "-f", path], check=True, timeout=20, capture_output=True, text=True
    ).stdout
    return path.with_suffix(".pub").read_text(), said.split()[1].removeprefix("MD5:")


def test_an_imported_key_has_the_fingerprint_that_ssh_keygen_says(
    member: Person, public_key: tuple[str, str]
) -> None:
    text, fingerprint = public_key
    reply = member.client.post(ROOT, {"keypair": {"name": "laptop", "public_key": text}})
    assert reply.status_code == 200
    assert reply.json()["keypair"] == {
        "name": "laptop", "public_key": text, "fingerprint": fingerprint, "user_id": member.user_id,
    }
    shown = member.client.get(ROOT + "/laptop").json()["keypair"]
    assert set(shown) == {
        "name", "public_key", "fingerprint", "user_id", "id", "created_at", "updated_at", "deleted", "deleted_at",
    }
    assert isinstance(shown["id"], int)
    listed = member.client.get(ROOT).json()
    assert listed == {"keypairs": [{"keypair": {"name": "laptop", "public_key": text, "fingerprint": fingerprint}}]}
    assert member.client.delete(ROOT + "/laptop").status_code == 202
    assert member.client.get(ROOT + "/laptop").status_code == 404
    assert member.client.delete(ROOT + "/laptop").status_code == 404


def test_a_made_key_fits_its_private_half(member: Person) -> None:
    reply = member.client.post(ROOT, {"keypair": {"name": "made"}}, version="2.2")
    assert reply.status_code == 201
    made = reply.json()["keypair"]
    assert made["type"] == "ssh"
    private = serialization.load_ssh_private_key(made["private_key"].encode(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()
    assert made["public_key"].startswith(public)
    assert "private_key" not in member.client.get(ROOT + "/made", version="2.2").json()["keypair"]
    assert member.client.delete(ROOT + "/made", version="2.2").status_code == 204


def test_a_made_certificate_fits_its_private_half(member: Person) -> None:
    made = member.client.post(ROOT, {"keypair": {"name": "cert", "type": "x509"}}, version="2.2").json()["keypair"]
    certificate = x509.load_pem_x509_certificate(made["public_key"].encode())
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    assert certificate.public_key() == private.public_key()
    again = {"keypair": {"name": "again", "type": "x509", "public_key": made["public_key"]}}
    imported = member.client.post(ROOT, again, version="2.2").json()["keypair"]
    assert imported["fingerprint"] == made["fingerprint"]
    assert imported["type"] == "x509"


def test_from_2_92_on_keys_are_only_imported(member: Person, public_key: tuple[str, str]) -> None:
    assert member.client.post(ROOT, {"keypair": {"name": "x"}}, version="2.92").status_code == 400
    body = {"keypair": {"name": "me@host.org", "public_key": public_key[0]}}
    assert member.client.post(ROOT, body, version="2.91").status_code == 400
    assert member.client.post(ROOT, body, version="2.92").status_code == 201
    assert member.client.get(ROOT + "/me@host.org", version="2.92").status_code == 200


@pytest.mark.parametrize("body", [
    {"name": ""}, {"name": " "}, {"name": "n" * 256}, {"name": "a/b"}, {"name": 5}, {}, {"name": "x", "colour": 1},
    {"name": "x", "public_key": "no key"}, {"name": "x", "public_key": ""}, {"name": "x", "public_key": KEY},
    {"name": "x", "public_key": "ssh-rsa JUNK"}, {"name": "x", "public_key": 5}, {"name": "x", "type": "ssh"},
    {"name": "x", "public_key": "ssh-rsa \u00e4\u00f6\u00fc"},
])
def test_what_is_no_key_pair(member: Person, body: dict[str, Any]) -> None:
    assert member.client.post(ROOT, {"keypair": body}).status_code == 400


def test_a_name_is_taken_once_per_user(member: Person, cloud: Cloud, anonymous: Client) -> None:
    body = {"keypair": {"name": "same"}}
    assert member.client.post(ROOT, body).status_code == 200
    assert member.client.post(ROOT, body).status_code == 409
    other = join(cloud, anonymous)
    assert other.client.get(ROOT + "/same").status_code == 404
    assert other.client.post(ROOT, body).status_code == 200


def test_another_users_keys_are_for_administrators(admin: Client, member: Person, cloud: Cloud,
                                                   anonymous: Client) -> None:
    member.client.post(ROOT, {"keypair": {"name": "own"}})
    query = f"?user_id={member.user_id}"
    other = join(cloud, anonymous)
    assert other.client.get(ROOT + query, version="2.10").status_code == 403
    assert other.client.get(ROOT + "/own" + query, version="2.10").status_code == 403
    assert other.client.delete(ROOT + "/own" + query, version="2.10").status_code == 403
    assert admin.get(ROOT + "/own", version="2.10").status_code == 404
    assert admin.get(ROOT + "/own" + query, version="2.10").json()["keypair"]["user_id"] == member.user_id
    made = admin.post(ROOT, {"keypair": {"name": "given", "user_id": member.user_id}}, version="2.10")
    assert made.status_code == 201
    assert member.client.get(ROOT + "/given").status_code == 200
    assert admin.delete(ROOT + "/given" + query, version="2.10").status_code == 204


def test_pages(member: Person) -> None:
    for name in ("c", "a", "b"):
        member.client.post(ROOT, {"keypair": {"name": name}})
    first = member.client.get(ROOT + "?limit=2", version="2.35").json()
    assert [k["keypair"]["name"] for k in first["keypairs"]] == ["a", "b"]
    after = first["keypairs_links"][0]["href"].removeprefix("http://cloud.test")
    second = member.client.get(after, version="2.35").json()
    assert [k["keypair"]["name"] for k in second["keypairs"]] == ["c"]
    assert member.client.get(ROOT + "?marker=zzz", version="2.35").status_code == 400
    assert len(member.client.get(ROOT + "?limit=1").json()["keypairs"]) == 3  # 2.1 does not page


def test_the_quota(admin: Client, member: Person) -> None:
    sets = f"/compute/v2.1/os-quota-sets/{member.project_id}"
    assert admin.put(sets, {"quota_set": {"key_pairs": 1}}).status_code == 200
    assert member.client.post(ROOT, {"keypair": {"name": "one"}}).status_code == 200
    reply = member.client.post(ROOT, {"keypair": {"name": "two"}})
    assert reply.status_code == 403
    assert "too many key pairs" in reply.json()["forbidden"]["message"]
