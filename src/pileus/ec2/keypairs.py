"""Key pairs. A private key is made here, given out once, and kept nowhere."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pileus.compute import keypairs
from pileus.ec2 import filters, ids
from pileus.ec2.faults import refused, tried
from pileus.ec2.filters import Known
from pileus.ec2.schemas import CreateKeyPair, DeleteKeyPair, DescribeKeyPairs, ImportKeyPair
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict
from pileus.world import iso_z

_KNOWN: Known[Any] = {
    "key-name": lambda row: [row.name], "fingerprint": lambda row: [row.fingerprint],
    "key-pair-id": lambda row: [ids.write_key(row.id)],
}


def describe(call: Call, params: DescribeKeyPairs) -> dict[str, Any]:
    """DescribeKeyPairs: those of the caller, who has them in all his projects."""
    rows = [row for row in keypairs.of_caller(call) if row.type == "ssh"]
    for given, column in ((params.key_name, "name"), (params.key_pair_id, "id")):
        there = {row.name if column == "name" else ids.write_key(row.id) for row in rows}
        lacking = [text for text in given if text not in there]
        if lacking:
            raise _missing(lacking[0])
    if params.key_name or params.key_pair_id:
        rows = [r for r in rows if r.name in params.key_name or ids.write_key(r.id) in params.key_pair_id]
    shown = filters.select(rows, params.filter, _KNOWN)
    return {"keySet": [{**_view(row), **_whole(row, params.include_public_key)} for row in shown]}


def _view(row: Any) -> dict[str, Any]:
    return {"keyName": row.name, "keyFingerprint": row.fingerprint, "keyPairId": ids.write_key(row.id)}


def _whole(row: Any, public: bool) -> dict[str, Any]:
    kind = row.public_key.split()[0]
    return {
        "keyType": {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519"}.get(kind), "createTime": iso_z(row.created),
        "publicKey": row.public_key if public else None,
    }


def _missing(name: str) -> Exception:
    return refused("InvalidKeyPair.NotFound", f"The key pair '{name[:80]}' does not exist")


async def create(call: Call, params: CreateKeyPair, enter: Any) -> dict[str, Any]:
    """CreateKeyPair. The key is made beside the transaction: an RSA key takes its time."""
    await enter(lambda: None, False)
    public, private = await asyncio.to_thread(_make, params.key_type)

    def keep() -> Any:
        row = _add(call, params.key_name, public)
        tried(params)
        return row

    return {**_view(await enter(keep)), "keyMaterial": private}


def _make(kind: str) -> tuple[str, str]:
    """The public and the private key, as SSH takes them."""
    key: Any
    if kind == "ed25519":
        key, form = ed25519.Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH
    else:
        key, form = rsa.generate_private_key(public_exponent=65537, key_size=2048), PrivateFormat.TraditionalOpenSSL
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return public, key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def import_key(call: Call, params: ImportKeyPair) -> dict[str, Any]:
    """ImportKeyPair: a public key in SSH's form, in base64 once more."""
    try:
        text = base64.b64decode("".join(params.public_key_material.split()), validate=True).decode().strip()
    except (binascii.Error, ValueError):
        raise refused("InvalidKey.Format", "Key is not in valid OpenSSH public key format: it must be base64") from None
    return _view(_add(call, params.key_name, text))


def _add(call: Call, name: str, public: str) -> Any:
    try:
        return keypairs.add(call, name, public)
    except Conflict:
        raise refused("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.") from None
    except BadRequest as problem:
        raise refused("InvalidKey.Format", problem.message) from None


def delete(call: Call, params: DeleteKeyPair) -> dict[str, Any]:
    """DeleteKeyPair: by name or id; one that is not there is gone already."""
    if (params.key_name is None) == (params.key_pair_id is None):
        raise refused("MissingParameter", "The request must contain either KeyName or KeyPairId")
    name, number = params.key_name, None
    for row in keypairs.of_caller(call):
        if name == row.name or params.key_pair_id == ids.write_key(row.id):
            name, number = row.name, row.id
    if number is not None and name is not None:
        keypairs.drop(call, name)
    return {"return": True, "keyPairId": ids.write_key(number) if number is not None else None}
