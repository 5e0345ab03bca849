"""What placement's resources look like on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from pileus.web.call import Call, Reply
from pileus.web.views import Field, View


def _link(call: Call, row: Any, rel: str) -> dict[str, str]:
    here = f"{call.service.prefix}/resource_providers/{row.id}"
    return {"rel": rel, "href": here if rel == "self" else f"{here}/{rel}"}


LINKS = (
    ("self", (1, 0)), ("inventories", (1, 0)), ("usages", (1, 0)), ("aggregates", (1, 1)), ("traits", (1, 6)),
    ("allocations", (1, 11)),
)

PROVIDER = View(
    Field("uuid", "id"), "name", "generation",
    Field("parent_provider_uuid", "parent_id", since=(1, 14)),
    Field("root_provider_uuid", "root_id", since=(1, 14)),
)

INVENTORY = View("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")

CONSUMER = View(
    Field("project_id", since=(1, 12)), Field("user_id", since=(1, 12)),
    Field("consumer_generation", "generation", since=(1, 28)),
    Field("consumer_type", lambda row: row.type or "unknown", since=(1, 38)),
)


def provider_view(call: Call, row: Any) -> dict[str, Any]:
    """One provider with its links."""
    version = call.version or (1, 0)
    links = [_link(call, row, rel) for rel, first in LINKS if first <= version]
    return {**PROVIDER.render(row, version), "links": links}


def class_view(call: Call, name: str) -> dict[str, Any]:
    """One resource class."""
    return {"name": name, "links": [{"rel": "self", "href": f"{call.service.prefix}/resource_classes/{name}"}]}


def fresh(
    call: Call, body: Any, *, modified: float | None = None, status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A reply that says when its content changed (now, where nothing knows), from version 1.15 on."""
    told = dict(headers or {})
    if call.version is not None and call.version >= (1, 15):
        told["Last-Modified"] = formatdate(call.now if modified is None else modified, usegmt=True)
        told["Cache-Control"] = "no-cache"
    return Reply(body, status=status, headers=told)
