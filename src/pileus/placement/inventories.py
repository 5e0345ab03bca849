"""Inventories: how much of each class a provider has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.placement import providers, resource_classes
from pileus.placement.faults import ConcurrentUpdate, InventoryInUse
from pileus.placement.schemas import InventoriesBody, Inventory, InventoryChange, InventoryNew, InventoryRecord
from pileus.placement.tables import inventory
from pileus.placement.views import INVENTORY, fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound
from pileus.web.versions import Version

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

    from pileus.db.engine import Tx
    from pileus.placement.providers import Provider


def replace(tx: Tx, row: Provider, wanted: dict[str, Inventory], expected: int, now: float) -> None:
    """Set all inventories of a provider. What allocations use stays used.

    Raises ConcurrentUpdate for another generation, InventoryInUse when a used class would go away, BadRequest for
    an unknown class."""
    providers.bump(tx, row.id, now, expected)
    resource_classes.check(tx, wanted)
    there = {r.resource_class: r for r in _rows(tx, row.id)}
    for name, old in there.items():
        if name not in wanted:
            _remove(tx, old)
        else:
            tx.execute(inventory.update().where(*_place(row.id, name)).values(**msgspec.structs.asdict(wanted[name])))
    new = [
        {"provider_id": row.id, "resource_class": name, "used": 0, **msgspec.structs.asdict(one)}
        for name, one in wanted.items() if name not in there
    ]
    if new:
        tx.execute(inventory.insert(), new)


def checked(name: str, record: InventoryRecord, version: Version) -> Inventory:
    """A record as an inventory. Raises BadRequest when more is reserved than there is."""
    if record.reserved > record.total or (record.reserved == record.total and version < (1, 26)):
        raise BadRequest(
            f"Invalid inventory for '{name}': the reserved value {record.reserved} is greater than "
            f"{'' if version >= (1, 26) else 'or equal to '}total {record.total}."
        )
    return Inventory(**{key: getattr(record, key) for key in Inventory.__struct_fields__})


def _rows(tx: Tx, provider_id: str) -> list[Row[Any]]:
    where = inventory.c.provider_id == provider_id
    return list(tx.all(sa.select(inventory).where(where).order_by(inventory.c.resource_class)))


def _place(provider_id: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return inventory.c.provider_id == provider_id, inventory.c.resource_class == name


def _remove(tx: Tx, row: Row[Any]) -> None:
    """Delete one inventory, unless something uses it by now."""
    where = (*_place(row.provider_id, row.resource_class), inventory.c.used == 0)
    if not tx.execute(inventory.delete().where(*where)).rowcount:
        raise InventoryInUse(
            f"Inventory for '{row.resource_class}' on resource provider '{row.provider_id}' in use."
        )


# -- handlers


def index(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/inventories: 200."""
    return _all(call, providers.need(call.tx, call.params["uuid"]))


def _all(call: Call, row: Provider) -> Reply:
    body = {
        "inventories": {r.resource_class: INVENTORY.render(r) for r in _rows(call.tx, row.id)},
        "resource_provider_generation": row.generation,
    }
    return fresh(call, body, modified=row.updated)


def show(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/inventories/{resource_class}: 200."""
    row = providers.need(call.tx, call.params["uuid"])
    return _one(call, row, _need(call.tx, row.id, call.params["resource_class"]))


def _one(call: Call, row: Provider, found: Row[Any], **more: Any) -> Reply:
    body = {**INVENTORY.render(found), "resource_provider_generation": row.generation}
    return fresh(call, body, modified=row.updated, **more)


def _need(tx: Tx, provider_id: str, name: str) -> Row[Any]:
    found = tx.first(sa.select(inventory).where(*_place(provider_id, name)))
    if found is None:
        raise NotFound(f"No inventory of class {name} for {provider_id}.")
    return found


def create(call: Call) -> Reply:
    """POST /resource_providers/{uuid}/inventories: 201."""
    body: InventoryNew = call.body
    row = providers.need(call.tx, call.params["uuid"])
    new = checked(body.resource_class, body, call.version or (1, 0))
    resource_classes.check(call.tx, [body.resource_class])
    expected = None if body.resource_provider_generation is UNSET else body.resource_provider_generation
    providers.bump(call.tx, row.id, call.now, expected)
    try:
        with call.tx.savepoint():
            call.tx.execute(inventory.insert().values(
                provider_id=row.id, resource_class=body.resource_class, used=0, **msgspec.structs.asdict(new)
            ))
    except sa.exc.IntegrityError:
        raise ConcurrentUpdate(f"Update conflict: there is an inventory of {body.resource_class} already.") from None
    location = {
        "Location": f"{call.url}/resource_providers/{row.id}/inventories/{body.resource_class}"
    }
    row = providers.need(call.tx, row.id)
    return _one(call, row, _need(call.tx, row.id, body.resource_class), headers=location)


def update(call: Call) -> Reply:
    """PUT /resource_providers/{uuid}/inventories/{resource_class}: 200."""
    body: InventoryChange = call.body
    name = call.params["resource_class"]
    row = providers.need(call.tx, call.params["uuid"])
    if body.resource_provider_generation is UNSET:
        raise BadRequest("Invalid input: the field resource_provider_generation is required.")
    new = checked(name, body, call.version or (1, 0))
    providers.bump(call.tx, row.id, call.now, body.resource_provider_generation)
    values = msgspec.structs.asdict(new)
    if not call.tx.execute(inventory.update().where(*_place(row.id, name)).values(**values)).rowcount:
        raise BadRequest(f"No inventory record with resource class {name} found for resource provider {row.id}.")
    row = providers.need(call.tx, row.id)
    return _one(call, row, _need(call.tx, row.id, name))


def replace_all(call: Call) -> Reply:
    """PUT /resource_providers/{uuid}/inventories: 200."""
    body: InventoriesBody = call.body
    row = providers.need(call.tx, call.params["uuid"])
    version = call.version or (1, 0)
    wanted = {name: checked(name, record, version) for name, record in body.inventories.items()}
    replace(call.tx, row, wanted, body.resource_provider_generation, call.now)
    return _all(call, providers.need(call.tx, row.id))


def delete(call: Call) -> None:
    """DELETE /resource_providers/{uuid}/inventories/{resource_class}: 204."""
    row = providers.need(call.tx, call.params["uuid"])
    _remove(call.tx, _need(call.tx, row.id, call.params["resource_class"]))
    providers.bump(call.tx, row.id, call.now)


def delete_all(call: Call) -> None:
    """DELETE /resource_providers/{uuid}/inventories: 204, from 1.5 on."""
    row = providers.need(call.tx, call.params["uuid"])
    for found in _rows(call.tx, row.id):
        _remove(call.tx, found)
    providers.bump(call.tx, row.id, call.now)
