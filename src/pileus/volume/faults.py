"""Cinder's wire shape of errors: `{"itemNotFound": {"code": 404, "message": "…"}}`, the key by status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.web.errors import Problem, TooLarge

if TYPE_CHECKING:
    from pileus.web.call import Call

_NAMES = {
    400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
    406: "notAcceptable", 409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit",
    501: "notImplemented", 503: "serviceUnavailable",
}


class OverLimit(TooLarge):
    """A quota is used up: 413, as Cinder says it."""

    code = "over_limit"
    title = "Over Limit"


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers."""
    fault: dict[str, Any] = {"code": problem.status, "message": problem.message}
    headers = {}
    if problem.status == 413:
        fault["retryAfter"] = "0"
        headers["Retry-After"] = "0"
    return {_NAMES.get(problem.status, "computeFault"): fault}, headers
