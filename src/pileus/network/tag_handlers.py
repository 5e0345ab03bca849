"""/v2.0/{collection}/{id}/tags, the same for every noun that has tags."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Row

from pileus.network import (
    floating_ips,
    lists,
    networks,
    port_handlers,
    routers,
    security_groups,
    subnet_pools,
    subnets,
    tags,
    trunks,
)
from pileus.network.faults import invalid, not_found
from pileus.web.call import Call
from pileus.web.errors import BadRequest

_MOST = 50

COLLECTIONS = {
    "networks": networks.NOUN, "subnets": subnets.NOUN, "ports": port_handlers.NOUN, "routers": routers.NOUN,
    "subnetpools": subnet_pools.NOUN, "floatingips": floating_ips.NOUN, "security-groups": security_groups.NOUN,
    "security_groups": security_groups.NOUN, "trunks": trunks.NOUN,
}


def _row(call: Call, rule: str) -> tuple[lists.Noun, Row[Any]]:
    noun = COLLECTIONS.get(call.params["collection"])
    if noun is None:
        raise not_found("TagResourceNotFound", "Tagged collection", call.params["collection"])
    row = lists.find(call, noun, call.params["id"])
    call.enforce(rule, project_id=row.project_id)
    return noun, row


def _check(name: str) -> str:
    if not 1 <= len(name) <= 255:
        raise BadRequest("A tag has 1 to 255 characters.")
    return name


def _bump(call: Call, noun: lists.Noun, row: Row[Any]) -> None:
    lists.update(call, noun.table, row.id, {})


def index(call: Call) -> dict[str, Any]:
    """GET: 200."""
    _, row = _row(call, "get_tags")
    return {"tags": tags.of(call.tx, [row.id]).get(row.id, [])}


def replace(call: Call) -> dict[str, Any]:
    """PUT: 200, exactly these."""
    noun, row = _row(call, "update_tags")
    tags.replace(call.tx, row.id, call.body.tags)
    _bump(call, noun, row)
    return {"tags": tags.of(call.tx, [row.id]).get(row.id, [])}


def add_many(call: Call) -> dict[str, Any]:
    """POST: 200, these too."""
    noun, row = _row(call, "update_tags")
    _room(call, row, call.body.tags)
    tags.add(call.tx, row.id, call.body.tags)
    _bump(call, noun, row)
    return {"tags": tags.of(call.tx, [row.id]).get(row.id, [])}


def _room(call: Call, row: Row[Any], names: list[str]) -> None:
    have = tags.of(call.tx, [row.id]).get(row.id, [])
    if len({*have, *names}) > _MOST:
        raise invalid(f"a resource has at most {_MOST} tags.")


def clear(call: Call) -> None:
    """DELETE: 204."""
    noun, row = _row(call, "delete_tags")
    tags.drop(call.tx, row.id)
    _bump(call, noun, row)


def has(call: Call) -> None:
    """GET of one: 204, or 404."""
    _, row = _row(call, "get_tags")
    if call.params["tag"] not in tags.of(call.tx, [row.id]).get(row.id, []):
        raise not_found("TagNotFound", "Tag", call.params["tag"])


def add(call: Call) -> None:
    """PUT of one: 201."""
    noun, row = _row(call, "update_tags")
    name = _check(call.params["tag"])
    _room(call, row, [name])
    tags.add(call.tx, row.id, [name])
    _bump(call, noun, row)


def remove(call: Call) -> None:
    """DELETE of one: 204, or 404."""
    noun, row = _row(call, "delete_tags")
    if not tags.remove(call.tx, row.id, call.params["tag"]):
        raise not_found("TagNotFound", "Tag", call.params["tag"])
    _bump(call, noun, row)
