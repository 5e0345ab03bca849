"""How the volumes of a type are to be encrypted.

Types can say so, as tools that set up clouds write it. Volumes of such a type are refused (`refuse`): nothing here
could keep their keys, and a volume that says that it is encrypted must be."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.volume import volume_types, volumes
from pileus.volume.schemas_rest import EncryptionChange, EncryptionNew
from pileus.volume.tables_rest import volume_type
from pileus.volume.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

_FIELDS = ("provider", "control_location", "cipher", "key_size")


class Encryption(msgspec.Struct, kw_only=True):
    """What `volume_type.encryption` holds."""

    id: str
    provider: str
    control_location: str
    cipher: str | None
    key_size: int | None  # bits
    created: float
    updated: float | None = None


def refuse(kind: volume_types.TypeInfo | None) -> None:
    """Raises BadRequest for a type whose volumes would have to be encrypted."""
    if kind is not None and kind.encrypted:
        raise BadRequest(
            f"Invalid volume type: volumes of type {kind.name} would have to be encrypted, and this cloud has no key "
            "store for that yet. Choose another type, or have an administrator remove the type's encryption."
        )


def show(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}/encryption: 200; empty for a type that has none."""
    found = volume_types.by_id(call, call.params["type_id"])
    return {} if found.encryption is None else _whole(found)


def show_item(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}/encryption/{key}: 200, one of its fields."""
    found, key = volume_types.by_id(call, call.params["type_id"]), call.params["key"]
    whole = {} if found.encryption is None else _whole(found)
    if key not in whole:
        raise NotFound(f"Volume type {found.id} has no encryption field {key}.")
    return {key: whole[key]}


def of_volume(call: Call) -> dict[str, Any]:
    """GET /volumes/{volume_id}/encryption: 200. Members of its project may look. No volume is encrypted."""
    found = volumes.visible(call, call.params["volume_id"], "volume_extension:volume_encryption_metadata")
    return {"encryption_key_id": found.encryption_key_id}


def create(call: Call) -> dict[str, Any]:
    """POST /types/{type_id}/encryption: 200. Raises BadRequest when there is one, or volumes of the type."""
    body: EncryptionNew = call.body.encryption
    found = volume_types.by_id(call, call.params["type_id"])
    if found.encryption is not None:
        raise BadRequest(f"Volume type encryption for type {found.id} already exists.")
    _check_unused(call, found.id)
    made = Encryption(
        id=call.cloud.world.uuid(), provider=body.provider, control_location=body.control_location,
        cipher=body.cipher, key_size=_bits(body.key_size), created=call.now,
    )
    _write(call, found.id, made)
    return {"encryption": {
        "volume_type_id": found.id, "encryption_id": made.id, **{name: getattr(made, name) for name in _FIELDS}
    }}


def update(call: Call) -> dict[str, Any]:
    """PUT /types/{type_id}/encryption/{key}: 200, what was given; `key` is the encryption's id."""
    body: EncryptionChange = call.body.encryption
    found = _named(call)
    _check_unused(call, found.id)
    given = {name: value for name in _FIELDS if (value := getattr(body, name)) is not UNSET}
    if "key_size" in given:
        given["key_size"] = _bits(given["key_size"])
    _write(call, found.id, msgspec.convert({**found.encryption, **given, "updated": call.now}, Encryption))
    return {"encryption": given}


def delete(call: Call) -> None:
    """DELETE /types/{type_id}/encryption/{key}: 202; `key` is the encryption's id."""
    found = _named(call)
    _check_unused(call, found.id)
    _write(call, found.id, None)


def _named(call: Call) -> Any:
    found = volume_types.by_id(call, call.params["type_id"])
    if found.encryption is None or found.encryption["id"] != call.params["key"]:
        raise NotFound(f"Volume type encryption for type {found.id} does not exist.")
    return found


def _check_unused(call: Call, type_id: str) -> None:
    if volume_types.in_use(call.tx, type_id):
        raise BadRequest("Cannot change encryption specs. Volume type in use.")


def _bits(text: int | str | None) -> int | None:
    return None if text is None else int(text)


def _whole(found: Any) -> dict[str, Any]:
    kept = msgspec.convert(found.encryption, Encryption)
    return {
        "volume_type_id": found.id, "encryption_id": kept.id, **{name: getattr(kept, name) for name in _FIELDS},
        "created_at": when(kept.created), "updated_at": when(kept.updated), "deleted": False, "deleted_at": None,
    }


def _write(call: Call, type_id: str, value: Encryption | None) -> None:
    kept = None if value is None else msgspec.to_builtins(value)
    call.tx.execute(volume_type.update().where(volume_type.c.id == type_id).values(
        encryption=kept, updated=call.now
    ))
