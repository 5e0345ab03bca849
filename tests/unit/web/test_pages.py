"""Lists page by keys, the same on every database, nulls included."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.web.errors import BadRequest
from pileus.web.pages import SortKey, next_link, page, sort_keys
from tests.unit.db.conftest import _each, database, item

__all__ = ["_each", "database"]

ROWS = [
    (1, "b", 1, None), (2, None, 1, 5.0), (3, "a", 2, None), (4, None, 2, 1.0), (5, "c", 2, 5.0), (6, "B", 1, None),
]


@pytest.fixture
def filled(database: Database) -> Database:
    rows = [{"id": i, "name": n, "value": v, "at": a} for i, n, v, a in ROWS]
    database.run_sync(lambda tx: tx.execute(item.insert(), rows))
    return database


def _walk(database: Database, keys: list[SortKey], size: int, reverse: bool = False) -> list[int]:
    """Every id, page after page."""
    seen: list[int] = []
    marker = None
    for _ in range(20):
        rows = database.run_sync(
            lambda tx, m=marker: page(tx, sa.select(item), keys, item.c.id, size, m, reverse)  # type: ignore[misc]
        )
        if not rows:
            return seen
        seen = [r.id for r in rows] + seen if reverse else seen + [r.id for r in rows]
        marker = rows[0] if reverse else rows[-1]
    raise AssertionError(f"no end: {seen}")


def _sorted(columns: list[tuple[str, bool]]) -> list[int]:
    """The same order by Python: nulls first ascending, then by id in the last key's direction."""
    rows = [dict(zip(("id", "name", "value", "at"), row, strict=True)) for row in ROWS]
    for name, descending in reversed([*columns, ("id", columns[-1][1] if columns else False)]):
        rows.sort(key=lambda r, n=name: (r[n] is not None, r[n] if r[n] is not None else 0), reverse=descending)
    return [int(str(r["id"])) for r in rows]


@pytest.mark.parametrize("columns", [
    [], *[[(n, d)] for n in ("id", "name", "value", "at") for d in (False, True)],
    *[[("value", a), ("name", b)] for a, b in itertools.product((False, True), repeat=2)],
    [("at", True), ("name", False)], [("at", False), ("name", True)],
])
def test_every_row_once_in_order_whatever_the_page(filled: Database, columns: list[tuple[str, bool]]) -> None:
    keys = [SortKey(item.c[name], descending) for name, descending in columns]
    expected = _sorted(columns)
    for size in (1, 2, 4, 10):
        assert _walk(filled, keys, size) == expected
        assert _walk(filled, keys, size, reverse=True) == expected


def test_limits(filled: Database) -> None:
    def count(limit: int | None) -> int:
        return len(filled.run_sync(lambda tx: page(tx, sa.select(item), [], item.c.id, limit, None)))

    assert [count(n) for n in (None, 0, 3, 10**30)] == [6, 0, 3, 6]


def test_sort_keys() -> None:
    columns = {"name": item.c.name, "id": item.c.id}
    default = [SortKey(item.c.id)]
    assert sort_keys(columns, [], [], default) == default
    found = sort_keys(columns, ["name", "id"], ["DESC"], default)
    assert [(k.column.key, k.descending) for k in found] == [("name", True), ("id", False)]
    assert sort_keys(columns, ["name"], [], default, "desc")[0].descending
    for keys, directions in ((["colour"], []), (["name"], ["up"]), (["name"], ["asc", "asc"])):
        with pytest.raises(BadRequest):
            sort_keys(columns, keys, directions, default)


def test_next_link_keeps_the_rest() -> None:
    pairs = [("name", "a b"), ("marker", "old"), ("limit", "5"), ("page_reverse", "true"), ("tag", "x"), ("tag", "y")]
    assert next_link("http://c/v", pairs, "é") == "http://c/v?name=a+b&tag=x&tag=y&limit=5&marker=%C3%A9"
    assert next_link("http://c/v", pairs, "m", 2) == "http://c/v?name=a+b&tag=x&tag=y&limit=2&marker=m"
