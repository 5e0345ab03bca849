"""Placement's wire shape of errors, and the errors that have a code of their own there.

`{"errors": [{"status": 409, "title": "Conflict", "detail": "…", "code": "placement.…", "request_id": "req-…"}]}`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.web.errors import BadRequest, Conflict, NotFound, Problem

if TYPE_CHECKING:
    from pileus.web.call import Call


class ConcurrentUpdate(Conflict):
    """The generation that the caller knows is no longer the one there is."""

    code = "placement.concurrent_update"


class InventoryInUse(Conflict):
    code = "placement.inventory.inuse"


class ProviderInUse(Conflict):
    code = "placement.resource_provider.inuse"


class ProviderHasChildren(Conflict):
    code = "placement.resource_provider.cannot_delete_parent"


class DuplicateName(Conflict):
    code = "placement.duplicate_name"


class ProviderNotFound(NotFound):
    code = "placement.resource_provider.not_found"


class BadQueryValue(BadRequest):
    code = "placement.query.bad_value"


class MissingQueryValue(BadRequest):
    code = "placement.query.missing_value"


class DuplicateQueryKey(BadRequest):
    code = "placement.query.duplicate_key"


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers; `code` from version 1.23 on."""
    error: dict[str, Any] = {"status": problem.status, "title": problem.title, "detail": problem.message}
    if call is not None:
        error["request_id"] = call.request_id
        if call.version is not None and call.version >= (1, 23):
            known = problem.code.startswith("placement.")
            error["code"] = problem.code if known else "placement.undefined_code"
    error.update({k: v for k, v in problem.details.items() if k in ("min_version", "max_version")})
    return {"errors": [error]}, {}
