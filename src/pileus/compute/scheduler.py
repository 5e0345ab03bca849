"""Which node a server comes to: placement's candidates, then filters, then the one with the most free memory.

Runs in the transaction that makes the server, and claims there: what it has chosen cannot be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import availability_zones, nodes
from pileus.compute.demand import Demand, satisfies
from pileus.compute.tables import aggregate, aggregate_host, node, server
from pileus.placement import allocations, candidates
from pileus.placement.candidates import Candidate, CandidatesRequest
from pileus.web.errors import Conflict

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The server group that a new server joins."""

    id: str
    policy: str
    most_per_host: int = 1


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server may come to."""

    demand: Demand
    zone: str | None = None
    host: str | None = None  # this node and no other
    forced: bool = False  # the operator named the host: filters do not speak, only placement
    avoid: frozenset[str] = frozenset()
    group: Group | None = None
    same_host: tuple[str, ...] = ()  # ids of servers
    different_host: tuple[str, ...] = ()
    moving: str = ""  # id of the server that another node is to be found for


class NoValidHost(Exception):
    """No node fits. `str()` tells which step left none."""


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


class _Place:
    """A candidate with what filters ask of it."""

    __slots__ = ("candidate", "members", "name", "row", "zone")

    def __init__(self, candidate: Candidate, row: Any, zone: str) -> None:
        self.candidate, self.row, self.zone, self.name = candidate, row, zone, candidate.provider_name
        self.members = 0  # of the server group, here


_NODES = sa.select(node)
_ONE_NODE = _NODES.where(node.c.name == sa.bindparam("name"))
_MEMBERS = (
    sa.select(server.c.host, sa.func.count().label("members"))
    .where(
        server.c.group_id == sa.bindparam("g"), server.c.deleted.is_(False), server.c.host.is_not(None),
        server.c.id != sa.bindparam("moving"),
    )
    .group_by(server.c.host)
)


def place(tx: Tx, cloud: Cloud, wish: Wish, owner: Owner, held: dict[str, int] | None = None) -> Host:
    """Choose a node and claim what is wanted of it there for `owner`. Raises NoValidHost.

    `held`: the amounts to claim where they are more than the demand (a resize keeps both flavors)."""
    places = _candidates(tx, cloud, wish)
    for what, test in _filters(tx, wish, places):
        kept = [p for p in places if test(p)]
        if not kept:
            raise NoValidHost(f"{what} left none of {len(places)} nodes that have room.")
        places = kept
    for chosen in _ordered(wish, places):
        try:
            allocations.claim(
                tx, cloud, consumer=owner.consumer, project_id=owner.project_id, user_id=owner.user_id,
                resources={chosen.candidate.provider_id: dict(held or wish.demand.resources)},
            )
        except Conflict:
            continue
        return Host(chosen.name, chosen.candidate.provider_id, chosen.zone)
    raise NoValidHost("Every node that fitted was filled by others at the same moment; try again.")


def _candidates(tx: Tx, cloud: Cloud, wish: Wish) -> list[_Place]:
    if wish.host is not None:
        rows = {row.name: row for row in tx.all(_ONE_NODE, {"name": wish.host})}
        if not rows:
            raise NoValidHost(f"There is no node '{wish.host}'.")
    else:
        rows = {row.name: row for row in tx.all(_NODES)}
        if not rows:
            raise NoValidHost("No node has joined this cloud yet; start an agent, or `pileus up`.")
    demand = wish.demand
    found = candidates.find(tx, CandidatesRequest(
        resources=demand.resources, required=demand.required, forbidden=demand.forbidden,
        providers=frozenset(row.id for row in rows.values()) if wish.host is not None else None,
    ))
    zones = availability_zones.by_host(tx)
    default = cloud.settings.availability_zone
    places = [
        _Place(c, rows[c.provider_name], zones.get(c.provider_name, default)) for c in found if c.provider_name in rows
    ]
    if not places:
        raise NoValidHost(_no_room(wish, len(rows)))
    now = cloud.world.now()
    alive = [p for p in places if nodes.is_up(p.row, now)]
    if not alive:
        raise NoValidHost(f"All {len(places)} nodes that have room are down: " + ", ".join(p.name for p in places[:5]))
    return alive


def _no_room(wish: Wish, count: int) -> str:
    wanted = ", ".join(f"{name} {amount}" for name, amount in wish.demand.resources.items())
    traits = f", traits {', '.join(sorted(wish.demand.required))}" if wish.demand.required else ""
    where = f"node {wish.host} has" if wish.host else f"none of {count} nodes is enabled and has"
    return f"{where} room for {wanted}{traits}."


Test = Callable[[_Place], bool]


def _filters(tx: Tx, wish: Wish, places: list[_Place]) -> Iterable[tuple[str, Test]]:
    """Each filter with the words that tell what it wanted."""
    if wish.group is not None:
        counts: dict[str, int] = {row.host: row.members for row in tx.all(
            _MEMBERS, {"g": wish.group.id, "moving": wish.moving}
        )}
        for p in places:
            p.members = counts.get(p.name, 0)
    if wish.forced:
        return
    if wish.zone is not None:
        yield f"Availability zone {wish.zone}", lambda p: p.zone == wish.zone
    if wish.moving:
        yield "Taking guests over from other nodes", lambda p: bool(p.row.facts.get("moves"))
    if wish.avoid:
        yield f"Avoiding {', '.join(sorted(wish.avoid))}", lambda p: p.name not in wish.avoid
    yield from _by_facts(wish.demand)
    if wish.demand.aggregate_specs:
        metadata = _aggregate_metadata(tx)
        yield "The flavor's aggregate_instance_extra_specs", lambda p: _in_aggregate(
            metadata.get(p.name, {}), wish.demand.aggregate_specs
        )
    if wish.same_host:
        same = _hosts_of(tx, wish.same_host)
        yield "The hint same_host", lambda p: p.name in same
    if wish.different_host:
        others = _hosts_of(tx, wish.different_host)
        yield "The hint different_host", lambda p: p.name not in others
    if wish.group is not None:
        yield from _by_group(wish.group, counts)


def _by_facts(demand: Demand) -> Iterable[tuple[str, Test]]:
    if demand.architecture is not None:
        wanted = {"amd64": "x86_64", "arm64": "aarch64", "x64": "x86_64"}.get(demand.architecture, demand.architecture)
        yield f"Architecture {wanted}", lambda p: p.row.facts.get("architecture") == wanted
    if demand.hypervisor is not None:
        hypervisor = demand.hypervisor.lower()
        # Images that ask for KVM run on QEMU with and without it, as they do under Nova.
        names = {"qemu", "kvm"} if hypervisor in ("qemu", "kvm") else {hypervisor}
        yield f"Hypervisor {hypervisor}", lambda p: p.row.facts.get("hypervisor_type", "").lower() in names
    if demand.capabilities:
        yield "The flavor's capabilities", lambda p: all(
            satisfies(p.row.facts.get(key.rpartition(":")[2]), wish) for key, wish in demand.capabilities.items()
        )


def _by_group(group: Group, counts: dict[str, int]) -> Iterable[tuple[str, Test]]:
    if group.policy == "affinity" and counts:
        yield f"Affinity in server group {group.id}", lambda p: p.members > 0
    elif group.policy == "anti-affinity":
        yield f"Anti-affinity in server group {group.id}", lambda p: p.members < group.most_per_host


def _ordered(wish: Wish, places: list[_Place]) -> list[_Place]:
    """The best first: soft (anti-)affinity, then the most free memory, then by name."""
    soft = {"soft-affinity": -1, "soft-anti-affinity": 1}.get(wish.group.policy if wish.group else "", 0)
    return sorted(places, key=lambda p: (soft * p.members, -p.candidate.free.get("MEMORY_MB", 0), p.name))


def _hosts_of(tx: Tx, ids: tuple[str, ...]) -> frozenset[str]:
    found = sa.select(server.c.host).where(
        server.c.id.in_(ids), server.c.deleted.is_(False), server.c.host.is_not(None)
    )
    return frozenset(tx.scalars(found))


def _aggregate_metadata(tx: Tx) -> dict[str, dict[str, set[str]]]:
    """All values of each key, over all aggregates that a host is in."""
    rows = tx.all(
        sa.select(aggregate_host.c.host, aggregate.c.metadata).where(aggregate.c.id == aggregate_host.c.aggregate_id)
    )
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        for key, value in row.metadata.items():
            found.setdefault(row.host, {}).setdefault(key, set()).add(value)
    return found


def _in_aggregate(metadata: dict[str, set[str]], specs: dict[str, str]) -> bool:
    return all(any(satisfies(value, wish) for value in metadata.get(key, ())) for key, wish in specs.items())

