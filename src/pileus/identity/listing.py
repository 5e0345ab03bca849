"""Lists of identity: filters by name, comparisons such as `name__icontains`, and pages where one asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.pages import SortKey, next_link, page
from pileus.web.schemas import as_bool

_PATTERNS = {
    "contains": lambda column, text: column.contains(text, autoescape=True),
    "startswith": lambda column, text: column.startswith(text, autoescape=True),
    "endswith": lambda column, text: column.endswith(text, autoescape=True),
}


class Page(msgspec.Struct):
    """Rows, and the link to those behind them where there may be more."""

    rows: list[Any]
    next: str | None = None


def find(
    call: Call, table: sa.Table, filters: Mapping[str, sa.ColumnElement[Any]],
    statement: sa.Select[Any] | None = None,
) -> Page:
    """Rows of `statement` (by default the whole table) that the query's filters let through, by name.

    `limit` and `marker` page. Raises BadRequest for a limit that is none, or an unknown marker."""
    query = sa.select(table) if statement is None else statement
    limit, marker = None, None
    for name, text in call.query_pairs:
        if name == "limit":
            limit = _limit(text)
        elif name == "marker":
            marker = call.tx.first(sa.select(table).where(table.c.id == text))
            if marker is None:
                raise BadRequest(f"Marker {text} could not be found.")
        else:
            clause = _clause(filters, name, text)
            if clause is not None:
                query = query.where(clause)
    keys = [SortKey(table.c.name)] if "name" in table.c else []
    rows = page(call.tx, query, keys, table.c.id, limit, marker)
    more = limit is not None and len(rows) == limit and rows
    return Page(rows, next_link(call.url + call.path, call.query_pairs, rows[-1].id) if more else None)


def _limit(text: str) -> int | None:
    if not text.isdigit() or len(text) > 9:
        raise BadRequest(f"Invalid limit '{text}': a number is expected.")
    return int(text) or None


def _clause(
    filters: Mapping[str, sa.ColumnElement[Any]], name: str, text: str
) -> sa.ColumnElement[bool] | None:
    column = filters.get(name)
    if column is not None:
        if isinstance(column.type, sa.Boolean):
            return column.is_(as_bool(text) if text else True)
        return column == text
    base, mark, comparison = name.partition("__")
    column = filters.get(base)
    if not mark or column is None or isinstance(column.type, sa.Boolean):
        return None
    pattern = _PATTERNS.get(comparison.removeprefix("i"))
    if pattern is None:
        return None
    found: sa.ColumnElement[bool] = (
        pattern(sa.func.lower(column), text.lower()) if comparison.startswith("i") else pattern(column, text)
    )
    return found
