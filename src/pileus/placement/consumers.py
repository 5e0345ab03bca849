"""Consumers: what they have, seen and set through the API."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.placement import allocations, providers
from pileus.placement.allocations import ANY_GENERATION, Claim
from pileus.placement.schemas import (
    Allocations10,
    Allocations12,
    Allocations13,
    Allocations18,
    Allocations28,
    Allocations38,
)
from pileus.placement.tables import allocation, consumer, provider
from pileus.placement.views import CONSUMER, fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import UuidText, check_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN_OWNER = "00000000-0000-0000-0000-000000000000"
"""Project and user of consumers that were made before version 1.8, which does not tell them."""

AnyAllocations = Allocations10 | Allocations12 | Allocations13


def show(call: Call) -> Reply:
    """GET /allocations/{consumer}: 200, empty for one that has nothing."""
    consumer_id = call.params["consumer"]
    rows = call.tx.all(
        sa.select(allocation, provider.c.generation)
        .join(provider, provider.c.id == allocation.c.provider_id)
        .where(allocation.c.consumer_id == consumer_id)
        .order_by(provider.c.name, allocation.c.resource_class)
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        here = found.setdefault(row.provider_id, {"resources": {}, "generation": row.generation})
        here["resources"][row.resource_class] = row.used
    if not found:
        return fresh(call, {"allocations": {}})
    owner = call.tx.first(sa.select(consumer).where(consumer.c.id == consumer_id))
    assert owner is not None  # a foreign key says so
    return fresh(call, {"allocations": found, **CONSUMER.render(owner, call.version)}, modified=owner.updated)


def of_provider(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/allocations: 200."""
    row = providers.need(call.tx, call.params["uuid"])
    rows = call.tx.all(
        sa.select(allocation, consumer.c.generation)
        .join(consumer, consumer.c.id == allocation.c.consumer_id)
        .where(allocation.c.provider_id == row.id)
        .order_by(allocation.c.consumer_id, allocation.c.resource_class)
    )
    told = (call.version or (1, 0)) >= (1, 28)
    found: dict[str, dict[str, Any]] = {}
    for one in rows:
        here = found.setdefault(one.consumer_id, {"resources": {}})
        here["resources"][one.resource_class] = one.used
        if told:
            here["consumer_generation"] = one.generation
    return fresh(call, {"allocations": found, "resource_provider_generation": row.generation})


def update(call: Call) -> None:
    """PUT /allocations/{consumer}: 204."""
    consumer_id = call.params["consumer"]
    try:
        msgspec.convert(consumer_id, UuidText)
    except msgspec.ValidationError:
        raise BadRequest(f"Malformed consumer_uuid: {consumer_id}") from None
    allocations.replace(call.tx, call.now, [claim_of(str(uuid.UUID(consumer_id)), call.body)])


def create(call: Call) -> None:
    """POST /allocations: 204. Sets those of many consumers at once, all or none."""
    bodies: Mapping[str, Allocations13] = call.body
    allocations.replace(call.tx, call.now, claims_of(call, bodies))


def delete(call: Call) -> None:
    """DELETE /allocations/{consumer}: 204."""
    consumer_id = call.params["consumer"]
    if not allocations.of_consumer(call.tx, consumer_id):
        raise NotFound(f"No allocations for consumer '{consumer_id}'.")
    allocations.release(call.tx, consumer_id)


def claims_of(call: Call, bodies: Mapping[str, Allocations13]) -> list[Claim]:
    """The claims of a body that has those of many consumers. Raises BadRequest for a field too new."""
    for consumer_id, body in bodies.items():
        check_versions(body, call.version or (1, 0), f"$.{consumer_id}")
    return [claim_of(consumer_id, body) for consumer_id, body in bodies.items()]


def claim_of(consumer_id: str, body: AnyAllocations) -> Claim:
    """A claim, from any version's body."""
    if isinstance(body, Allocations10):
        resources = {one.resource_provider.uuid: one.resources for one in body.allocations}
        owned = isinstance(body, Allocations18)
        project_id = body.project_id if owned else UNKNOWN_OWNER  # type: ignore[attr-defined]
        user_id = body.user_id if owned else UNKNOWN_OWNER  # type: ignore[attr-defined]
        return Claim(consumer_id, project_id, user_id, resources)
    return Claim(
        consumer_id, body.project_id, body.user_id,
        {place: one.resources for place, one in body.allocations.items()},
        type=body.consumer_type if isinstance(body, Allocations38) else None,
        generation=body.consumer_generation if isinstance(body, Allocations28) else ANY_GENERATION,
    )


