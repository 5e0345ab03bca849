"""Resource providers: what has inventory. They may stand in trees, as a host with its NUMA nodes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.placement import filters
from pileus.placement.faults import (
    ConcurrentUpdate,
    DuplicateName,
    ProviderHasChildren,
    ProviderInUse,
    ProviderNotFound,
)
from pileus.placement.schemas import Inventory, ProviderChange, ProviderNew, ProvidersQuery
from pileus.placement.tables import allocation, inventory, provider
from pileus.placement.views import fresh, provider_view
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest
from pileus.web.schemas import check_versions

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

STAYS = frozenset({"COMPUTE_STATUS_DISABLED"})
"""Traits that are no facts of a node, so that a node's report does not take them away."""


class Provider(msgspec.Struct, frozen=True):
    """A provider, without its inventory."""

    id: str
    name: str
    generation: int
    parent_id: str | None
    root_id: str
    traits: frozenset[str]
    aggregates: frozenset[str]
    created: float
    updated: float


_BY_ID = sa.select(provider).where(provider.c.id == sa.bindparam("i"))
_BUMP = (
    provider.update().where(provider.c.id == sa.bindparam("i"))
    .values(generation=provider.c.generation + 1, updated=sa.bindparam("now"))
)
_INVENTORIES = sa.select(inventory).where(inventory.c.provider_id == sa.bindparam("p")).order_by(
    inventory.c.resource_class
)


# -- for other modules and rooms


def get(tx: Tx, provider_id: str) -> Provider | None:
    """One provider, if it exists."""
    row = tx.first(_BY_ID, {"i": provider_id})
    return None if row is None else _read(row)


def need(tx: Tx, provider_id: str) -> Provider:
    """One provider. Raises ProviderNotFound."""
    found = get(tx, provider_id)
    if found is None:
        raise ProviderNotFound(f"No resource provider with uuid {provider_id} found.")
    return found


def ensure(
    tx: Tx, cloud: Cloud, *, id: str, name: str, inventories: dict[str, Inventory], traits: Iterable[str]
) -> None:
    """Make the provider, or bring it to what is given; nothing is written when nothing differs.

    A class that is no longer given goes away; while something still uses it, it stays with all of it reserved.
    CUSTOM_ traits and those in `STAYS` that others gave to the provider stay. Raises DuplicateName when another
    provider has the name, BadRequest for an unknown class or trait."""
    from pileus.placement.resource_classes import check

    now = cloud.world.now()
    check(tx, inventories)
    known = get(tx, id)
    if known is None:
        known = insert(tx, now, id=id, name=name)
    elif known.name != name:
        _rename(tx, known.id, name, now)
    changed = _bring(tx, id, inventories)
    kept = {t for t in known.traits if t.startswith("CUSTOM_") or t in STAYS}
    wanted = frozenset(_known_traits(tx, traits, now)) | kept
    if wanted != known.traits:
        tx.execute(provider.update().where(provider.c.id == id).values(traits=words(wanted)))
        changed = True
    if changed:
        tx.execute(_BUMP, {"i": id, "now": now})


def remove(tx: Tx, provider_id: str) -> None:
    """Delete a provider and its inventory; one that does not exist is fine.

    Raises ProviderInUse while there are allocations, ProviderHasChildren while it has children."""
    if tx.first(sa.select(provider.c.id).where(provider.c.parent_id == provider_id).limit(1)) is not None:
        raise ProviderHasChildren(
            f"Unable to delete parent resource provider {provider_id}: it has child resource providers."
        )
    if tx.first(sa.select(allocation.c.consumer_id).where(allocation.c.provider_id == provider_id).limit(1)):
        raise ProviderInUse(f"Unable to delete resource provider {provider_id}: it has allocations.")
    tx.execute(inventory.delete().where(inventory.c.provider_id == provider_id))
    tx.execute(provider.delete().where(provider.c.id == provider_id))


def set_traits(tx: Tx, id: str, traits: Iterable[str]) -> None:
    """Give a provider exactly these traits; unknown CUSTOM_ ones are made. Raises ProviderNotFound, BadRequest."""
    row = need(tx, id)
    write_traits(tx, row, frozenset(_known_traits(tx, traits, row.updated)), row.updated)


def set_aggregates(tx: Tx, id: str, aggregate_ids: Iterable[str]) -> None:
    """Put a provider into exactly these aggregates. Raises ProviderNotFound."""
    row = need(tx, id)
    wanted = frozenset(aggregate_ids)
    if wanted != row.aggregates:
        tx.execute(provider.update().where(provider.c.id == id).values(
            aggregates=words(wanted), generation=provider.c.generation + 1
        ))


def write_traits(tx: Tx, row: Provider, traits: frozenset[str], now: float) -> None:
    """Write traits that are known to exist, where they differ, and count the generation."""
    if traits == row.traits:
        return
    written = tx.execute(
        provider.update().where(provider.c.id == row.id, provider.c.generation == row.generation)
        .values(traits=words(traits), generation=row.generation + 1, updated=now)
    )
    if not written.rowcount:
        raise ConcurrentUpdate(f"Resource provider {row.id} was changed at the same time; look again and repeat it.")


def bump(tx: Tx, provider_id: str, now: float, expected: int | None = None) -> None:
    """Count a provider's generation. Raises ConcurrentUpdate when it is not the `expected` one."""
    if expected is None:
        tx.execute(_BUMP, {"i": provider_id, "now": now})
        return
    written = tx.execute(
        provider.update().where(provider.c.id == provider_id, provider.c.generation == expected)
        .values(generation=expected + 1, updated=now)
    )
    if not written.rowcount:
        raise ConcurrentUpdate("resource provider generation conflict: look at the provider again and repeat it.")


def words(names: Iterable[str]) -> str:
    """A set of names as one text."""
    return " ".join(sorted(names))


def insert(tx: Tx, now: float, *, id: str, name: str, parent: Provider | None = None) -> Provider:
    """Write a new provider. Raises DuplicateName."""
    root = id if parent is None else parent.root_id
    values = {
        "id": id, "name": name, "generation": 0, "parent_id": parent and parent.id, "root_id": root, "traits": "",
        "aggregates": "", "created": now, "updated": now,
    }
    try:
        with tx.savepoint():
            tx.execute(provider.insert(), values)
    except sa.exc.IntegrityError:
        what = f"uuid: {id}" if get(tx, id) is not None else f"name: {name}"
        raise DuplicateName(f"Conflicting resource provider {what} already exists.") from None
    return Provider(id, name, 0, values["parent_id"], root, frozenset(), frozenset(), now, now)  # type: ignore[arg-type]


def _rename(tx: Tx, provider_id: str, name: str, now: float) -> None:
    try:
        with tx.savepoint():
            tx.execute(provider.update().where(provider.c.id == provider_id).values(name=name, updated=now))
    except sa.exc.IntegrityError:
        raise DuplicateName(f"Conflicting resource provider {name} already exists.") from None


def _bring(tx: Tx, provider_id: str, wanted: dict[str, Inventory]) -> bool:
    """Bring the inventories to what is wanted; whether anything changed."""
    there = {row.resource_class: row for row in tx.all(_INVENTORIES, {"p": provider_id})}
    changed = False
    for name, row in there.items():
        place = (inventory.c.provider_id == provider_id, inventory.c.resource_class == name)
        new = wanted.get(name)
        if new is None and row.used:
            if row.reserved != row.total:
                tx.execute(inventory.update().where(*place).values(reserved=row.total))
                changed = True
        elif new is None:
            tx.execute(inventory.delete().where(*place))
            changed = True
        elif any(getattr(row, key) != value for key, value in msgspec.structs.asdict(new).items()):
            tx.execute(inventory.update().where(*place).values(**msgspec.structs.asdict(new)))
            changed = True
    fresh_ones = [
        {"provider_id": provider_id, "resource_class": name, "used": 0, **msgspec.structs.asdict(new)}
        for name, new in wanted.items() if name not in there
    ]
    if fresh_ones:
        tx.execute(inventory.insert(), fresh_ones)
    return changed or bool(fresh_ones)


def _known_traits(tx: Tx, names: Iterable[str], now: float) -> set[str]:
    from pileus.placement import traits

    wanted = set(names)
    for name in traits.unknown(tx, wanted):
        traits.add(tx, name, now)
    return wanted


def _read(row: Any) -> Provider:
    return Provider(
        row.id, row.name, row.generation, row.parent_id, row.root_id, frozenset(row.traits.split()),
        frozenset(row.aggregates.split()), row.created, row.updated,
    )


# -- handlers


def index(call: Call) -> Reply:
    """GET /resource_providers: 200."""
    query: ProvidersQuery = call.query
    check_versions(query, call.version or (1, 0), "query")
    rows = _find(call, query)
    newest = max((row.updated for row in rows), default=None)
    return fresh(call, {"resource_providers": [provider_view(call, row) for row in rows]}, modified=newest)


def _find(call: Call, query: ProvidersQuery) -> list[Provider]:
    version = call.version or (1, 0)
    statement = sa.select(provider).order_by(provider.c.name)
    if query.name is not UNSET:
        statement = statement.where(provider.c.name == query.name)
    if query.uuid is not UNSET:
        statement = statement.where(provider.c.id == query.uuid)
    if query.in_tree is not UNSET:
        root = sa.select(provider.c.root_id).where(provider.c.id == query.in_tree).scalar_subquery()
        statement = statement.where(provider.c.root_id == root)
    if query.resources is not UNSET:
        wanted = filters.resources(query.resources)
        filters.check_classes(call.tx, wanted)
        for name, amount in wanted.items():
            statement = statement.where(sa.exists().where(
                inventory.c.provider_id == provider.c.id, inventory.c.resource_class == name,
                inventory.c.min_unit <= amount, inventory.c.max_unit >= amount,
                sa.literal(amount) % inventory.c.step_size == 0,
                inventory.c.used + amount <= (inventory.c.total - inventory.c.reserved) * inventory.c.allocation_ratio,
            ))
    aggregates = filters.aggregates(query.member_of or [], version, "member_of", several=(1, 24))
    wanted_traits = filters.traits(query.required or [], version, "required")
    filters.check_traits(call.tx, wanted_traits)
    return [
        found for found in map(_read, call.tx.all(statement))
        if aggregates.admits(found.aggregates) and wanted_traits.admits(found.traits)
    ]


def create(call: Call) -> Reply:
    """POST /resource_providers: 200 with the provider, before 1.20 201 without."""
    body: ProviderNew = call.body
    new_id = call.cloud.world.uuid() if body.uuid is UNSET else str(uuid.UUID(body.uuid))
    parent = None
    if body.parent_provider_uuid is not UNSET and body.parent_provider_uuid is not None:
        if body.parent_provider_uuid == new_id:
            raise BadRequest("parent provider UUID cannot be same as UUID; leave it out if there is no parent.")
        parent = _parent(call.tx, body.parent_provider_uuid)
    row = insert(call.tx, call.now, id=new_id, name=body.name, parent=parent)
    location = {"Location": f"{call.url}/resource_providers/{new_id}"}
    if (call.version or (1, 0)) < (1, 20):
        return Reply(None, status=201, headers=location)
    return fresh(call, provider_view(call, row), modified=row.updated, headers=location)


def show(call: Call) -> Reply:
    """GET /resource_providers/{uuid}: 200."""
    row = need(call.tx, call.params["uuid"])
    return fresh(call, provider_view(call, row), modified=row.updated)


def update(call: Call) -> Reply:
    """PUT /resource_providers/{uuid}: 200."""
    body: ProviderChange = call.body
    row = need(call.tx, call.params["uuid"])
    if body.parent_provider_uuid is not UNSET and body.parent_provider_uuid != row.parent_id:
        _move(call, row, body.parent_provider_uuid)
    if body.name != row.name:
        _rename(call.tx, row.id, body.name, call.now)
    row = need(call.tx, row.id)
    return fresh(call, provider_view(call, row), modified=row.updated)


def _parent(tx: Tx, parent_id: str) -> Provider:
    found = get(tx, parent_id)
    if found is None:
        raise BadRequest(f"Unable to save resource provider: parent provider UUID {parent_id} does not exist.")
    return found


def _move(call: Call, row: Provider, parent_id: str | None) -> None:
    """Put a provider and all below it under another parent, or under none."""
    if row.parent_id is not None and (call.version or (1, 0)) < (1, 37):
        raise BadRequest(
            f"Unable to save resource provider {row.id}: re-parenting a provider is not allowed before version 1.37."
        )
    below = _subtree(call.tx, row)
    if parent_id in below:
        raise BadRequest(
            f"Unable to save resource provider {row.id}: creating loop in the provider tree is not allowed."
        )
    root = row.id if parent_id is None else _parent(call.tx, parent_id).root_id
    call.tx.execute(provider.update().where(provider.c.id == row.id).values(parent_id=parent_id, updated=call.now))
    call.tx.execute(provider.update().where(provider.c.id.in_(below)).values(root_id=root))


def _subtree(tx: Tx, row: Provider) -> set[str]:
    tree = tx.all(sa.select(provider.c.id, provider.c.parent_id).where(provider.c.root_id == row.root_id))
    below = {row.id}
    grown = True
    while grown:
        more = {member.id for member in tree if member.parent_id in below} - below
        below |= more
        grown = bool(more)
    return below


def delete(call: Call) -> None:
    """DELETE /resource_providers/{uuid}: 204."""
    row = need(call.tx, call.params["uuid"])
    remove(call.tx, row.id)
