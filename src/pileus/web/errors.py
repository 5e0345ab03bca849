"""The errors that a request may end in. Raised anywhere, rendered once, in the service's own wire shape.

`code` is stable: never changed, never reused. Messages name the thing, the reason and the way out.
"""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):
    """A request cannot be done; what the caller sees is `status`, `code` and the message."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, message: str, *, headers: dict[str, str] | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}
        self.details = details


class BadRequest(Problem):
    status, code, title = 400, "bad_request", "Bad Request"


class Unauthorized(Problem):
    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(Problem):
    status, code, title = 403, "forbidden", "Forbidden"


class OverQuota(Forbidden):
    code = "over_quota"


class NotFound(Problem):
    status, code, title = 404, "not_found", "Not Found"


class MethodNotAllowed(Problem):
    status, code, title = 405, "method_not_allowed", "Method Not Allowed"


class NotAcceptable(Problem):
    status, code, title = 406, "not_acceptable", "Not Acceptable"


class Conflict(Problem):
    status, code, title = 409, "conflict", "Conflict"


class Gone(Problem):
    status, code, title = 410, "gone", "Gone"


class PreconditionFailed(Problem):
    status, code, title = 412, "precondition_failed", "Precondition Failed"


class TooLarge(Problem):
    status, code, title = 413, "too_large", "Request Entity Too Large"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "unsupported_media_type", "Unsupported Media Type"


class RangeNotSatisfiable(Problem):
    status, code, title = 416, "range_not_satisfiable", "Requested Range Not Satisfiable"


class TooManyRequests(Problem):
    status, code, title = 429, "too_many_requests", "Too Many Requests"


class NotImplementedHere(Problem):
    status, code, title = 501, "not_implemented", "Not Implemented"


class Unavailable(Problem):
    status, code, title = 503, "unavailable", "Service Unavailable"
