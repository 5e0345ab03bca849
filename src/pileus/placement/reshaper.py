"""The reshaper: inventories and the allocations on them, moved between providers in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.placement import allocations, providers
from pileus.placement.consumers import claims_of
from pileus.placement.inventories import checked, replace
from pileus.placement.schemas import Inventory
from pileus.placement.tables import inventory
from pileus.web.call import Call
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.placement.schemas import Reshaper30


def reshape(call: Call) -> None:
    """POST /reshaper: 204, from 1.30 on.

    First every provider gets its new classes beside the old ones, then the allocations move, then the old
    classes go: what is still used then is refused, as InventoryInUse."""
    body: Reshaper30 = call.body
    version = call.version or (1, 0)
    rows = {}
    for provider_id, one in body.inventories.items():
        found = providers.get(call.tx, provider_id)
        if found is None:
            raise BadRequest(f"Resource provider {provider_id} in inventories not found.")
        rows[provider_id] = found
        wanted = {name: checked(name, record, version) for name, record in one.inventories.items()}
        there = call.tx.all(sa.select(inventory).where(inventory.c.provider_id == provider_id))
        both = {r.resource_class: _as_it_is(r) for r in there} | wanted
        replace(call.tx, found, both, one.resource_provider_generation, call.now)
    allocations.replace(call.tx, call.now, claims_of(call, body.allocations))
    for provider_id, one in body.inventories.items():
        wanted = {name: checked(name, record, version) for name, record in one.inventories.items()}
        row = providers.need(call.tx, provider_id)
        replace(call.tx, row, wanted, row.generation, call.now)


def _as_it_is(row: object) -> Inventory:
    return Inventory(**{key: getattr(row, key) for key in Inventory.__struct_fields__})
