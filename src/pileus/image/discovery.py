"""Version documents, schemas, and what imports can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileus.image import attributes
from pileus.image.editing import METHODS
from pileus.web.call import Call, Reply
from pileus.web.errors import NotFound

_CURRENT = "2.9"
_SUPPORTED = ("2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0")
# 2.8 and 2.10 to 2.13 are about several stores, 2.14 is the cache, 2.15 imports from another Glance, 2.16 manages the
# cache, 2.17 has locations: none of them is here.


def versions(call: Call) -> Reply:
    """GET /: 300, without a token."""
    return Reply(_document(call), status=300)


def versions_asked(call: Call) -> Reply:
    """GET /versions: 200, without a token."""
    return Reply(_document(call), status=200)


def _document(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{call.url}/v2/"}]
    rows = [(_CURRENT, "CURRENT"), *((version, "SUPPORTED") for version in _SUPPORTED)]
    return {"versions": [{"id": f"v{version}", "status": status, "links": links} for version, status in rows]}


_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "image": attributes.image_schema,
    "images": lambda: attributes.collection_schema("images", attributes.image_schema()),
    "member": attributes.member_schema,
    "members": lambda: attributes.collection_schema("members", attributes.member_schema()),
    "task": attributes.task_schema,
    "tasks": lambda: attributes.collection_schema("tasks", attributes.task_schema()),
}


def schema(call: Call) -> dict[str, Any]:
    """GET /v2/schemas/{name}: 200."""
    made = _SCHEMAS.get(call.params["name"])
    if made is None:
        raise NotFound(f"There is no schema '{call.params['name']}'; there are {', '.join(_SCHEMAS)}.")
    return made()


def import_info(call: Call) -> dict[str, Any]:
    """GET /v2/info/import: 200."""
    described = {"description": "Import methods available.", "type": "array", "value": list(METHODS)}
    return {"import-methods": described}


def stores_info(call: Call) -> None:
    """GET /v2/info/stores: 404, as there is one store only."""
    raise NotFound("Multi backend is not supported at this site: there is one store.")
