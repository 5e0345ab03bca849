"""Which node a server comes to: placement's best candidates, then filters, then weighers.

Runs in the transaction that makes the server, and claims there: what it has chosen cannot be lost. Only the best few
nodes are looked at, then more, then all of them, so that the number of nodes hardly matters, and none is overlooked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import decisions, diagnosis, places, weighers
from pileus.compute.decisions import Record, Tally, Weighed
from pileus.compute.demand import Demand, satisfies
from pileus.compute.host_filters import FILTERS, UP, Ask, closed, word
from pileus.compute.places import Aggregates, Place
from pileus.compute.tables import server, server_group
from pileus.compute.weighers import Ranked
from pileus.placement import allocations, candidates
from pileus.placement.candidates import BestRequest, Candidate
from pileus.web.errors import Conflict

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

FEW = 10
"""Nodes that are looked at first."""

MORE = 128
ALL = 1_000_000
_SHOWN = 5
_PASSED_OVER = 8  # of the best nodes, for another when a claim is being made there
_SOFT = ("soft-affinity", "soft-anti-affinity")
_HINTS = 32  # sets of aggregates that narrow the search; more are left to the filters
_MEMORY = "compute.down"
_REMEMBERED = 10.0  # seconds
_MOST_DOWN = 500  # names in one statement
_LAST = "compute.scheduler.none"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The server group that a new server joins."""

    id: str
    policy: str
    most_per_host: int = 1


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server may come to."""

    demand: Demand
    action: str = "create"  # for whom reads the ledger
    zone: str | None = None
    host: str | None = None  # this node and no other
    forced: bool = False  # the operator named the host: filters do not speak, only placement
    avoid: frozenset[str] = frozenset()  # its own node, and those that have failed it
    unfit: dict[str, str] = {}  # nodes that cannot take this guest, and why
    group: Group | None = None
    same_host: tuple[str, ...] = ()  # ids of servers
    different_host: tuple[str, ...] = ()
    near: str | None = None  # the network, as CIDR, that the node's own address is to be in
    query: list[Any] | None = None
    physical: frozenset[str] = frozenset()  # physical networks of the server's ports
    moving: str = ""  # id of the server that another node is to be found for


class NoValidHost(Exception):
    """No node will do. `str()` tells why, without names; `record` is for the ledger (`keep`)."""

    def __init__(self, message: str, record: Record | None = None) -> None:
        super().__init__(message)
        self.record = record or Record(action="", wanted="", note=message)


class Host(msgspec.Struct, frozen=True):
    """The choice."""

    name: str
    provider_id: str
    zone: str


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """For whom a claim is made."""

    consumer: str
    project_id: str
    user_id: str


_MEMBERS = (
    sa.select(server.c.host, sa.func.count().label("members"))
    .where(
        server.c.group_id == sa.bindparam("g"), server.c.deleted.is_(False), server.c.host.is_not(None),
        server.c.id != sa.bindparam("but"),
    )
    .group_by(server.c.host)
)
_GROUP = sa.select(server_group.c.id).where(server_group.c.id == sa.bindparam("g")).with_for_update()
_HOSTS = sa.select(server.c.host).where(
    server.c.id.in_(sa.bindparam("ids", expanding=True)), server.c.deleted.is_(False), server.c.host.is_not(None)
)


def place(tx: Tx, cloud: Cloud, wish: Wish, owner: Owner, held: dict[str, int] | None = None) -> Host:
    """Choose a node and claim what is wanted of it there for `owner`. Raises NoValidHost.

    `held`: the amounts to claim where they are more than the demand (a resize keeps both flavors). The choice is
    written into the ledger; a failure is not, as its caller may undo the transaction's work: `keep` does that."""
    last = tx.memo.get(_LAST)
    if last is not None and last[0] is wish:  # the next server of the same request, and nothing was freed since
        raise NoValidHost(str(last[1]), last[1].record)
    ask = _ask(tx, cloud, wish, owner)
    aggregates = Aggregates(tx, cloud.settings.availability_zone)
    looked = 0
    tally = Tally(FEW)
    for batch in _batches(tx, cloud, ask, aggregates):
        looked += len(batch)
        fitting = [one for one in batch if _fits(ask, one, tally)]
        ranked = weighers.rank(ask, fitting) if fitting else []
        chosen = _claim(tx, cloud, ranked, owner, dict(held or wish.demand.resources), held is not None)
        if chosen is not None:
            record = _record(wish, looked, tally, ranked)
            decisions.write(tx, owner.consumer, chosen.name, record, ask.now)
            return Host(chosen.name, chosen.id, chosen.zone)
    record = diagnosis.of(tx, ask, aggregates)
    failed = NoValidHost(diagnosis.told(record, wish.host), record)
    tx.memo[_LAST] = (wish, failed)
    raise failed


def keep(tx: Tx, cloud: Cloud, server_id: str, failed: NoValidHost) -> None:
    """Write into the ledger that a server has found no node; in a transaction that is not undone."""
    decisions.write(tx, server_id, None, failed.record, cloud.world.now())


def failure_of(error: BaseException | None) -> NoValidHost | None:
    """The failure to find a node that an error was raised for, if it was."""
    while error is not None and not isinstance(error, NoValidHost):
        error = error.__context__
    return error


def _ask(tx: Tx, cloud: Cloud, wish: Wish, owner: Owner) -> Ask:
    ask = Ask(wish, owner.project_id, cloud.settings, cloud.world.now())
    if wish.group is not None:
        tx.first(_GROUP, {"g": wish.group.id})  # members are counted by one at a time
        ask.counts = {row.host: row.members for row in tx.all(_MEMBERS, {"g": wish.group.id, "but": owner.consumer})}
    if wish.same_host:
        ask.same = frozenset(tx.scalars(_HOSTS, {"ids": wish.same_host}))
    if wish.different_host:
        ask.others = frozenset(tx.scalars(_HOSTS, {"ids": wish.different_host}))
    return ask


# -- which nodes are looked at


def _batches(tx: Tx, cloud: Cloud, ask: Ask, aggregates: Aggregates) -> Iterator[list[Place]]:
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
        made = places.of(tx, aggregates, fresh, ask.now)
        for one in made:
            one.members = ask.counts.get(one.name, 0)
        return made

    down = _down(cloud, ask.now)
    for limit in (FEW, MORE):
        found, ended = candidates.best(tx, narrow, limit, only=only, but=but | soft | down)
        if soft:
            found += candidates.best(tx, narrow, FEW, only=soft).candidates
        made = batch(found)
        yield made
        if ended:
            break
        if not all(one.alive for one in made):
            down = _look_down(tx, cloud, ask.now)
    if not ended or narrow is not plain or soft or down:
        yield batch(candidates.best(tx, plain, ALL, only=only, but=but).candidates)


def _down(cloud: Cloud, now: float) -> frozenset[str]:
    """Nodes that were down when this controller last met one."""
    until, names = cloud.memory.get(_MEMORY, (0.0, frozenset()))
    return names if now < until else frozenset()


def _look_down(tx: Tx, cloud: Cloud, now: float) -> frozenset[str]:
    names = places.down(tx, now)
    if len(names) > _MOST_DOWN:
        names = frozenset()
    cloud.memory[_MEMORY] = (now + _REMEMBERED, names)
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
    return msgspec.structs.replace(request, member_of=inside, not_member_of=outside)


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


# -- the choice


def _fits(ask: Ask, one: Place, tally: Tally) -> bool:
    for each in (UP,) if ask.wish.forced else FILTERS:
        why = each.test(ask, one)
        if why:
            tally.add(each.name, each.summary, one.name, why)
            return False
    return True


def _claim(
    tx: Tx, cloud: Cloud, ranked: list[Ranked], owner: Owner, resources: dict[str, int], raised: bool
) -> Place | None:
    """Claim on the best node where it still fits. Where another transaction is claiming at this moment the next best
    is taken: waiting would do one server after the other."""
    best = [one.place for one in ranked]
    alone = not raised and tx.conn.dialect.name == "sqlite"
    for one in _unhurried(tx, best, resources):
        if _claimed(tx, cloud, one, owner, resources, alone):
            return one
    return None


def _claimed(tx: Tx, cloud: Cloud, one: Place, owner: Owner, resources: dict[str, int], alone: bool) -> bool:
    """Claim there; False when it no longer fits. `alone`: what was found free cannot have gone since."""
    part = contextlib.nullcontext() if alone else tx.savepoint()
    try:
        with part:
            allocations.claim(
                tx, cloud, consumer=owner.consumer, project_id=owner.project_id, user_id=owner.user_id,
                resources={one.id: resources},
            )
    except Conflict:
        if alone:
            raise
        return False
    return True


def _unhurried(tx: Tx, best: list[Place], resources: Mapping[str, int]) -> Iterator[Place]:
    """All of them, a few of the best that are busy at this moment after the others of these few."""
    later = []
    for one in best[:_PASSED_OVER]:
        if len(best) == 1 or candidates.idle(tx, one.id, resources):
            yield one
        else:
            later.append(one)
    yield from later
    yield from best[_PASSED_OVER:]


def _record(wish: Wish, looked: int, tally: Tally, ranked: list[Ranked]) -> Record:
    return Record(
        action=wish.action, wanted=diagnosis.words(wish.demand), looked_at=looked, refused=tally.all(),
        fitting=len(ranked), weighed=[
            Weighed(one.place.name, round(one.weight, 3), {name: round(part, 3) for name, part in one.parts.items()})
            for one in ranked[:_SHOWN]
        ],
    )
