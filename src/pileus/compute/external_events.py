"""Events that other services send about servers. Here all services share one transaction, so that none is
needed; those that Neutron sends are taken from services outside and have nothing left to do. That a volume has grown
is shown to its guest."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.compute import block_devices
from pileus.compute.schemas_rest import ExternalEvent, ExternalEventsBody
from pileus.compute.tables import server
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound

_NETWORK = ("network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted")
_EXTENDED = "volume-extended"


def create(call: Call) -> Reply:
    """POST /os-server-external-events: 200, 207 when some servers are unknown. Raises NotFound when all are."""
    body: ExternalEventsBody = call.body
    known_names = (*_NETWORK, *((_EXTENDED,) if (call.version or (2, 1)) >= (2, 51) else ()))
    for event in body.events:
        if event.name not in known_names:
            raise BadRequest(f"Invalid input: there is no event '{event.name}'; there are {', '.join(known_names)}.")
        if event.name == _EXTENDED and not isinstance(event.tag, str):
            raise BadRequest(f"Invalid input: the event {_EXTENDED} needs the id of the volume as its tag.")
    ids = {event.server_uuid for event in body.events}
    here = sa.select(server.c.id, server.c.host).where(server.c.id.in_(ids), server.c.deleted.is_(False))
    known: dict[str, str | None] = {row.id: row.host for row in call.tx.all(here)}
    shown = [_shown(event, known) for event in body.events]
    for event in body.events:
        if event.name == _EXTENDED and known.get(event.server_uuid):
            block_devices.extended(call.tx, call.cloud, str(event.tag), event.server_uuid)
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
