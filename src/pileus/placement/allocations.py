"""Allocations: which consumer uses how much of which provider's inventory.

`used` of an inventory moves in the same transaction as the allocations; the database itself refuses to let it
grow past the capacity, so that two claims at the same moment cannot both take what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.placement import providers, resource_classes
from pileus.placement.faults import ConcurrentUpdate
from pileus.placement.schemas import MOST
from pileus.placement.tables import allocation, consumer, inventory, provider
from pileus.web.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

ANY_GENERATION = -1
"""Of a claim: whatever the consumer's generation is."""

_CONSUMER = sa.select(consumer).where(consumer.c.id == sa.bindparam("c")).with_for_update()
_NEW_CONSUMER = consumer.insert()
_CHANGE_CONSUMER = consumer.update().where(consumer.c.id == sa.bindparam("c")).values(
    {name: sa.bindparam(name) for name in ("type", "project_id", "user_id", "generation", "updated")}
)
_OF_CONSUMERS = sa.select(allocation).where(allocation.c.consumer_id.in_(sa.bindparam("cs", expanding=True)))
_DROP_OF_CONSUMERS = allocation.delete().where(allocation.c.consumer_id.in_(sa.bindparam("cs", expanding=True)))
_DROP_CONSUMERS = consumer.delete().where(consumer.c.id.in_(sa.bindparam("cs", expanding=True)))
_NEW_ALLOCATIONS = allocation.insert()
_KNOWN = sa.select(provider.c.id).where(provider.c.id.in_(sa.bindparam("ps", expanding=True)))
_OF_CONSUMER = sa.select(allocation).where(allocation.c.consumer_id == sa.bindparam("c"))
_OF_PROVIDER = sa.select(allocation).where(allocation.c.provider_id == sa.bindparam("p"))
_HERE = sa.and_(inventory.c.provider_id == sa.bindparam("p"), inventory.c.resource_class == sa.bindparam("r"))
_TAKE = (
    inventory.update().where(
        _HERE,
        inventory.c.used + sa.bindparam("d", type_=sa.BigInteger)
        <= (inventory.c.total - inventory.c.reserved) * inventory.c.allocation_ratio,
    ).values(used=inventory.c.used + sa.bindparam("d", type_=sa.BigInteger))
)
_GIVE = inventory.update().where(_HERE).values(used=inventory.c.used + sa.bindparam("d", type_=sa.BigInteger))

Resources = Mapping[str, Mapping[str, int]]
"""Amounts by provider and resource class."""


@dataclass(frozen=True)
class Claim:
    """What one consumer shall have from now on; nothing, when `resources` is empty."""

    consumer: str
    project_id: str
    user_id: str
    resources: Resources
    type: str | None = None
    generation: int | None = ANY_GENERATION  # None: there must be no such consumer


# -- for other modules and rooms


def claim(
    tx: Tx, cloud: Cloud, *, consumer: str, consumer_type: str = "INSTANCE", project_id: str, user_id: str,
    resources: dict[str, dict[str, int]],
) -> None:
    """Let a consumer have these resources instead of those it had.

    Raises Conflict when they do not fit (any more), BadRequest for an unknown provider or class."""
    replace(tx, cloud.world.now(), [Claim(consumer, project_id, user_id, resources, type=consumer_type)])


def release(tx: Tx, consumer: str) -> None:
    """Give back all that a consumer has; one that has nothing is fine."""
    row = tx.first(_CONSUMER, {"c": consumer})
    if row is not None:
        replace(tx, None, [Claim(consumer, row.project_id, row.user_id, {}, type=row.type)])


def move(tx: Tx, cloud: Cloud, source: str, target: str, target_type: str = "MIGRATION") -> None:
    """Let `target` have what `source` has, in its place; for a migration that keeps its old host for a while."""
    row = tx.first(sa.select(consumer).where(consumer.c.id == source))
    if row is None:
        return
    held = of_consumer(tx, source)
    replace(tx, cloud.world.now(), [
        Claim(source, row.project_id, row.user_id, {}, type=row.type),
        Claim(target, row.project_id, row.user_id, held, type=target_type),
    ])


def of_consumer(tx: Tx, consumer: str) -> dict[str, dict[str, int]]:
    """What a consumer has, by provider and resource class."""
    return _nested((row.provider_id, row.resource_class, row.used) for row in tx.all(_OF_CONSUMER, {"c": consumer}))


def of_provider(tx: Tx, provider: str) -> dict[str, dict[str, int]]:
    """What is used of a provider, by consumer and resource class."""
    return _nested((row.consumer_id, row.resource_class, row.used) for row in tx.all(_OF_PROVIDER, {"p": provider}))


def all_consumers(tx: Tx) -> list[str]:
    """The ids of all that have something."""
    return tx.scalars(sa.select(consumer.c.id).order_by(consumer.c.id))


def _nested(rows: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for outer, inner, used in rows:
        found.setdefault(outer, {})[inner] = used
    return found


def replace(tx: Tx, now: float | None, claims: Sequence[Claim]) -> None:
    """Let each consumer have what its claim says, instead of what it had, all or none.

    `now` is None for a release, which does not count the providers' generations: it can make nobody's view wrong.

    Raises ConcurrentUpdate when a generation differs, Conflict when something does not fit, BadRequest for an
    unknown provider or class."""
    claims = sorted(claims, key=lambda one: one.consumer)
    wanted = {p for one in claims for p in one.resources}
    _check_names(tx, claims, wanted)
    for one in claims:
        _write_consumer(tx, now, one)
    ids = [one.consumer for one in claims]
    old = tx.all(_OF_CONSUMERS, {"cs": ids})
    shifts: dict[tuple[str, str], int] = {(row.provider_id, row.resource_class): 0 for row in old}
    for row in old:
        shifts[row.provider_id, row.resource_class] -= row.used
    new = [
        (one.consumer, p, r, amount)
        for one in claims for p, amounts in one.resources.items() for r, amount in amounts.items()
    ]
    for _, place, name, amount in new:
        shifts[place, name] = shifts.get((place, name), 0) + amount
    _check_units(tx, new, wanted)
    _shift(tx, shifts)
    if old:
        tx.execute(_DROP_OF_CONSUMERS, {"cs": ids})
    if new:
        names = ("consumer_id", "provider_id", "resource_class", "used")
        tx.execute(_NEW_ALLOCATIONS, [dict(zip(names, entry, strict=True)) for entry in new])
    empty = [one.consumer for one in claims if not one.resources]
    if empty:
        tx.execute(_DROP_CONSUMERS, {"cs": empty})
    if now is not None:
        for provider_id in sorted({p for p, _ in shifts}):
            providers.bump(tx, provider_id, now)


def _check_names(tx: Tx, claims: Sequence[Claim], wanted: set[str]) -> None:
    if not wanted:
        return
    known = set(tx.scalars(_KNOWN, {"ps": sorted(wanted)}))
    for provider_id in sorted(wanted - known):
        raise BadRequest(f"Allocation for resource provider '{provider_id}' that does not exist.")
    missing = resource_classes.unknown(tx, {r for one in claims for a in one.resources.values() for r in a})
    if missing:
        raise BadRequest(f"Unable to allocate inventory: No such resource class {', '.join(missing)}.")


def _write_consumer(tx: Tx, now: float | None, one: Claim) -> None:
    """Make or change the consumer's row, which also locks it until the commit."""
    row = tx.first(_CONSUMER, {"c": one.consumer})
    found = None if row is None else row.generation
    if one.generation != ANY_GENERATION and one.generation != found:
        raise ConcurrentUpdate(
            f"consumer generation conflict - expected {'null' if found is None else found} but got "
            f"{'null' if one.generation is None else one.generation}"
        )
    values: dict[str, Any] = {"project_id": one.project_id, "user_id": one.user_id, "updated": now or 0.0}
    if row is not None:
        kind = row.type if one.type is None else one.type
        tx.execute(_CHANGE_CONSUMER, {**values, "c": one.consumer, "type": kind, "generation": row.generation + 1})
    elif one.resources:
        try:
            with tx.savepoint():
                tx.execute(_NEW_CONSUMER, {
                    "id": one.consumer, "type": one.type, "generation": 1, "created": now, **values
                })
        except sa.exc.IntegrityError:
            raise ConcurrentUpdate(
                f"Inventory and/or allocations changed while attempting to allocate: consumer {one.consumer} was "
                "made at the same time."
            ) from None


_INVENTORY_OF = sa.select(inventory).where(inventory.c.provider_id.in_(sa.bindparam("ps", expanding=True)))


def _check_units(tx: Tx, new: Sequence[tuple[str, str, str, int]], wanted: set[str]) -> None:
    """Raises Conflict for an amount that the inventory does not give out, whatever is left of it."""
    there: dict[tuple[str, str], Row[Any]] = {}
    if wanted:
        there = {(r.provider_id, r.resource_class): r for r in tx.all(_INVENTORY_OF, {"ps": sorted(wanted)})}
    for _, place, name, amount in new:
        row = there.get((place, name))
        if row is None:
            raise Conflict(f"Unable to allocate inventory: Inventory for '{name}' on resource provider '{place}' "
                           "is not there.")
        if not row.min_unit <= amount <= row.max_unit or amount % row.step_size:
            raise Conflict(
                f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider "
                f"'{place}'. The requested amount {amount} would violate inventory constraints (min_unit "
                f"{row.min_unit}, max_unit {row.max_unit}, step_size {row.step_size})."
            )


def _shift(tx: Tx, shifts: Mapping[tuple[str, str], int]) -> None:
    """Move `used`. Raises Conflict where more is asked than is left. Always in one order: no deadlocks."""
    for (place, name), delta in sorted(shifts.items()):
        if delta <= 0:
            if delta:
                tx.execute(_GIVE, {"p": place, "r": name, "d": delta})
        elif not tx.execute(_TAKE, {"p": place, "r": name, "d": min(delta, MOST * 2)}).rowcount:
            raise Conflict(
                f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider "
                f"'{place}'. The requested amount would exceed the capacity."
            )
