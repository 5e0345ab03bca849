"""Usages: what is used of a provider, and by a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.placement import providers
from pileus.placement.tables import allocation, consumer, inventory
from pileus.placement.views import fresh
from pileus.web.call import Call, Reply
from pileus.web.schemas import check_versions

if TYPE_CHECKING:
    from pileus.placement.schemas import UsagesQuery


def of_provider(call: Call) -> Reply:
    """GET /resource_providers/{uuid}/usages: 200."""
    row = providers.need(call.tx, call.params["uuid"])
    rows = call.tx.all(
        sa.select(inventory.c.resource_class, inventory.c.used).where(inventory.c.provider_id == row.id)
        .order_by(inventory.c.resource_class)
    )
    usages = {r.resource_class: r.used for r in rows}
    return fresh(call, {"resource_provider_generation": row.generation, "usages": usages})


def of_project(call: Call) -> Reply:
    """GET /usages: 200. A project's readers see their own project's."""
    query: UsagesQuery = call.query
    version = call.version or (1, 0)
    check_versions(query, version, "query")
    call.enforce("placement:usages", project_id=query.project_id)
    where = [consumer.c.project_id == query.project_id]
    if query.user_id is not UNSET:
        where.append(consumer.c.user_id == query.user_id)
    if query.consumer_type == "unknown":
        where.append(consumer.c.type.is_(None))
    elif query.consumer_type not in (UNSET, "all"):
        where.append(consumer.c.type == query.consumer_type)
    rows = call.tx.all(
        sa.select(
            consumer.c.type, allocation.c.consumer_id, allocation.c.resource_class,
            sa.func.sum(allocation.c.used).label("used"),
        )
        .join(consumer, consumer.c.id == allocation.c.consumer_id)
        .where(*where)
        .group_by(consumer.c.type, allocation.c.consumer_id, allocation.c.resource_class)
    )
    if version < (1, 38):
        sums: dict[str, int] = {}
        for row in rows:
            sums[row.resource_class] = sums.get(row.resource_class, 0) + int(row.used)
        return fresh(call, {"usages": sums})
    return fresh(call, {"usages": _by_type(rows, together=query.consumer_type == "all")})


def _by_type(rows: Any, together: bool) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    counted: dict[str, set[str]] = {}
    for row in rows:
        kind = "all" if together else row.type or "unknown"
        sums = found.setdefault(kind, {})
        sums[row.resource_class] = sums.get(row.resource_class, 0) + int(row.used)
        counted.setdefault(kind, set()).add(row.consumer_id)
    for kind, ids in counted.items():
        found[kind]["consumer_count"] = len(ids)
    return found
