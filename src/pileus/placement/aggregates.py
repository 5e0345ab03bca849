"""Aggregates of a provider: ids that group providers, as compute's host aggregates and shared storage do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.placement import providers
from pileus.placement.faults import ConcurrentUpdate
from pileus.placement.tables import provider
from pileus.placement.views import fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.placement.schemas import AggregatesBody


def show(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/aggregates: 200."""
    return _reply(call, providers.need(call.tx, call.params["uuid"]))


def replace(call: Call) -> Reply:
    """PUT /resource_providers/{uuid}/aggregates: 200. From 1.19 on it checks and counts the generation."""
    row = providers.need(call.tx, call.params["uuid"])
    body: AggregatesBody | list[str] = call.body
    ids = body if isinstance(body, list) else body.aggregates
    if len(set(ids)) != len(ids):
        raise BadRequest("Invalid input: an aggregate is named more than once.")
    if not isinstance(body, list):
        if body.resource_provider_generation != row.generation:
            raise ConcurrentUpdate(
                "Resource provider's generation already changed. Please update the generation and try again."
            )
        providers.bump(call.tx, row.id, call.now, row.generation)
    call.tx.execute(
        provider.update().where(provider.c.id == row.id).values(aggregates=providers.words(ids), updated=call.now)
    )
    return _reply(call, providers.need(call.tx, row.id))


def _reply(call: Call, row: providers.Provider) -> Reply:
    body: dict[str, Any] = {"aggregates": sorted(row.aggregates)}
    if (call.version or (1, 0)) >= (1, 19):
        body["resource_provider_generation"] = row.generation
    return fresh(call, body, modified=row.updated)
