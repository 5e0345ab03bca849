"""Extra specs of volume types: what a backend must be like that keeps their volumes."""

from __future__ import annotations

from typing import Any

from pileus.volume import volume_types
from pileus.volume.tables_rest import volume_type
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound


def index(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}/extra_specs: 200."""
    return {"extra_specs": volume_types.by_id(call, call.params["type_id"]).extra_specs}


def create(call: Call) -> dict[str, Any]:
    """POST /types/{type_id}/extra_specs: 200, what was given; the others stay."""
    _store(call, call.body.extra_specs)
    return {"extra_specs": call.body.extra_specs}


def show(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}/extra_specs/{key}: 200."""
    found, key = _of(call)
    return {key: found.extra_specs[key]}


def update(call: Call) -> dict[str, Any]:
    """PUT /types/{type_id}/extra_specs/{key}: 200. The body has that one key."""
    key = call.params["key"]
    if list(call.body) != [key]:
        raise BadRequest("Request body and URI mismatch: the body must hold the key of the URI, and no other.")
    _store(call, call.body)
    return dict(call.body)


def delete(call: Call) -> None:
    """DELETE /types/{type_id}/extra_specs/{key}: 202."""
    found, key = _of(call)
    left = {name: value for name, value in found.extra_specs.items() if name != key}
    _check_in_use(call, found, left)
    _write(call, found.id, left)


def _of(call: Call) -> tuple[Any, str]:
    found = volume_types.by_id(call, call.params["type_id"])
    key = call.params["key"]
    if key not in found.extra_specs:
        raise NotFound(f"Volume Type {found.id} has no extra specs with key {key}.")
    return found, key


def _store(call: Call, specs: dict[str, str]) -> None:
    found = volume_types.by_id(call, call.params["type_id"])
    whole = {**found.extra_specs, **specs}
    _check_in_use(call, found, whole)
    _write(call, found.id, whole)


def _check_in_use(call: Call, found: Any, specs: dict[str, str]) -> None:
    """What volumes are by their type must not change behind their back. Raises BadRequest."""
    if specs.get("multiattach") != found.extra_specs.get("multiattach") and volume_types.in_use(call.tx, found.id):
        raise BadRequest(f"Volume type {found.id} is in use: whether its volumes are multiattach cannot change. "
                         "Make another type, and retype the volumes.")


def _write(call: Call, type_id: str, specs: dict[str, str]) -> None:
    call.tx.execute(volume_type.update().where(volume_type.c.id == type_id).values(
        extra_specs=specs, updated=call.now
    ))
