"""Policies: opaque blobs that services may fetch. Deprecated long ago and still in clients; nothing here reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import listing
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_catalog import PolicyChange, PolicyNew
from pileus.identity.tables import policy
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def _get(tx: Tx, policy_id: str) -> Any:
    row = tx.first(sa.select(policy).where(policy.c.id == policy_id))
    if row is None:
        raise NotFound(f"Could not find policy: {policy_id}.")
    return row


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id, "type": row.type, "blob": msgspec.json.decode(row.blob), "links": links(call, "policies", row.id),
    }


def create(call: Call) -> dict[str, Any]:
    """POST /v3/policies: 201."""
    call.enforce("identity:create_policy")
    new, extra = split_extra(PolicyNew, call.body.policy)
    policy_id = call.cloud.world.hex_id()
    call.tx.execute(policy.insert().values(
        id=policy_id, type=new.type, blob=msgspec.json.encode(new.blob).decode(), extra=extra,
    ))
    return {"policy": _view(call, _get(call.tx, policy_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/policies: 200."""
    call.enforce("identity:list_policies")
    page = listing.find(call, policy, {"type": policy.c.type})
    return collection(call, "policies", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/policies/{policy_id}: 200."""
    call.enforce("identity:get_policy")
    return {"policy": _view(call, _get(call.tx, call.params["policy_id"]))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/policies/{policy_id}: 200."""
    call.enforce("identity:update_policy")
    row = _get(call.tx, call.params["policy_id"])
    same_id(call.body.policy, row.id)
    change, extra = split_extra(PolicyChange, call.body.policy)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    if change.type is not UNSET:
        values["type"] = change.type
    if change.blob is not UNSET:
        values["blob"] = msgspec.json.encode(change.blob).decode()
    call.tx.execute(policy.update().where(policy.c.id == row.id).values(**values))
    return {"policy": _view(call, _get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/policies/{policy_id}: 204."""
    call.enforce("identity:delete_policy")
    row = _get(call.tx, call.params["policy_id"])
    call.tx.execute(policy.delete().where(policy.c.id == row.id))
