"""RBAC policies: whom a network is shared with, or external for, besides all or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import lists, networks, quotas, sharing, views
from pileus.network.faults import conflict
from pileus.network.schemas import RbacNew
from pileus.network.tables import network, rbac, router
from pileus.web.call import Call
from pileus.web.errors import BadRequest

_c = rbac.c


def _visible(call: Call) -> lists.Clause:
    return _c.project_id == sharing.own(call.context)


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [views.rbac_policy(row) for row in rows]


_COLUMNS = {
    "id": _c.id, "project_id": _c.project_id, "tenant_id": _c.project_id, "object_type": _c.object_type,
    "object_id": _c.object_id, "action": _c.action, "target_tenant": _c.target_project,
    "target_project": _c.target_project,
}

NOUN = lists.Noun(
    name="rbac_policy", plural="rbac_policies", title="RBAC policy", error="RbacPolicyNotFound", table=rbac,
    visible=_visible, render=_render, taggable=False,
    filters={name: lists.text(column) for name, column in _COLUMNS.items()}, sorts=_COLUMNS,
)


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/rbac-policies: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/rbac-policies/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/rbac-policies: 201."""
    return lists.create_all(call, NOUN, _create)


def _target(sent: Any) -> str:
    found = sent.target_tenant if sent.target_tenant is not UNSET else sent.target_project
    if found is UNSET or not found:
        raise BadRequest("Failed to parse request. Required attribute 'target_tenant' not specified")
    return str(found)


def _create(call: Call, new: RbacNew) -> str:
    project_id = lists.owner(call, new, "create_rbac_policy")
    target = _target(new)
    call.enforce("create_rbac_policy:target_tenant", project_id=project_id, target_project=target)
    row = lists.find(call, networks.NOUN, new.object_id)
    call.enforce("update_network", project_id=row.project_id)
    if new.action == sharing.EXTERNAL:
        call.enforce("update_network:router:external", project_id=row.project_id)
    same = sa.and_(_c.object_id == row.id, _c.action == new.action, _c.target_project == target)
    if call.tx.first(sa.select(_c.id).where(same)) is not None:
        raise conflict("DuplicatePolicyError",
                       f"An RBAC policy already exists with those values: {row.id}, {new.action}, {target}.")
    quotas.room(call.tx, call.cloud, project_id, {"rbac_policy": 1})
    identity = call.cloud.world.uuid()
    call.tx.execute(rbac.insert().values(
        id=identity, project_id=project_id, object_type=new.object_type, object_id=row.id, action=new.action,
        target_project=target,
    ))
    _mirror(call, row.id, new.action, target, True)
    return identity


def _mirror(call: Call, network_id: str, action: str, target: str, on: bool) -> None:
    """An entry for every project is the network's `shared` or `router:external`."""
    if target == sharing.ALL:
        column = "shared" if action == sharing.SHARED else "external"
        lists.update(call, network, network_id, {column: on})


def _check_gone(call: Call, row: Row[Any], network_row: Row[Any]) -> None:
    """Raises Conflict while the target uses what it would lose."""
    if row.action == sharing.SHARED:
        networks.check_unshared(call.tx, network_row, row.target_project)
        return
    used = sa.select(router.c.id).where(router.c.gateway_network_id == row.object_id)
    if row.target_project != sharing.ALL:
        used = used.where(router.c.project_id == row.target_project)
    if call.tx.first(used.limit(1)) is not None:
        raise conflict("RbacPolicyInUse",
                       f"RBAC policy on object {row.object_id} cannot be removed because other objects depend on it.")


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/rbac-policies/{id}: 200, another target."""
    row = lists.find(call, NOUN, call.params["id"])
    call.enforce("update_rbac_policy", project_id=row.project_id)
    target = _target(call.body.rbac_policy)
    call.enforce("update_rbac_policy:target_tenant", project_id=row.project_id, target_project=target)
    network_row = call.tx.first(sa.select(network).where(network.c.id == row.object_id))
    if target != row.target_project and network_row is not None:
        _check_gone(call, row, network_row)
        call.tx.execute(rbac.update().where(_c.id == row.id).values(target_project=target))
        _mirror(call, row.object_id, row.action, row.target_project, False)
        _mirror(call, row.object_id, row.action, target, True)
    return lists.shown(call, NOUN, row.id)


def delete(call: Call) -> None:
    """DELETE /v2.0/rbac-policies/{id}: 204."""
    row = lists.find(call, NOUN, call.params["id"])
    call.enforce("delete_rbac_policy", project_id=row.project_id)
    network_row = call.tx.first(sa.select(network).where(network.c.id == row.object_id))
    if network_row is not None:
        _check_gone(call, row, network_row)
        _mirror(call, row.object_id, row.action, row.target_project, False)
    call.tx.execute(rbac.delete().where(_c.id == row.id))
