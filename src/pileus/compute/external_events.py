"""Events that other services send about servers. Here all services share one transaction, so that none is
needed; those that Neutron and Cinder send are taken from services outside and have nothing left to do."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute.schemas_rest import ExternalEvent, ExternalEventsBody
from pileus.compute.tables import server
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound

_NAMES = ("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted")


def create(call: Call) -> Reply:
    """POST /os-server-external-events: 200, 207 when some servers are unknown. Raises NotFound when all are."""
    body: ExternalEventsBody = call.body
    for event in body.events:
        if event.name not in _NAMES:
            raise BadRequest(f"Invalid input: there is no event '{event.name}'; there are {', '.join(_NAMES)}.")
    ids = {event.server_uuid for event in body.events}
    here = sa.select(server.c.id, server.c.host).where(server.c.id.in_(ids), server.c.deleted.is_(False))
    known: dict[str, str | None] = {row.id: row.host for row in call.tx.all(here)}
    shown = [_shown(event, known) for event in body.events]
    if all(item["code"] == 404 for item in shown):
        raise NotFound("No instances found for any event.")
    whole = all(item["code"] == 200 for item in shown)
    return Reply({"events": shown}, status=200 if whole else 207)


def _shown(event: ExternalEvent, known: dict[str, str | None]) -> dict[str, Any]:
    found = event.server_uuid in known
    code = 404 if not found else 200 if known[event.server_uuid] else 422
    item: dict[str, Any] = {
        "name": event.name, "server_uuid": event.server_uuid, "code": code,
        "status": event.status if code == 200 else "failed",
    }
    if isinstance(event.tag, str):
        item["tag"] = event.tag
    return item
