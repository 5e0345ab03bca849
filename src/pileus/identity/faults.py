"""Identity's wire shape of errors: `{"error": {"code": 404, "message": "…", "title": "Not Found"}}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.web.call import Call


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers."""
    return {"error": {"code": problem.status, "message": problem.message, "title": problem.title}}, {}
