"""Lists of volumes and snapshots: pages, sorting, and filters by attributes and metadata."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.pages import SortKey, next_link, page, sort_keys
from pileus.web.versions import Version
from pileus.world import parse_iso

Clause = sa.ColumnElement[bool]
Filter = Callable[[Call, str], Clause]
"""A clause from the text of a query parameter. Raises BadRequest."""

MOST = 1000
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
_PAGING = frozenset({"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count"})


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What can be listed: its table, and what it is sorted and filtered by."""

    plural: str
    table: sa.Table
    sort: Mapping[str, sa.ColumnElement[Any]]
    filters: Mapping[str, Filter]
    alike: Mapping[str, sa.ColumnElement[Any]]  # filters with `~`, from 3.34 on
    all_tenants: str = ""  # the rule of those who list all projects'; "": what is listed is no project's
    unique: str = "seq"  # a column that no two rows share
    beside: frozenset[str] = frozenset()  # parameters that are no filters
    came: Mapping[str, Version] = {}  # filters that earlier versions ignore
    sort_came: Mapping[str, Version] = {}  # what earlier versions do not sort by


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, and what stands beside them in the reply: the link to the next page, the count."""

    rows: Sequence[Any]
    beside: dict[str, Any]


def pages(call: Call, kind: Kind, path: str, *where: Clause) -> Page:
    """The page that the query asks for, of what is `where`; `path` is the list's own, below /v3.

    Raises BadRequest, Forbidden, and NotFound for an unknown marker, or for a path that ends where an id should be."""
    if call.path.endswith("/"):
        raise NotFound(f"The resource could not be found: {call.path} names none.")
    asked = _asked(call)
    seen = [*where, *_scope(call, kind, asked)]
    clauses = [*seen, *_filters(call, kind, asked)]
    table = kind.table
    limit, offset = _limit(call, asked), amount(asked.get("offset", "0"), "offset")
    statement = sa.select(table)
    marker = None
    if "marker" in asked:
        marker = call.tx.first(statement.where(table.c.id == asked["marker"], *seen))
        if marker is None:
            raise NotFound(f"marker [{asked['marker']}] could not be found.")
    counted = statement.where(*clauses)
    paged = counted.offset(min(offset, 2**31 - 1)) if offset else counted
    rows = page(call.tx, paged, _sort(call, kind, asked), table.c[kind.unique], limit, marker)
    beside: dict[str, Any] = {}
    if rows and len(rows) == limit:
        pairs = [(name, value) for name, value in call.query_pairs if name != "offset"]
        text = int(asked["limit"]) if "limit" in asked else None
        href = next_link(call.url + path, pairs, rows[-1].id, text)
        beside[f"{kind.plural}_links"] = [{"rel": "next", "href": href}]
    if (call.version or (3, 0)) >= (3, 45) and flag(asked.get("with_count", "false"), "with_count"):
        beside["count"] = call.tx.scalar(sa.select(sa.func.count()).select_from(table).where(*clauses))
    return Page(rows=rows, beside=beside)


def clauses(call: Call, kind: Kind) -> list[Clause]:
    """What the query's filters and its scope ask for, without pages."""
    asked = _asked(call)
    return [*_scope(call, kind, asked), *_filters(call, kind, asked)]


def text(column: sa.ColumnElement[Any]) -> Filter:
    """A filter for one exact value, or any of those in a list (`['a', 'b']`)."""
    return lambda call, value: column == value


def number(column: sa.ColumnElement[Any]) -> Filter:
    """A filter for one number."""

    def clause(call: Call, value: str) -> Clause:
        if not value.isascii() or not value.isdigit() or len(value) > 9:
            raise BadRequest(f"Invalid filter: '{value}' is not a number.")
        return column == int(value)

    return clause


_TICK = 0.6e-6
"""Times are kept finer than the microseconds in which they are shown."""
_COMPARE: dict[str, Callable[[Any, float], Clause]] = {
    "gt": lambda column, at: column > at + _TICK, "gte": lambda column, at: column > at - _TICK,
    "lt": lambda column, at: column < at - _TICK, "lte": lambda column, at: column < at + _TICK,
    "eq": lambda column, at: column.between(at - _TICK, at + _TICK),
    "neq": lambda column, at: ~column.between(at - _TICK, at + _TICK),
}


def time(column: sa.ColumnElement[Any]) -> Filter:
    """A filter for times, as `gt:2026-01-01T00:00:00`; several are separated by commas."""

    def clause(call: Call, value: str) -> Clause:
        found = []
        for part in value.split(","):
            word, _, moment = part.strip().partition(":")
            compare, moment = (_COMPARE[word], moment) if word in _COMPARE else (_COMPARE["eq"], part.strip())
            try:
                found.append(compare(column, parse_iso(moment)))
            except (ValueError, OverflowError):
                raise BadRequest(f"Invalid filter: '{part}' is not a time, as gt:2026-01-01T00:00:00.") from None
        return sa.and_(*found)

    return clause


def truth(column: sa.ColumnElement[Any]) -> Filter:
    """A filter for true or false. Before 3.2 whatever is not false is true, as `bootable=x`."""
    name = column.name if hasattr(column, "name") else "value"

    def clause(call: Call, value: str) -> Clause:
        if (call.version or (3, 0)) < (3, 2):
            return column.is_(value.lower() != "false" and value != "")
        return column.is_(flag(value, name))

    return clause


def pairs(column: sa.ColumnElement[Any]) -> Filter:
    """A filter for all pairs of `{'key': 'value'}` in a JSON column."""

    def clause(call: Call, value: str) -> Clause:
        return sa.and_(sa.true(), *(_has(call, column, k, v) for k, v in mapping(value).items()))

    return clause


def consuming(call: Call, value: str) -> Clause:
    """A filter by whether it counts for the quota, which all volumes and snapshots do."""
    return sa.true() if flag(value, "consumes_quota") else sa.false()


def mapping(value: str) -> dict[str, str]:
    """A dict as clients write it in a query: as Python prints it, or as JSON. Raises BadRequest."""
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise BadRequest(f"Invalid filter: '{value}' is not a dict of texts, as {{'key': 'value'}}.")
    return found


def flag(value: str, name: str) -> bool:
    """A truth value of a query. Raises BadRequest."""
    if value.lower() not in _TRUE | _FALSE:
        raise BadRequest(f"Invalid value '{value}' for {name}: it is neither true nor false.")
    return value.lower() in _TRUE


def _has(call: Call, column: sa.ColumnElement[Any], key: str, value: str) -> Clause:
    """Whether the compact JSON of a column has the pair. What comes before a key is a brace or a comma; in a text, the
    quote that follows those would be escaped, so that nothing else is ever found."""
    pair = f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}"
    place = sa.func.strpos if call.tx.conn.dialect.name == "postgresql" else sa.func.instr
    raw = sa.type_coerce(column, sa.Text)
    return sa.or_(place(raw, "{" + pair) > 0, place(raw, "," + pair) > 0)


def _asked(call: Call) -> dict[str, str]:
    return dict(call.query_pairs)


def _scope(call: Call, kind: Kind, asked: Mapping[str, str]) -> list[Clause]:
    """Whose resources are listed: the caller's project's, or all for those who may."""
    if not kind.all_tenants:
        return []
    everywhere = flag(asked.get("all_tenants") or "true", "all_tenants") if "all_tenants" in asked else False
    wanted = asked.get("project_id")
    if everywhere and call.allows(kind.all_tenants, project_id=call.context.project_id):
        return [kind.table.c.project_id == wanted] if wanted else []
    return [kind.table.c.project_id == call.context.project_id]


def _filters(call: Call, kind: Kind, asked: Mapping[str, str]) -> list[Clause]:
    version = call.version or (3, 0)
    found = []
    for name, value in asked.items():
        plain = name.removesuffix("~")
        if name in _PAGING or name == "project_id" or name in kind.beside or version < kind.came.get(name, version):
            continue
        if name.endswith("~") and version >= (3, 34):
            if plain not in kind.alike:
                raise BadRequest(f"Invalid filters {name} are found in query options.")
            found.append(kind.alike[plain].contains(value, autoescape=True))
        elif name in kind.filters:
            found.append(kind.filters[name](call, value))
        elif version >= (3, 31):
            raise BadRequest(f"Invalid filters {name} are found in query options.")
    return found


def _limit(call: Call, asked: Mapping[str, str]) -> int:
    return min(amount(asked.get("limit", str(MOST)), "limit"), MOST)


def amount(value: str, name: str) -> int:
    """A number of a query. Raises BadRequest."""
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise BadRequest(f"Invalid input for query parameters {name}. Value: {value}. It is not a number >= 0.")
    return int(value)


def _sort(call: Call, kind: Kind, asked: Mapping[str, str]) -> list[SortKey]:
    """`sort=key:dir,key:dir`, or the older sort_key and sort_dir; the newest first without any."""
    default = [SortKey(kind.table.c.created, descending=True)]
    keys, directions = sort_asked(asked)
    version = call.version or (3, 0)
    known = {name: column for name, column in kind.sort.items() if version >= kind.sort_came.get(name, version)}
    return sort_keys(known, keys, directions, default, "desc")


def sort_asked(asked: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names to sort by and the directions that a query gives, of which there may be fewer. Raises BadRequest."""
    if "sort" in asked and ("sort_key" in asked or "sort_dir" in asked):
        raise BadRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with 'sort'.")
    if "sort" in asked:
        named = [part.strip().partition(":") for part in asked["sort"].split(",") if part.strip()]
        keys, directions = [name for name, _, _ in named], [way or "desc" for _, _, way in named]
    else:
        keys = [part.strip() for part in asked.get("sort_key", "").split(",") if part.strip()]
        directions = [part.strip() for part in asked.get("sort_dir", "").split(",") if part.strip()]
        if directions and not keys:
            keys = ["created_at"]
    return keys, directions
