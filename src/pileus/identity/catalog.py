"""The service catalog of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity.tables import endpoint, service

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_ROWS = (
    sa.select(
        endpoint.c.id, endpoint.c.interface, endpoint.c.region_id, endpoint.c.url,
        service.c.id.label("service_id"), service.c.type, service.c.name,
    )
    .join(service, service.c.id == endpoint.c.service_id)
    .where(endpoint.c.enabled.is_(True), service.c.enabled.is_(True))
    .order_by(service.c.type, service.c.id, endpoint.c.interface)
)


def catalog(tx: Tx, project_id: str | None, user_id: str) -> list[dict[str, Any]]:
    """Services with their endpoints, `%(project_id)s` and its older spellings in URLs filled in."""
    fill = {"$(project_id)s": project_id, "%(project_id)s": project_id, "$(tenant_id)s": project_id,
            "%(tenant_id)s": project_id, "$(user_id)s": user_id, "%(user_id)s": user_id}
    found: dict[str, dict[str, Any]] = {}
    for row in tx.all(_ROWS):
        url = row.url
        if "(" in url:
            if project_id is None and ("project_id" in url or "tenant_id" in url):
                continue
            for mark, value in fill.items():
                url = url.replace(mark, value or "")
        entry = found.setdefault(
            row.service_id, {"id": row.service_id, "type": row.type, "name": row.name, "endpoints": []}
        )
        entry["endpoints"].append(
            {"id": row.id, "interface": row.interface, "region_id": row.region_id, "region": row.region_id, "url": url}
        )
    return list(found.values())
