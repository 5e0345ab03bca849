"""Neutron's wire shape of errors, `{"NeutronError": {"type", "message", "detail"}}`, and the errors by their types.

Clients match on `type` (openstacksdk, gophercloud) and on a few texts (Tempest, Terraform), so both are contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.web import errors
from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.web.call import Call

_TYPES = {
    400: "HTTPBadRequest", 401: "HTTPUnauthorized", 403: "HTTPForbidden", 404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed", 409: "HTTPConflict", 412: "RevisionNumberConstraintFailed",
    413: "HTTPRequestEntityTooLarge", 415: "HTTPUnsupportedMediaType", 500: "HTTPInternalServerError",
    503: "HTTPServiceUnavailable",
}


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers."""
    kind = problem.details.get("type")
    if kind is None and problem.details.get("rule"):
        kind = "PolicyNotAuthorized"
    body = {"type": kind or _TYPES.get(problem.status, "HTTPError"), "message": problem.message, "detail": ""}
    return {"NeutronError": body}, {}


def not_found(kind: str, what: str, identity: str) -> errors.NotFound:
    """`NetworkNotFound`: "Network 1234 could not be found."."""
    return errors.NotFound(f"{what} {identity} could not be found.", type=kind)


def invalid(message: str, kind: str = "InvalidInput") -> errors.BadRequest:
    """400 with a type of Neutron's."""
    prefix = "Invalid input for operation: " if kind == "InvalidInput" else ""
    return errors.BadRequest(f"{prefix}{message}", type=kind)


def conflict(kind: str, message: str) -> errors.Conflict:
    """409 with a type of Neutron's."""
    return errors.Conflict(message, type=kind)


class QuotaExceeded(errors.OverQuota):
    """Neutron answers 409, not 403, when a quota is full."""

    status = 409

    def __init__(self, resources: list[str]) -> None:
        super().__init__(f"Quota exceeded for resources: {resources}.", type="OverQuota")
