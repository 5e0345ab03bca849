"""Lists: sorting, keyset pagination by marker, and the filters that look the same in several services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.db.engine import Tx
from pileus.web.errors import BadRequest

_MOST = 1 << 31


class SortKey:
    """A column and its direction."""

    __slots__ = ("column", "descending")

    def __init__(self, column: sa.ColumnElement[Any], descending: bool = False) -> None:
        self.column = column
        self.descending = descending


def sort_keys(
    columns: Mapping[str, sa.ColumnElement[Any]],
    keys: Sequence[str],
    directions: Sequence[str],
    default: Sequence[SortKey],
    default_direction: str = "asc",
) -> list[SortKey]:
    """The sort asked for, by the names that the API knows. Raises BadRequest for unknown names."""
    if not keys:
        return list(default)
    if len(directions) > len(keys):
        raise BadRequest("There are more sort directions than sort keys.")
    found = []
    for index, key in enumerate(keys):
        if key not in columns:
            raise BadRequest(f"Unable to sort by '{key}'; sort by one of {', '.join(sorted(columns))}.")
        direction = (directions[index] if index < len(directions) else default_direction).lower()
        if direction not in ("asc", "desc"):
            raise BadRequest(f"Unknown sort direction '{direction}': must be 'asc' or 'desc'.")
        found.append(SortKey(columns[key], direction == "desc"))
    return found


def page(
    tx: Tx, statement: sa.Select[Any], keys: Sequence[SortKey], unique: sa.ColumnElement[Any],
    limit: int | None, marker: Row[Any] | None, reverse: bool = False,
) -> list[Row[Any]]:
    """One page of `statement`, sorted by `keys` and then by `unique`, from behind the marker's row.

    `marker` is a row of the same statement. `reverse` pages backwards (Neutron's page_reverse)."""
    order = [*keys, SortKey(unique, keys[-1].descending if keys else False)]
    if reverse:
        order = [SortKey(k.column, not k.descending) for k in order]
    if marker is not None:
        statement = statement.where(_behind(order, marker))
    for key in order:
        # Nulls come first in ascending order everywhere, as SQLite and MariaDB do it.
        present = key.column.is_not(None)
        nullable = getattr(key.column, "nullable", True)
        if nullable:
            statement = statement.order_by(present.desc() if key.descending else present.asc())
        statement = statement.order_by(key.column.desc() if key.descending else key.column.asc())
    if limit is not None:
        statement = statement.limit(min(limit, _MOST))  # any number may be asked for; databases take 64 bits
    rows = list(tx.all(statement))
    return rows[::-1] if reverse else rows


def _behind(order: Sequence[SortKey], marker: Row[Any]) -> sa.ColumnElement[bool]:
    clauses = []
    for index, key in enumerate(order):
        equal = [_same(k.column, _value(marker, k.column)) for k in order[:index]]
        clauses.append(sa.and_(*equal, _after(key, _value(marker, key.column))))
    return sa.or_(*clauses)


def _value(row: Row[Any], column: sa.ColumnElement[Any]) -> Any:
    return row._mapping[column]


def _same(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def _after(key: SortKey, value: Any) -> sa.ColumnElement[bool]:
    if value is None:
        return sa.false() if key.descending else key.column.is_not(None)
    beyond = key.column < value if key.descending else key.column > value
    return sa.or_(beyond, key.column.is_(None)) if key.descending else sa.and_(beyond)


def next_link(url: str, pairs: Sequence[tuple[str, str]], marker: str, limit: int | None = None) -> str:
    """The URL of the page behind `marker`, with the request's other parameters kept."""
    kept = [(k, v) for k, v in pairs if k not in ("marker", "limit", "page_reverse")]
    if limit is not None:
        kept.append(("limit", str(limit)))
    else:
        kept += [(k, v) for k, v in pairs if k == "limit"]
    return f"{url}?{urlencode([*kept, ('marker', marker)])}"
