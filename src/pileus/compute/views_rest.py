"""What compute's replies have in common: links, pages, times."""

from __future__ import annotations

from typing import Any

from pileus.compute.versions import in_path
from pileus.web.call import Call
from pileus.web.pages import next_link
from pileus.world import iso_micro

MOST = 1000
"""How many items a page has at most, as Nova's `max_limit`."""


def links(call: Call, collection: str, item: object) -> list[dict[str, str]]:
    """The `self` and `bookmark` links of a resource."""
    return [
        {"rel": "self", "href": f"{call.url}/{in_path(call)}/{collection}/{item}"},
        {"rel": "bookmark", "href": f"{call.url}/{collection}/{item}"},
    ]


def page_size(asked: int | None) -> int:
    """How many items to give when the caller asks for `asked`, or for no number."""
    return MOST if asked is None else min(asked, MOST)


def more(call: Call, name: str, given: int, size: int, marker: object) -> dict[str, Any]:
    """`{"NAME_links": [next]}` behind a full page, to be merged into the reply; else nothing.

    `marker` is the id of the page's last item."""
    if not given or given < size:
        return {}
    return {f"{name}_links": [
        {"rel": "next", "href": next_link(f"{call.url}{call.path}", call.query_pairs, str(marker))}
    ]}


def when(seconds: float | None) -> str | None:
    """A time as the older resources print it: `2026-01-31T12:00:00.000000`."""
    return None if seconds is None else iso_micro(seconds)
