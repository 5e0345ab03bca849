"""The search: which providers can give what is asked for.

Two statements bring every provider and its inventory; the rest is Python, linear in the rows for the usual
question (one group, providers without trees), and bounded for the others by `_MOST_TRIED`. Who wants only the best
few asks `best`: one statement that walks an index from the freest provider on, however many there are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from pileus.placement.filters import Wanted
from pileus.placement.tables import inventory, provider

if TYPE_CHECKING:
    from pileus.db.engine import Tx

SHARING = "MISC_SHARES_VIA_AGGREGATE"
_MOST_TRIED = 100_000
_MOST = 2**53
_ANYTHING = Wanted()


class Stock(NamedTuple):
    """One inventory, as a search reads it."""

    capacity: int
    used: int
    min_unit: int
    max_unit: int
    step_size: int


class Holder:
    """One provider, as a search reads it."""

    __slots__ = ("aggregates", "id", "name", "parent_id", "root_id", "stocks", "traits")

    def __init__(
        self, id: str, name: str, parent_id: str | None, root_id: str, traits: frozenset[str],
        aggregates: frozenset[str],
    ) -> None:
        self.id, self.name, self.parent_id, self.root_id = id, name, parent_id, root_id
        self.traits, self.aggregates = traits, aggregates
        self.stocks: dict[str, Stock] = {}

    def gives(self, resources: Mapping[str, int]) -> bool:
        """Whether all of the amounts fit here now."""
        for name, amount in resources.items():
            stock = self.stocks.get(name)
            if stock is None:
                return False
            capacity, used, least, most, step = stock
            if used + amount > capacity or not least <= amount <= most or amount % step:
                return False
        return True


@dataclass(frozen=True)
class Group:
    """Resources that belong together. With a suffix they come from one provider, without from anywhere in a tree."""

    suffix: str = ""
    resources: Mapping[str, int] = field(default_factory=dict)
    traits: Wanted = _ANYTHING
    member_of: Wanted = _ANYTHING
    in_tree: str | None = None


@dataclass(frozen=True)
class Request:
    """A whole question."""

    groups: tuple[Group, ...]
    limit: int | None = None
    isolate: bool = False
    root: Wanted = _ANYTHING
    same_subtree: tuple[frozenset[str], ...] = ()
    nested: bool = True  # False: callers before 1.29, who know no trees


class Choice(msgspec.Struct):
    """One answer: amounts by provider and class, and which providers serve which group."""

    amounts: dict[str, dict[str, int]]
    mappings: dict[str, list[str]]


class CandidatesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What compute asks for: all from one provider. A trait set of `any_of` is met by one of its traits."""

    resources: Mapping[str, int]
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    any_of: tuple[frozenset[str], ...] = ()
    providers: frozenset[str] | None = None  # ids; None: any
    in_tree: str | None = None
    member_of: tuple[frozenset[str], ...] = ()  # in one aggregate of each set
    not_member_of: frozenset[str] = frozenset()
    limit: int | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A provider where it fits. `free` and `capacity` are of the classes asked for, before the claim."""

    provider_id: str
    provider_name: str
    free: dict[str, int]
    capacity: dict[str, int]
    traits: frozenset[str]
    aggregates: frozenset[str]


_PROVIDER_COLUMNS = (
    provider.c.id, provider.c.name, provider.c.parent_id, provider.c.root_id, provider.c.traits, provider.c.aggregates,
)
_STOCK_COLUMNS = (
    inventory.c.provider_id, inventory.c.resource_class, inventory.c.total, inventory.c.reserved,
    inventory.c.min_unit, inventory.c.max_unit, inventory.c.step_size, inventory.c.allocation_ratio, inventory.c.used,
)
_ALL = sa.select(*_PROVIDER_COLUMNS).order_by(provider.c.name)
_SOME = _ALL.where(provider.c.id.in_(sa.bindparam("ids", expanding=True)))
_STOCKS = sa.select(*_STOCK_COLUMNS)
_STOCKS_OF_CLASSES = _STOCKS.where(inventory.c.resource_class.in_(sa.bindparam("classes", expanding=True)))
_STOCKS_OF_SOME = _STOCKS_OF_CLASSES.where(inventory.c.provider_id.in_(sa.bindparam("ids", expanding=True)))


def find(tx: Tx, request: CandidatesRequest) -> list[Candidate]:
    """The providers that can give all that is asked for by themselves, by name; at most `limit`."""
    required = tuple(frozenset([name]) for name in request.required) + request.any_of
    group = Group(
        "1", request.resources, Wanted(required, request.forbidden),
        Wanted(request.member_of, request.not_member_of), request.in_tree,
    )
    holders = load(tx, request.resources, request.providers)
    tree = _root_of(holders, request.in_tree)
    fitting = (h for h in holders.values() if _serves(h, group, tree))
    return [_candidate(h, request.resources) for h in itertools.islice(fitting, request.limit)]


class BestRequest(msgspec.Struct, frozen=True, kw_only=True):
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


_FIRST = 4


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


def _candidate(holder: Holder, resources: Iterable[str]) -> Candidate:
    stocks = {name: holder.stocks[name] for name in resources}
    return Candidate(
        provider_id=holder.id, provider_name=holder.name, traits=holder.traits, aggregates=holder.aggregates,
        free={name: stock.capacity - stock.used for name, stock in stocks.items()},
        capacity={name: stock.capacity for name, stock in stocks.items()},
    )


def load(tx: Tx, classes: Iterable[str] | None = None, ids: frozenset[str] | None = None) -> dict[str, Holder]:
    """Providers (all, or those named) with their stocks (of all classes, or those named), in the order of names."""
    sets: dict[str, frozenset[str]] = {}

    def words(text: str) -> frozenset[str]:
        found = sets.get(text)
        if found is None:
            found = sets[text] = frozenset(text.split())
        return found

    rows: Any = tx.all(_ALL) if ids is None else tx.all(_SOME, {"ids": sorted(ids)})
    holders: dict[str, Holder] = {}
    for row in rows:
        i, name, parent, root, traits, aggregates = row
        holders[i] = Holder(i, name, parent, root, words(traits), words(aggregates))
    stocks: Any
    if classes is None:
        stocks = tx.all(_STOCKS)
    elif ids is None:
        stocks = tx.all(_STOCKS_OF_CLASSES, {"classes": sorted(classes)})
    else:
        stocks = tx.all(_STOCKS_OF_SOME, {"classes": sorted(classes), "ids": sorted(ids)})
    for place, name, total, reserved, least, most, step, ratio, used in stocks:
        holder = holders.get(place)
        if holder is not None:
            holder.stocks[name] = Stock(int(min((total - reserved) * ratio, _MOST)), used, least, most, step)
    return holders


def _root_of(holders: Mapping[str, Holder], provider_id: str | None) -> str | None:
    """The tree that `in_tree` names; "" when there is no such provider, so that nothing is in it."""
    if provider_id is None:
        return None
    holder = holders.get(provider_id)
    return "" if holder is None else holder.root_id


def _serves(holder: Holder, group: Group, tree: str | None) -> bool:
    """Whether one provider alone serves a group."""
    return (
        holder.gives(group.resources)
        and group.traits.admits(holder.traits)
        and group.member_of.admits(holder.aggregates)
        and (tree is None or holder.root_id == tree)
    )


# -- the whole question, with trees, sharing providers and groups


Part = tuple[Holder, Mapping[str, int]]
"""A provider and what it gives to one group."""


def search(holders: Mapping[str, Holder], request: Request) -> list[Choice]:
    """The answers, at most `limit`; no answer twice."""
    trees: dict[str, list[Holder]] = {}
    for holder in holders.values():
        trees.setdefault(holder.root_id, []).append(holder)
    sharers = [h for h in holders.values() if SHARING in h.traits]
    roots = [_root_of(holders, group.in_tree) for group in request.groups]
    answers: list[Choice] = []
    seen: set[object] = set()
    budget = iter(range(_MOST_TRIED))
    single = len(request.groups) == 1 and not sharers and not request.same_subtree
    for root_id, members in trees.items():
        root = holders.get(root_id)
        if root is not None and not request.root.admits(root.traits):
            continue
        if single and len(members) == 1:
            if _serves(members[0], request.groups[0], roots[0]):
                answers.append(_alone(members[0], request.groups[0]))
                if request.limit is not None and len(answers) >= request.limit:
                    return answers
            continue
        for parts in _combinations(members, sharers, holders, request, roots):
            if next(budget, None) is None:
                return answers
            choice = _merge(parts, request, holders)
            if choice is None:
                continue
            if len(members) > 1 or sharers:
                key = msgspec.json.encode((choice.amounts, choice.mappings), order="sorted")
                if key in seen:
                    continue
                seen.add(key)
            answers.append(choice)
            if request.limit is not None and len(answers) >= request.limit:
                return answers
    return answers


def _alone(holder: Holder, group: Group) -> Choice:
    """The answer of one provider to one group, which is what nearly all answers are."""
    return Choice({holder.id: dict(group.resources)}, {group.suffix: [holder.id]})


def _combinations(
    members: list[Holder], sharers: list[Holder], holders: Mapping[str, Holder], request: Request,
    roots: Sequence[str | None],
) -> Iterator[tuple[tuple[Part, ...], ...]]:
    """For one tree: every way to serve each group, each for itself."""
    pool = members
    if sharers:
        shared = frozenset().union(*(h.aggregates for h in members))
        pool = members + [h for h in sharers if h not in members and not shared.isdisjoint(h.aggregates)]
    ways: list[list[tuple[Part, ...]]] = []
    for group, tree in zip(request.groups, roots, strict=True):
        found: list[tuple[Part, ...]]
        if group.suffix:
            found = [((h, group.resources),) for h in pool if _serves(h, group, tree)]
        else:
            found = list(_spread(pool, holders, group, tree))
        if not found:
            return iter(())
        ways.append(found)
    return itertools.product(*ways)


def _spread(
    pool: list[Holder], holders: Mapping[str, Holder], group: Group, tree: str | None
) -> Iterator[tuple[Part, ...]]:
    """Every way to serve a group without a suffix: each class from anywhere, the traits from all of them together."""
    usable = [
        h for h in pool
        if h.traits.isdisjoint(group.traits.forbidden) and (tree is None or h.root_id == tree)
        and _member(h, holders, group.member_of)
    ]
    if len(usable) == 1 and len(pool) == 1:
        if usable[0].gives(group.resources) and group.traits.admits(usable[0].traits):
            yield ((usable[0], group.resources),)
        return
    options = [[(h, {name: amount}) for h in usable if h.gives({name: amount})]
               for name, amount in group.resources.items()]
    for parts in itertools.islice(itertools.product(*options), _MOST_TRIED):
        traits = frozenset().union(*(h.traits for h, _ in parts))
        if group.traits.admits(traits):
            yield parts


def _member(holder: Holder, holders: Mapping[str, Holder], wanted: Wanted) -> bool:
    """An aggregate of a tree's root counts for all of the tree."""
    if not wanted.required and not wanted.forbidden:
        return True
    root = holders.get(holder.root_id)
    return wanted.admits(holder.aggregates | (root.aggregates if root else frozenset()))


def _merge(
    parts: tuple[tuple[Part, ...], ...], request: Request, holders: Mapping[str, Holder]
) -> Choice | None:
    """One way for all groups together, or None when they do not go together."""
    amounts: dict[str, dict[str, int]] = {}
    mappings: dict[str, list[str]] = {}
    again = False
    for group, chosen in zip(request.groups, parts, strict=True):
        mappings[group.suffix] = list(dict.fromkeys(h.id for h, _ in chosen))
        for holder, resources in chosen:
            here = amounts.setdefault(holder.id, {}) if resources else {}
            for name, amount in resources.items():
                again = again or name in here
                here[name] = here.get(name, 0) + amount
    if again and not all(_still_fits(holders[place], taken) for place, taken in amounts.items()):
        return None
    if request.isolate:
        alone = [mappings[g.suffix][0] for g in request.groups if g.suffix and g.resources]
        if len(alone) != len(set(alone)):
            return None
    if not request.nested and len({holders[place].root_id for place in amounts}) != len(amounts):
        return None
    for suffixes in request.same_subtree:
        if not _one_subtree({i for suffix in suffixes for i in mappings[suffix]}, holders):
            return None
    return Choice(amounts, mappings)


def _still_fits(holder: Holder, taken: Mapping[str, int]) -> bool:
    """Whether what several groups take together is there."""
    return all(
        holder.stocks[name].used + amount <= holder.stocks[name].capacity and amount <= holder.stocks[name].max_unit
        for name, amount in taken.items()
    )


def _one_subtree(ids: set[str], holders: Mapping[str, Holder]) -> bool:
    """Whether one of the providers is above all the others, or they are one."""
    lines: list[set[str]] = []
    for one in ids:
        line: set[str] = set()
        at: str | None = one
        while at is not None and at not in line:
            line.add(at)
            at = holders[at].parent_id if at in holders else None
        lines.append(line)
    return not lines or bool(ids.intersection(*lines))
