"""Traits: what a provider is like. The standard names, and CUSTOM_ ones that operators make."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.placement import providers
from pileus.placement.faults import ConcurrentUpdate
from pileus.placement.tables import provider, trait
from pileus.placement.views import fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.placement.schemas import TraitsBody, TraitsQuery

_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+")


@functools.cache
def standard() -> frozenset[str]:
    """The names that all clouds share."""
    return frozenset(files("pileus.placement").joinpath("traits.txt").read_text().split())


def unknown(tx: Tx, names: Iterable[str]) -> list[str]:
    """Those of the names that are no trait, sorted."""
    custom = set(names) - standard()
    if not custom:
        return []
    return sorted(custom - set(tx.scalars(sa.select(trait.c.name).where(trait.c.name.in_(custom)))))


def add(tx: Tx, name: str, now: float) -> bool:
    """Make a custom trait; False when it is there already. Raises BadRequest for a bad name."""
    if not _CUSTOM.fullmatch(name) or len(name) > 255:
        raise BadRequest(
            f"The trait '{name}' is invalid: a trait of your own has at most 255 characters, starts with "
            "CUSTOM_ and goes on with A-Z, 0-9 or _."
        )
    try:
        with tx.savepoint():
            tx.execute(trait.insert().values(name=name, created=now))
    except sa.exc.IntegrityError:
        return False
    return True


def associated(tx: Tx) -> set[str]:
    """The traits that at least one provider has."""
    rows = tx.scalars(sa.select(provider.c.traits).where(provider.c.traits != "").distinct())
    return {name for text in rows for name in text.split()}


# -- handlers


def index(call: Call) -> Reply:
    """GET /traits: 200."""
    query: TraitsQuery = call.query
    names = {*standard(), *call.tx.scalars(sa.select(trait.c.name))}
    if query.name:
        operator, colon, value = query.name.partition(":")
        if not colon:
            raise BadRequest(
                "Badly formatted name parameter: give ?name=in:NAME1,NAME2 or ?name=startswith:PREFIX; "
                f"got '{query.name}'."
            )
        if operator == "in":
            names &= set(value.split(","))
        elif operator == "startswith":
            names = {name for name in names if name.startswith(value)}
    if query.associated:
        wanted = query.associated.lower()
        if wanted not in ("true", "false"):
            raise BadRequest('The query parameter "associated" only accepts "true" or "false".')
        names = names & associated(call.tx) if wanted == "true" else names - associated(call.tx)
    return fresh(call, {"traits": sorted(names)})


def show(call: Call) -> Reply:
    """GET /traits/{name}: 204 when there is such a trait."""
    _need(call.tx, call.params["name"])
    return fresh(call, None)


def create(call: Call) -> Reply:
    """PUT /traits/{name}: 201, or 204 when it was there."""
    name = call.params["name"]
    made = add(call.tx, name, call.now)
    location = {"Location": f"{call.url}/traits/{name}"}
    return fresh(call, None, status=201 if made else 204, headers=location)


def delete(call: Call) -> None:
    """DELETE /traits/{name}: 204."""
    name = call.params["name"]
    _need(call.tx, name)
    if name in standard():
        raise BadRequest(f"Cannot delete standard trait {name}.")
    if name in associated(call.tx):
        raise Conflict(f"The trait {name} is in use by a resource provider; remove it there first.")
    call.tx.execute(trait.delete().where(trait.c.name == name))


def of_provider(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/traits: 200."""
    return _reply(call, providers.need(call.tx, call.params["uuid"]))


def replace(call: Call) -> Reply:
    """PUT /resource_providers/{uuid}/traits: 200."""
    body: TraitsBody = call.body
    row = providers.need(call.tx, call.params["uuid"])
    if row.generation != body.resource_provider_generation:
        raise ConcurrentUpdate(
            "Resource provider's generation already changed. Please update the generation and try again."
        )
    missing = unknown(call.tx, body.traits)
    if missing:
        raise BadRequest(f"No such trait {', '.join(missing)}.")
    providers.write_traits(call.tx, row, frozenset(body.traits), call.now)
    return _reply(call, providers.need(call.tx, row.id))


def clear(call: Call) -> None:
    """DELETE /resource_providers/{uuid}/traits: 204."""
    row = providers.need(call.tx, call.params["uuid"])
    providers.write_traits(call.tx, row, frozenset(), call.now)


def _reply(call: Call, row: providers.Provider) -> Reply:
    body = {"traits": sorted(row.traits), "resource_provider_generation": row.generation}
    return fresh(call, body, modified=row.updated)


def _need(tx: Tx, name: str) -> None:
    if unknown(tx, [name]):
        raise NotFound(f"No such trait(s): {name}.")
