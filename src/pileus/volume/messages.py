"""User messages: why something that was taken on has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.volume import listing
from pileus.volume.tables_rest import message
from pileus.volume.views import links
from pileus.volume.views_rest import MESSAGE
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

KEPT = 30 * 86400.0
"""Seconds for which a message is kept."""

_ACTIONS = {
    "schedule allocate volume": "001", "attach volume": "002", "copy volume to image": "003",
    "update attachment": "004", "copy image to volume": "005", "unmanage volume": "006", "extend volume": "007",
    "create volume from backend storage": "008", "create snapshot": "009", "delete snapshot": "010",
    "update snapshot": "011", "update snapshot metadata": "012", "create backup": "013", "delete backup": "014",
    "restore backup": "015", "reimage volume": "016",
}
"""Cinder's numbers of actions, in events' ids."""

_OWN = "000"
"""The number of actions that Cinder has no messages of."""

_NO_BACKEND, _OTHER = "003", "001"
"""Cinder's numbers of reasons: no place was found, and all others."""


def record(
    tx: Tx, cloud: Cloud, *, project_id: str, request_id: str, resource_type: str, resource_id: str, action: str,
    detail: str,
) -> None:
    """Keep why `action` (as "schedule allocate volume") on a VOLUME, VOLUME_SNAPSHOT or VOLUME_BACKUP has failed."""
    now = cloud.world.now()
    reason = _NO_BACKEND if action == "schedule allocate volume" else _OTHER
    tx.execute(message.insert().values(
        id=cloud.world.uuid(), project_id=project_id, request_id=request_id, resource_type=resource_type,
        resource_id=resource_id, event_id=f"VOLUME_{resource_type}_{_ACTIONS.get(action, _OWN)}_{reason}",
        level="ERROR", text=f"{action}: {detail}", created=now, expires=now + KEPT,
    ))


def purge(tx: Tx, cloud: Cloud) -> int:
    """Forget what was kept long enough; how many. Runs periodically."""
    gone: int = tx.execute(message.delete().where(message.c.expires < cloud.world.now())).rowcount
    return gone


# -- handlers

_KIND = listing.Kind(
    plural="messages", table=message, unique="id", all_tenants="message:get_all:all_tenants",
    sort={"id": message.c.id, "created_at": message.c.created, "event_id": message.c.event_id,
          "resource_type": message.c.resource_type, "request_id": message.c.request_id,
          "resource_uuid": message.c.resource_id, "message_level": message.c.level,
          "guaranteed_until": message.c.expires},
    filters={"resource_uuid": listing.text(message.c.resource_id), "request_id": listing.text(message.c.request_id),
             "resource_type": listing.text(message.c.resource_type), "event_id": listing.text(message.c.event_id),
             "message_level": listing.text(message.c.level)},
    alike={"resource_uuid": message.c.resource_id, "resource_type": message.c.resource_type,
           "event_id": message.c.event_id, "request_id": message.c.request_id, "message_level": message.c.level},
)


def index(call: Call) -> dict[str, Any]:
    """GET /messages: 200, of the caller's project."""
    found = listing.pages(call, _KIND, "/v3/messages", message.c.expires >= call.now)
    return {"messages": [_shown(call, one) for one in found.rows], **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /messages/{message_id}: 200. Members of its project may look."""
    return {"message": _shown(call, _of(call, "message:get"))}


def delete(call: Call) -> None:
    """DELETE /messages/{message_id}: 204."""
    found = _of(call, "message:delete")
    call.tx.execute(message.delete().where(message.c.id == found.id))


def _of(call: Call, rule: str) -> Any:
    message_id = call.params["message_id"]
    found = call.tx.first(sa.select(message).where(message.c.id == message_id))
    if found is None or not (call.context.is_admin or found.project_id == call.context.project_id):
        raise NotFound(f"Message {message_id} could not be found.")
    call.enforce(rule, project_id=found.project_id)
    return found


def _shown(call: Call, found: Any) -> dict[str, Any]:
    return {**MESSAGE.render(found, call.version), "links": links(call, "messages", found.id)}
