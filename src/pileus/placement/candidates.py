"""The search: which providers can give what is asked for.

Two statements bring every provider and its inventory; the rest is Python, linear in the rows for the usual
question (one group, providers without trees), and bounded for the others by `_MOST_TRIED`. Who wants only the best
few asks `best.best`: one statement that walks an index from the freest provider on, however many there are.
"""

from __future__ import annotations

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
