"""Transfers: a project offers a volume, and whoever knows the key takes it into his own.

What the key is is told once, when the offer is made; its digest alone is kept."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import listing, snapshots, states, usage, volume_types, volumes
from pileus.volume.schemas_rest import TransferNew
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import transfer
from pileus.volume.views import links
from pileus.volume.views_rest import TRANSFER, TRANSFER_SHORT
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool

OFFERED = "awaiting-transfer"
"""The status of a volume that is offered."""

_KIND = listing.Kind(
    plural="transfers", table=transfer, unique="id", all_tenants="volume:get_all_transfers:all_tenants",
    sort={"id": transfer.c.id, "name": transfer.c.name, "created_at": transfer.c.created,
          "volume_id": transfer.c.volume_id},
    filters={"name": listing.text(transfer.c.name), "volume_id": listing.text(transfer.c.volume_id)},
    alike={"name": transfer.c.name}, beside=frozenset({"is_public"}),
)


def index(call: Call) -> dict[str, Any]:
    """GET /volume-transfers: 200, what the caller's project offers."""
    return _list(call, TRANSFER_SHORT)


def detail(call: Call) -> dict[str, Any]:
    """GET /volume-transfers/detail: 200."""
    return _list(call, TRANSFER)


def _list(call: Call, view: Any) -> dict[str, Any]:
    found = listing.pages(call, _KIND, call.path)
    return {
        "transfers": [{**view.render(one, call.version), "links": _links(call, one.id)} for one in found.rows],
        **found.beside,
    }


def show(call: Call) -> dict[str, Any]:
    """GET /volume-transfers/{transfer_id}: 200. The project that offers it may look."""
    return {"transfer": _shown(call, _own(call, "volume:get_transfer"))}


def create(call: Call) -> dict[str, Any]:
    """POST /volume-transfers: 202, with the key. The volume is nobody's to change until then."""
    body: TransferNew = call.body.transfer
    found = volumes.visible(call, body.volume_id, "volume:create_transfer", hold=True)
    states.require(found, {states.AVAILABLE}, "offer it")
    if found.group_id is not None:
        raise BadRequest(f"Invalid volume: Volume {found.id} is in group {found.group_id}; take it out of that first.")
    key = call.cloud.world.secret(16)
    transfer_id = call.cloud.world.uuid()
    volumes.change(call.tx, call.cloud, found.id, status=OFFERED)
    # The API before 3.55 left a volume's snapshots where they were.
    alone = (call.version or (3, 0)) < (3, 55) if body.no_snapshots is UNSET else as_bool(body.no_snapshots)
    call.tx.execute(transfer.insert().values(
        id=transfer_id, volume_id=found.id, project_id=found.project_id, name=body.name, digest=_digest(key),
        no_snapshots=alone, created=call.now,
    ))
    made = _find(call, transfer_id)
    return {"transfer": {**_shown(call, made), "auth_key": key}}


def accept(call: Call) -> dict[str, Any]:
    """POST /volume-transfers/{transfer_id}/accept: 202. Whoever knows the key may take it into his project.

    Raises OverLimit when that may not have it, BadRequest for a wrong key or a type that it does not see."""
    offer = _find(call, call.params["transfer_id"])
    if not hmac.compare_digest(_digest(call.body.accept.auth_key), offer.digest):
        raise BadRequest("Invalid auth key: Attempt to transfer volume with an invalid auth key.")
    found = volumes.held(call.tx, offer.volume_id)
    if found is None or found.status != OFFERED:
        raise BadRequest(f"Invalid volume: Volume {offer.volume_id} is not offered any more.")
    project_id = call.context.project_id or ""
    if found.type_id is not None and not volume_types.sees(call.tx, project_id, found.type_id):
        raise BadRequest(f"Invalid volume: the type of volume {found.id} is private, and your project has no access.")
    _take(call, offer, found, project_id)
    return {"transfer": {**TRANSFER_SHORT.render(offer, call.version), "links": _links(call, offer.id)}}


def _take(call: Call, offer: Any, found: Any, project_id: str) -> None:
    taken = [] if offer.no_snapshots else call.tx.all(sa.select(snapshot).where(snapshot.c.volume_id == found.id))
    if found.project_id != project_id:
        usage.room(call.tx, call.cloud, project_id, found.type_id, volumes=1, snapshots=len(taken),
                   gigabytes=found.size + sum(one.size for one in taken))
    owner = {"project_id": project_id, "user_id": call.context.user_id}
    volumes.change(call.tx, call.cloud, found.id, status=states.AVAILABLE, **owner)
    for one in taken:
        snapshots.change(call.tx, call.cloud, one.id, **owner)
    call.tx.execute(transfer.delete().where(transfer.c.id == offer.id))


def delete(call: Call) -> None:
    """DELETE /volume-transfers/{transfer_id}: 202. The volume is its project's as before."""
    offer = _own(call, "volume:delete_transfer")
    back = volume.c.id == offer.volume_id, volume.c.status == OFFERED
    call.tx.execute(volume.update().where(*back).values(status=states.AVAILABLE, changed=call.now, updated=call.now))
    call.tx.execute(transfer.delete().where(transfer.c.id == offer.id))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _find(call: Call, transfer_id: str) -> Any:
    found = call.tx.first(sa.select(transfer).where(transfer.c.id == transfer_id).with_for_update())
    if found is None:
        raise NotFound(f"Transfer {transfer_id} could not be found.")
    return found


def _own(call: Call, rule: str) -> Any:
    found = call.tx.first(sa.select(transfer).where(transfer.c.id == call.params["transfer_id"]))
    if found is None or not (call.context.is_admin or found.project_id == call.context.project_id):
        raise NotFound(f"Transfer {call.params['transfer_id']} could not be found.")
    call.enforce(rule, project_id=found.project_id)
    return found


def _links(call: Call, transfer_id: str) -> list[dict[str, str]]:
    return links(call, "volume-transfers" if "volume-transfers" in call.path else "os-volume-transfer", transfer_id)


def _shown(call: Call, found: Any) -> dict[str, Any]:
    return {**TRANSFER.render(found, call.version), "links": _links(call, found.id)}
