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

from pileus.cluster.liveness import moment
from pileus.compute import decisions, diagnosis, search, weighers
from pileus.compute.decisions import Record, Tally, Weighed
from pileus.compute.demand import Demand
from pileus.compute.host_filters import FILTERS, UP, Ask
from pileus.compute.places import Aggregates, Place
from pileus.compute.tables import server, server_group
from pileus.compute.weighers import Ranked
from pileus.placement import allocations, best
from pileus.web.errors import Conflict

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_SHOWN = 5
_PASSED_OVER = 8  # of the best nodes, for another when a claim is being made there
_SOFT = ("soft-affinity", "soft-anti-affinity")
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
    tally = Tally(search.FEW)
    for batch in search.batches(tx, cloud, ask, aggregates):
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


def keep(tx: Tx, cloud: Cloud, server_id: str, error: BaseException) -> None:
    """Write into the ledger that a server has found no node, if that is what an error was raised for.

    In a transaction that is not undone."""
    failed = failure_of(error)
    if failed is not None:
        decisions.write(tx, server_id, None, failed.record, cloud.world.now())


def failure_of(error: BaseException | None) -> NoValidHost | None:
    """The failure to find a node that an error was raised for, if it was."""
    while error is not None and not isinstance(error, NoValidHost):
        error = error.__context__
    return error


def _ask(tx: Tx, cloud: Cloud, wish: Wish, owner: Owner) -> Ask:
    ask = Ask(wish, owner.project_id, cloud.settings, cloud.world.now(), moment(cloud))
    if wish.group is not None:
        tx.first(_GROUP, {"g": wish.group.id})  # members are counted by one at a time
        ask.counts = {row.host: row.members for row in tx.all(_MEMBERS, {"g": wish.group.id, "but": owner.consumer})}
    if wish.same_host:
        ask.same = frozenset(tx.scalars(_HOSTS, {"ids": wish.same_host}))
    if wish.different_host:
        ask.others = frozenset(tx.scalars(_HOSTS, {"ids": wish.different_host}))
    return ask


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
    ordered = [one.place for one in ranked]
    alone = not raised and tx.conn.dialect.name == "sqlite"
    for one in _unhurried(tx, ordered, resources):
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


def _unhurried(tx: Tx, ordered: list[Place], resources: Mapping[str, int]) -> Iterator[Place]:
    """All of them, a few of the best that are busy at this moment after the others of these few."""
    later = []
    for one in ordered[:_PASSED_OVER]:
        if len(ordered) == 1 or best.idle(tx, one.id, resources):
            yield one
        else:
            later.append(one)
    yield from later
    yield from ordered[_PASSED_OVER:]


def _record(wish: Wish, looked: int, tally: Tally, ranked: list[Ranked]) -> Record:
    return Record(
        action=wish.action, wanted=diagnosis.words(wish.demand), looked_at=looked, refused=tally.all(),
        fitting=len(ranked), weighed=[
            Weighed(one.place.name, round(one.weight, 3), {name: round(part, 3) for name, part in one.parts.items()})
            for one in ranked[:_SHOWN]
        ],
    )
