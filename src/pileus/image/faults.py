"""Image's shape of errors: as the caller accepts it, HTML, JSON or text, each with the message.

Older clients read HTML, which is what a caller gets who asks for nothing; those that ask for JSON get
`{"message": "…", "code": "404 Not Found", "title": "Not Found"}`.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.web.call import Call


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers."""
    accepted = call.headers.get("accept", "") if call is not None else ""
    code = f"{problem.status} {problem.title}"
    if accepted and "html" not in accepted and "*/*" not in accepted:
        if "json" in accepted:
            return {"message": problem.message, "code": code, "title": problem.title}, {}
        return f"{code}\n\n{problem.message}\n".encode(), {"content-type": "text/plain; charset=UTF-8"}
    page = (
        f"<html>\n <head>\n  <title>{escape(code)}</title>\n </head>\n <body>\n  <h1>{escape(code)}</h1>\n"
        f"  {escape(problem.message)}<br /><br />\n </body>\n</html>\n"
    )
    return page.encode(), {"content-type": "text/html; charset=UTF-8"}
