"""Key pairs of users: imported, or (up to 2.91) made here and the private half given out once."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import UNSET, UnsetType

from pileus.compute import quotas
from pileus.compute.schemas_rest import KeypairNew, KeypairQuery, KeypairUser
from pileus.compute.tables import keypair
from pileus.compute.views_rest import more, page_size, when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound, OverQuota
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_BY_NAME = sa.select(keypair).where(
    keypair.c.user_id == sa.bindparam("user"), keypair.c.name == sa.bindparam("name")
)

_BRIEF = (
    Field("name"), Field("public_key"), Field("fingerprint"), Field("type", since=(2, 2)),
)
_LISTED = View(*_BRIEF)
_MADE = View(*_BRIEF, "user_id")
_SHOWN = View(
    *_BRIEF, "user_id", "id", Field("created_at", lambda row: when(row.created)),
    Field("updated_at", lambda row: None), Field("deleted", lambda row: False), Field("deleted_at", lambda row: None),
)

# -- for other modules


def find(tx: Tx, user_id: str, name: str) -> Any:
    """The row of a user's key pair. Raises NotFound."""
    row = tx.first(_BY_NAME, {"user": user_id, "name": name})
    if row is None:
        raise NotFound(f"Keypair {name} not found for user {user_id}.")
    return row


def of_caller(call: Call) -> Sequence[Any]:
    """The rows of the caller's key pairs, by name."""
    user_id = _user(call, "index", None)
    return call.tx.all(sa.select(keypair).where(keypair.c.user_id == user_id).order_by(keypair.c.name))


def add(call: Call, name: str, public_key: str) -> Any:
    """Keep an SSH key of the caller's by a name; its row. Raises BadRequest, Conflict, OverQuota."""
    user_id = _user(call, "create", None)
    return _insert(call, user_id, name, "ssh", public_key, ssh_fingerprint(public_key))


def drop(call: Call, name: str) -> None:
    """Forget a key pair of the caller's. Raises NotFound."""
    row = find(call.tx, _user(call, "delete", None), name)
    call.tx.execute(keypair.delete().where(keypair.c.id == row.id))


# -- handlers


def _user(call: Call, action: str, asked: str | UnsetType | None) -> str:
    user_id = call.context.user_id if asked is None or asked is UNSET else asked
    call.enforce(f"os_compute_api:os-keypairs:{action}", user_id=user_id)
    return user_id


def _asked(call: Call) -> str | None:
    """The user that the query names (2.10)."""
    return call.query.user_id if isinstance(call.query, KeypairUser) else None


def index(call: Call) -> dict[str, Any]:
    """GET /os-keypairs: 200. Another user's only for administrators."""
    user_id = _user(call, "index", _asked(call))
    query = call.query if isinstance(call.query, KeypairQuery) else KeypairQuery()
    size = page_size(query.limit)
    statement = sa.select(keypair).where(keypair.c.user_id == user_id).order_by(keypair.c.name).limit(size)
    if query.marker is not None:
        if call.tx.first(_BY_NAME, {"user": user_id, "name": query.marker}) is None:
            raise BadRequest(f"marker [{query.marker}] not found")
        statement = statement.where(keypair.c.name > query.marker)
    rows = call.tx.all(statement)
    reply: dict[str, Any] = {"keypairs": [{"keypair": item} for item in _LISTED.render_all(rows, call.version)]}
    if call.version is not None and call.version >= (2, 35):
        reply |= more(call, "keypairs", len(rows), size, rows[-1].name if rows else "")
    return reply


def show(call: Call) -> dict[str, Any]:
    """GET /os-keypairs/{name}: 200."""
    row = find(call.tx, _user(call, "show", _asked(call)), call.params["name"])
    return {"keypair": _SHOWN.render(row, call.version)}


def delete(call: Call) -> None:
    """DELETE /os-keypairs/{name}: 204 (202 in 2.1). Servers keep the key that they were made with."""
    row = find(call.tx, _user(call, "delete", _asked(call)), call.params["name"])
    call.tx.execute(keypair.delete().where(keypair.c.id == row.id))


def create(call: Call) -> dict[str, Any]:
    """POST /os-keypairs: 201 (200 in 2.1)."""
    new: KeypairNew = call.body.keypair
    user_id = _user(call, "create", new.user_id)
    version = call.version or (2, 1)
    if new.public_key is UNSET and version >= (2, 92):
        raise BadRequest("Invalid input: 'public_key' is a required property; keys are not made here from 2.92 on.")
    if version < (2, 92) and ("@" in new.name or "." in new.name):
        raise BadRequest("Invalid input: before 2.92 a name has letters, digits, blanks, '-' and '_' only.")
    name = new.name.strip()
    if not name:
        raise BadRequest("Invalid input: the name is blank.")
    kind = "ssh" if new.type is UNSET else new.type
    private = None
    if new.public_key is UNSET:
        public, fingerprint, private = _make_ssh() if kind == "ssh" else _make_x509(call, user_id)
    else:
        public = new.public_key
        fingerprint = ssh_fingerprint(public) if kind == "ssh" else x509_fingerprint(public)
    made = _MADE.render(_insert(call, user_id, name, kind, public, fingerprint), call.version)
    return {"keypair": made if private is None else {**made, "private_key": private}}


def _insert(call: Call, user_id: str, name: str, kind: str, public: str, fingerprint: str) -> Any:
    _check_room(call, user_id, name)
    call.tx.execute(keypair.insert().values(
        user_id=user_id, name=name, type=kind, fingerprint=fingerprint, public_key=public, created=call.now,
    ))
    return find(call.tx, user_id, name)


def _check_room(call: Call, user_id: str, name: str) -> None:
    if call.tx.first(_BY_NAME, {"user": user_id, "name": name}) is not None:
        raise Conflict(f"Key pair '{name}' already exists.")
    call.tx.serialize(f"compute keypairs {user_id}")
    most = quotas.limits(call.tx, call.cloud, call.context.project_id or "")["key_pairs"]
    has = call.tx.scalar(sa.select(sa.func.count()).where(keypair.c.user_id == user_id))
    if 0 <= most <= has:
        raise OverQuota("Quota exceeded, too many key pairs.")


# -- keys


def ssh_fingerprint(public_key: str) -> str:
    """The MD5 fingerprint with colons, as ssh-keygen -E md5 prints it. Raises BadRequest for what is no key."""
    parts = public_key.strip().split()
    try:
        if "\n" in public_key.strip() or len(parts) < 2:
            raise ValueError("it is not one line of type and key")
        serialization.load_ssh_public_key(" ".join(parts[:2]).encode())
    except (ValueError, UnicodeError, UnsupportedAlgorithm) as error:
        raise BadRequest(f"Keypair data is invalid: failed to generate fingerprint ({error}).") from None
    digest = hashlib.md5(base64.b64decode(parts[1]), usedforsecurity=False).hexdigest()
    return _colons(digest)


def x509_fingerprint(certificate: str) -> str:
    """The SHA-1 fingerprint with colons of a PEM certificate. Raises BadRequest for what is none."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.encode())
    except (ValueError, UnicodeError) as error:
        raise BadRequest(f"Keypair data is invalid: failed to generate X509 fingerprint ({error}).") from None
    return _colons(loaded.fingerprint(hashes.SHA1()).hex())


def _colons(digest: str) -> str:
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def _make_ssh() -> tuple[str, str, str]:
    """Public key, fingerprint and private key. Ed25519: quick to make, taken by every SSH server of today."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode() + " Generated-by-Pileus"
    return public, ssh_fingerprint(public), private


def _make_x509(call: Call, user_id: str) -> tuple[str, str, str]:
    """Certificate for client authentication, fingerprint and private key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    begin = datetime.datetime.fromtimestamp(call.now, datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return public, x509_fingerprint(public), private
