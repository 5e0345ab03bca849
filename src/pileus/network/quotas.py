"""Quotas: how much of each resource a project may have. -1: no limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import projects
from pileus.network.faults import QuotaExceeded, invalid, not_found
from pileus.network.schemas import number
from pileus.network.tables import (
    floating_ip,
    network,
    port,
    quota,
    rbac,
    router,
    security_group,
    security_group_rule,
    subnet,
    subnet_pool,
    trunk,
)
from pileus.web.call import Call
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

DEFAULTS: Mapping[str, int] = {
    "network": 100, "subnet": 100, "subnetpool": -1, "port": 500, "router": 10, "floatingip": 50,
    "security_group": 10, "security_group_rule": 100, "rbac_policy": 10, "trunk": -1,
}

_TABLES: Mapping[str, sa.Table] = {
    "network": network, "subnet": subnet, "subnetpool": subnet_pool, "port": port, "router": router,
    "floatingip": floating_ip, "security_group": security_group, "security_group_rule": security_group_rule,
    "rbac_policy": rbac, "trunk": trunk,
}


def _count(name: str) -> sa.Select[Any]:
    table = _TABLES[name]
    counted = sa.select(sa.func.count()).select_from(table).where(table.c.project_id == sa.bindparam("p"))
    return counted.where(port.c.device_owner != "network:dhcp") if name == "port" else counted


_COUNTS = {name: _count(name) for name in _TABLES}
_LIMITS = sa.select(quota.c.resource, quota.c.limit).where(quota.c.project_id == sa.bindparam("p"))


def limits(tx: Tx, project_id: str) -> dict[str, int]:
    """The limits of a project, defaults filled in."""
    found = dict(DEFAULTS)
    for row in tx.all(_LIMITS, {"p": project_id}):
        found[row.resource] = row.limit
    return found


def used(tx: Tx, project_id: str, name: str) -> int:
    """How many of a resource the project has. Ports of DHCP are not counted."""
    return int(tx.scalar(_COUNTS[name], {"p": project_id}))


def room(tx: Tx, cloud: Cloud, project_id: str, wanted: Mapping[str, int]) -> None:
    """Is there room for so many more? Raises QuotaExceeded (an OverQuota, 409), naming the full resources.

    Until this transaction ends no other one counts the same project's."""
    tx.serialize(f"network-quota:{project_id}")
    allowed = limits(tx, project_id)
    full = [
        name for name, more in wanted.items()
        if more > 0 and allowed[name] >= 0 and used(tx, project_id, name) + more > allowed[name]
    ]
    if full:
        raise QuotaExceeded(full)


# -- handlers


def _project(call: Call, rule: str) -> str:
    project_id = call.params["project_id"]
    call.enforce(rule, project_id=project_id)
    return project_id


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/quotas: 200, the projects whose quotas were set."""
    call.enforce("update_quota")
    found: dict[str, dict[str, Any]] = {}
    for row in call.tx.all(sa.select(quota).order_by(quota.c.project_id)):
        entry = found.setdefault(
            row.project_id, {**DEFAULTS, "project_id": row.project_id, "tenant_id": row.project_id}
        )
        entry[row.resource] = row.limit
    return {"quotas": list(found.values())}


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/quotas/{project_id}: 200."""
    return {"quota": limits(call.tx, _project(call, "get_quota"))}


def show_own(call: Call) -> dict[str, Any]:
    """GET /v2.0/quotas/tenant and /v2.0/quotas/project: 200, the token's own project."""
    own = call.context.project_id
    return {"tenant": {"tenant_id": own, "project_id": own}}


def show_default(call: Call) -> dict[str, Any]:
    """GET /v2.0/quotas/{project_id}/default: 200."""
    _project(call, "get_quota")
    return {"quota": dict(DEFAULTS)}


def show_details(call: Call) -> dict[str, Any]:
    """GET /v2.0/quotas/{project_id}/details.json: 200, with what is used. Nothing is ever reserved here."""
    project_id = _project(call, "get_quota")
    allowed = limits(call.tx, project_id)
    return {"quota": {
        name: {"limit": allowed[name], "used": used(call.tx, project_id, name), "reserved": 0} for name in DEFAULTS
    }}


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/quotas/{project_id}: 200."""
    project_id = _project(call, "update_quota")
    if not projects.exists(call.tx, project_id):
        raise not_found("ProjectNotFound", "Project", project_id)
    sent = call.body.quota
    for name in DEFAULTS:
        value = getattr(sent, name)
        if value is UNSET:
            continue
        limit = number(value)
        if limit < -1:
            raise invalid(f"quota limit {limit} of {name} must be -1 (no limit) or greater.")
        if as_bool(sent.check_limit) and 0 <= limit < (count := used(call.tx, project_id, name)):
            raise invalid(f"quota limit {limit} of {name} is below the {count} that are used; free some first, or "
                          "leave check_limit out.")
        mine = sa.and_(quota.c.project_id == project_id, quota.c.resource == name)
        if not call.tx.execute(quota.update().where(mine).values(limit=limit)).rowcount:
            call.tx.execute(quota.insert().values(project_id=project_id, resource=name, limit=limit))
    return {"quota": limits(call.tx, project_id)}


def delete(call: Call) -> None:
    """DELETE /v2.0/quotas/{project_id}: 204, back to the defaults."""
    project_id = _project(call, "delete_quota")
    gone = call.tx.execute(quota.delete().where(quota.c.project_id == project_id))
    if not gone.rowcount:
        raise not_found("TenantQuotaNotFound", "Quota for tenant", project_id)
