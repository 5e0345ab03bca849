"""Address scopes: sets of subnet pools whose addresses do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import lists, sharing, views
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import AddressScopeChange, AddressScopeNew, number
from pileus.network.tables import address_scope, subnet_pool
from pileus.web.call import Call
from pileus.web.schemas import as_bool

_c = address_scope.c


def _visible(call: Call) -> lists.Clause:
    return sa.or_(_c.project_id == sharing.own(call.context), _c.shared.is_(True))


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [views.address_scope(row) for row in rows]


NOUN = lists.Noun(
    name="address_scope", plural="address_scopes", title="Address scope", error="AddressScopeNotFound",
    table=address_scope, visible=_visible, render=_render, taggable=False,
    filters={
        "id": lists.text(_c.id), "name": lists.text(_c.name), "project_id": lists.text(_c.project_id),
        "tenant_id": lists.text(_c.project_id), "ip_version": lists.integer(_c.ip_version),
        "shared": lists.flag(_c.shared),
    },
    sorts=lists.sorts(address_scope, "name", "ip_version", "shared"),
)


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/address-scopes: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/address-scopes/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/address-scopes: 201."""
    return lists.create_all(call, NOUN, _create)


def _create(call: Call, new: AddressScopeNew) -> str:
    project_id = lists.owner(call, new, "create_address_scope")
    lists.enforce_attributes(call, "create_address_scope", new, project_id=project_id)
    if number(new.ip_version) not in (4, 6):
        raise invalid("ip_version must be 4 or 6.")
    row = {
        **lists.base(call, project_id, ""), "name": new.name, "ip_version": number(new.ip_version),
        "shared": new.shared is not UNSET and as_bool(new.shared),
    }
    call.tx.execute(address_scope.insert(), row)
    return str(row["id"])


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/address-scopes/{id}: 200."""
    sent: AddressScopeChange = call.body.address_scope
    row = lists.find_for(call, NOUN, "update", call.params["id"])
    lists.enforce_attributes(call, "update_address_scope", sent, project_id=row.project_id)
    values = lists.given(sent)
    if "shared" in values:
        values["shared"] = as_bool(values["shared"])
        if row.shared and not values["shared"]:
            raise invalid("Shared address scope can't be unshared.", "AddressScopeUpdateError")
    lists.update(call, address_scope, row.id, values)
    return lists.shown(call, NOUN, row.id)


def delete(call: Call) -> None:
    """DELETE /v2.0/address-scopes/{id}: 204."""
    row = lists.find_for(call, NOUN, "delete", call.params["id"])
    used = sa.select(subnet_pool.c.id).where(subnet_pool.c.address_scope_id == row.id).limit(1)
    if call.tx.first(used) is not None:
        raise conflict("AddressScopeInUse", f"Unable to complete operation on address scope {row.id}. There are one "
                                            "or more subnet pools in use on the address scope.")
    call.tx.execute(address_scope.delete().where(_c.id == row.id))
