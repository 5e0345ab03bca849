"""The best few providers: one statement, however many there are.

`free` is a column of the database's own, indexed, so that the freest providers are the first rows; who wants more asks
again with a higher limit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pileus.placement.candidates import Candidate
from pileus.placement.tables import inventory, provider

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_MOST = 2**53
_FIRST = 4  # columns of a row before those of its stocks


class BestRequest(NamedTuple):
    """Which providers compute would have. Only the amounts and traits are promises; the rest narrows the search."""

    resources: tuple[tuple[str, int], ...]  # class and amount, at least one
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    member_of: frozenset[frozenset[str]] = frozenset()  # in one aggregate of each set
    not_member_of: frozenset[str] = frozenset()
    by: str = ""  # the class that orders them; one of those asked for
    least: bool = False  # those with the least of it first


class Best(NamedTuple):
    """What `best` has found, and whether that is all there is."""

    candidates: list[Candidate]
    whole: bool


def best(
    tx: Tx, request: BestRequest, limit: int, *, only: frozenset[str] | None = None, but: frozenset[str] = frozenset(),
) -> Best:
    """The providers that can give all of it by themselves, those with the most of `by` first; at most `limit`.

    `only` and `but` are names. What is found was free a moment ago: the claim decides."""
    values: dict[str, Any] = {}
    if only is not None:
        values["only"] = sorted(only)
    if but:
        values["but"] = sorted(but)
    rows = tx.all(_best(request, limit, only is not None, bool(but)), values)
    found = [_whole(request, tuple(row)) for row in rows]
    return Best([one for one in found if one is not None], len(rows) < limit)


def _whole(request: BestRequest, row: tuple[Any, ...]) -> Candidate | None:
    """A row as a candidate; None where the amounts are none that the provider gives out."""
    free, capacity = {}, {}
    for number, (name, amount) in enumerate(request.resources):
        total, reserved, ratio, used, least, step = row[_FIRST + 6 * number : _FIRST + 6 * number + 6]
        if amount < least or amount % step:
            return None
        capacity[name] = int(min((total - reserved) * ratio, _MOST))
        free[name] = capacity[name] - used
    return Candidate(
        provider_id=row[0], provider_name=row[1], free=free, capacity=capacity, traits=frozenset(row[2].split()),
        aggregates=frozenset(row[3].split()),
    )


@functools.lru_cache(256)
def _best(request: BestRequest, limit: int, some: bool, others: bool) -> sa.Select[Any]:
    """The statement of one kind of question; a cloud has few kinds, and each is compiled once.

    Only columns are compared with numbers that stand in the statement, so that a planner's estimates hold: it walks the
    index only when it believes that it finds enough there. What is hardly ever asked is left to `_whole`."""
    tables = {name: inventory.alias(f"i{number}") for number, (name, _) in enumerate(request.resources)}
    first = tables[request.by]
    joined: Any = first.join(provider, provider.c.id == first.c.provider_id)
    columns: list[Any] = [provider.c.id, provider.c.name, provider.c.traits, provider.c.aggregates]
    clauses: list[Any] = [first.c.resource_class == request.by]
    for name, amount in request.resources:
        stock = tables[name].c
        if tables[name] is not first:
            joined = joined.join(
                tables[name], sa.and_(stock.provider_id == first.c.provider_id, stock.resource_class == name)
            )
        columns += [
            stock.total, stock.reserved, stock.allocation_ratio, stock.used, stock.min_unit, stock.step_size
        ]
        clauses += [stock.free >= amount, stock.max_unit >= amount]
    clauses += [_has(provider.c.traits, name) for name in sorted(request.required)]
    clauses += [~_has(provider.c.traits, name) for name in sorted(request.forbidden)]
    clauses += [sa.or_(*(_has(provider.c.aggregates, one) for one in sorted(any_of))) for any_of in request.member_of]
    clauses += [~_has(provider.c.aggregates, one) for one in sorted(request.not_member_of)]
    if some:
        clauses.append(provider.c.name.in_(sa.bindparam("only", expanding=True)))
    if others:
        clauses.append(provider.c.name.not_in(sa.bindparam("but", expanding=True)))
    order = (first.c.free, first.c.provider_id)
    return (
        sa.select(*columns).select_from(joined).where(*clauses)
        .order_by(*(order if request.least else (column.desc() for column in order)))
        .limit(sa.literal_column(str(int(limit))))
        .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    )


def _has(column: sa.Column[Any], word: str) -> sa.ColumnElement[bool]:
    """Whether a word stands among those of a column."""
    return sa.literal(" ").concat(column).concat(" ").contains(f" {word} ", autoescape=True)


def idle(tx: Tx, provider_id: str, resources: Iterable[str]) -> bool:
    """Whether no other transaction is claiming there at this moment; if so, none can until this one ends.

    Holds what a claim takes first, so that a claim that follows waits for nobody. Always so on SQLite."""
    if tx.conn.dialect.name == "sqlite":
        return True
    return tx.first(_IDLE, {"p": provider_id, "r": min(resources)}) is not None


_IDLE = sa.select(inventory.c.provider_id).where(
    inventory.c.provider_id == sa.bindparam("p"), inventory.c.resource_class == sa.bindparam("r")
).with_for_update(skip_locked=True)
