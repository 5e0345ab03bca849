"""Which nodes the scheduler looks at, in which order: the best few, then more, then all.

What is known beforehand narrows the search, so that what it finds first will mostly do; nothing is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pileus.compute import places, weighers
from pileus.compute.demand import satisfies
from pileus.compute.host_filters import Ask, closed, word
from pileus.compute.places import Aggregates, Place
from pileus.placement import best
from pileus.placement.best import BestRequest
from pileus.placement.candidates import Candidate

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

FEW = 10
"""Nodes that are looked at first."""

MORE = 128
ALL = 1_000_000
_HINTS = 32  # sets of aggregates that narrow the search; more are left to the filters
_MEMORY = "compute.down"
_REMEMBERED = 10.0  # seconds
_MOST_DOWN = 500  # names in one statement


def batches(tx: Tx, cloud: Cloud, ask: Ask, aggregates: Aggregates) -> Iterator[list[Place]]:
    """The nodes that have room, the best few first, and at the end all that were not looked at yet.

    What placement knows of aggregates, and which nodes were down a moment ago, narrows the search of the first ones,
    for speed alone: filters decide."""
    only, but, soft = _names(ask)
    if not ask.wish.demand.resources or (only is not None and not only):
        return
    plain = _request(tx, ask, None)
    narrow = plain if ask.wish.forced else _request(tx, ask, aggregates)
    seen: set[str] = set()

    def batch(found: list[Candidate]) -> list[Place]:
        fresh = [one for one in found if one.provider_id not in seen]
        seen.update(one.provider_id for one in fresh)
        made = places.of(tx, aggregates, fresh, ask.heard)
        for one in made:
            one.members = ask.counts.get(one.name, 0)
        return made

    down = _down(cloud, ask.now)
    for limit in (FEW, MORE):
        found, ended = best.best(tx, narrow, limit, only=only, but=but | soft | down)
        if soft:
            found += best.best(tx, narrow, FEW, only=soft).candidates
        made = batch(found)
        yield made
        if ended:
            break
        if not all(one.alive for one in made):
            down = _look_down(tx, cloud, ask)
    if not ended or narrow is not plain or soft or down:
        yield batch(best.best(tx, plain, ALL, only=only, but=but).candidates)


def _down(cloud: Cloud, now: float) -> frozenset[str]:
    """Nodes that were down when this controller last met one."""
    until, names = cloud.memory.get(_MEMORY, (0.0, frozenset()))
    return names if now < until else frozenset()


def _look_down(tx: Tx, cloud: Cloud, ask: Ask) -> frozenset[str]:
    names = places.down(tx, ask.heard)
    if len(names) > _MOST_DOWN:
        names = frozenset()
    cloud.memory[_MEMORY] = (ask.now + _REMEMBERED, names)
    return names


def _names(ask: Ask) -> tuple[frozenset[str] | None, frozenset[str], frozenset[str]]:
    """Nodes that alone can do (None: any), those that cannot, and those with members of a group that has a wish only,
    which are looked at by themselves."""
    wish = ask.wish
    only = None if wish.host is None else frozenset([wish.host])
    if wish.forced:
        return only, frozenset(), frozenset()
    if ask.same is not None:
        only = ask.same if only is None else only & ask.same
    but, soft, group = wish.avoid | ask.others | wish.unfit.keys(), frozenset[str](), wish.group
    if group is not None and ask.counts:
        here = frozenset(ask.counts)
        if group.policy == "affinity":
            only = here if only is None else only & here
        elif group.policy == "anti-affinity":
            but |= {name for name, members in ask.counts.items() if members >= group.most_per_host}
        elif only is None:
            soft = here - but
    return only, but, soft


def _request(tx: Tx, ask: Ask, aggregates: Aggregates | None) -> BestRequest:
    """What placement is asked; with `aggregates` also only for those that can do."""
    demand = ask.wish.demand
    by, least = weighers.leading(ask)
    request = BestRequest(
        resources=tuple(sorted(demand.resources.items())), required=demand.required, forbidden=demand.forbidden, by=by,
        least=least,
    )
    if aggregates is None or not aggregates.rows:
        return request
    inside, outside = _aggregates(tx, ask, aggregates)
    if (not inside and not outside) or len(outside) > _HINTS:
        return request
    return request._replace(member_of=inside, not_member_of=outside)


def _closed(tx: Tx, ask: Ask, aggregates: Aggregates) -> list[Any]:
    """Aggregates whose nodes are kept from what is asked, whatever other aggregates they are in."""
    rows = list(aggregates.rows.values())
    found = [row for row in rows if closed(ask, {key: frozenset([value]) for key, value in row.metadata.items()})]
    if not found:
        return []
    keys = {word(key) for row in found for key in row.metadata}
    open_ones = [row.id for row in rows if row not in found and any(word(key) in keys for key in row.metadata)]
    doubtful = aggregates.shared(tx, [row.id for row in found], open_ones)
    return [row for row in found if row.id not in doubtful]


def _aggregates(tx: Tx, ask: Ask, aggregates: Aggregates) -> tuple[frozenset[frozenset[str]], frozenset[str]]:
    """Sets of aggregates of each of which a node must be in one, and those in which it must not be."""
    rows, zone = aggregates.rows.values(), ask.wish.zone
    inside = [
        {row.uuid for row in rows if satisfies(row.metadata.get(key), wish)}
        for key, wish in ask.wish.demand.aggregate_specs.items()
    ]
    outside = {row.uuid for row in _closed(tx, ask, aggregates)}
    if zone == aggregates.default_zone:
        outside |= {row.uuid for row in rows if row.zone not in (None, zone)}
    elif zone is not None:
        inside.append({row.uuid for row in rows if row.zone == zone})
    return frozenset(frozenset(some) for some in inside if some), frozenset(outside)
