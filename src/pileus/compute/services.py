"""Compute services: one on every node. They can be disabled, forced down, and deleted when they are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import availability_zones, migrations, nodes
from pileus.compute.schemas_rest import ServiceChange, ServiceOldChange, ServiceQuery, is_uuid
from pileus.compute.tables import aggregate_host, migration, node, server
from pileus.compute.views_rest import when
from pileus.placement import allocations, providers
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.db.engine import Tx

BINARY = "nova-compute"

_ENDED = ("completed", "confirmed", "reverted", "error", "failed", "cancelled", "done", "finished", "accepted")

_SERVICE = View(
    Field("id", lambda pair: pair[0].seq, until=(2, 52)), Field("id", lambda pair: pair[0].id, since=(2, 53)),
    Field("binary", lambda pair: BINARY), Field("host", lambda pair: pair[0].name),
    Field("zone", lambda pair: pair[1]),
    Field("status", lambda pair: "disabled" if pair[0].disabled else "enabled"),
    Field("state", lambda pair: "up" if pair[2] else "down"),
    Field("updated_at", lambda pair: when(pair[0].seen)),
    Field("disabled_reason", lambda pair: pair[0].disabled_reason),
    Field("forced_down", lambda pair: pair[0].forced_down, since=(2, 11)),
)


def index(call: Call) -> dict[str, Any]:
    """GET /os-services: 200."""
    query: ServiceQuery = call.query
    statement = sa.select(node).order_by(node.c.seq)
    if query.host:
        statement = statement.where(node.c.name == query.host)
    if query.binary and query.binary != BINARY:
        return {"services": []}
    return {"services": _SERVICE.render_all(_with_zone(call, call.tx.all(statement)), call.version)}


def _with_zone(call: Call, rows: Any) -> list[tuple[Any, str, bool]]:
    zones = availability_zones.by_host(call.tx)
    default = call.cloud.settings.availability_zone
    now = moment(call.cloud)
    return [(row, zones.get(row.name, default), nodes.is_up(row, now)) for row in rows]


def update_old(call: Call) -> dict[str, Any]:
    """PUT /os-services/{service_id} up to 2.52, where the id is enable, disable, disable-log-reason or force-down."""
    body: ServiceOldChange = call.body
    action = call.params["service_id"]
    values: dict[str, Any]
    if action == "enable":
        values = {"disabled": False, "disabled_reason": None}
    elif action == "disable":
        values = {"disabled": True, "disabled_reason": None}
    elif action == "disable-log-reason":
        if body.disabled_reason is UNSET:
            raise BadRequest("Missing disabled reason field.")
        values = {"disabled": True, "disabled_reason": body.disabled_reason}
    elif action == "force-down" and call.version is not None and call.version >= (2, 11):
        if body.forced_down is UNSET:
            raise BadRequest("Missing forced_down field.")
        values = {"forced_down": as_bool(body.forced_down)}
    else:
        raise NotFound(f"Unknown action {action}.")
    if body.binary != BINARY:
        raise BadRequest(f"Updating a {body.binary} service is not supported. Only {BINARY} services can be updated.")
    row = nodes.by_name(call.tx, body.host)
    if row is None:
        raise NotFound(f"Could not find binary {BINARY} on host {body.host}.")
    change(call, row, values)
    said: dict[str, Any] = {"host": body.host, "binary": body.binary}
    if "forced_down" in values:
        return {"service": {**said, "forced_down": values["forced_down"]}}
    said["status"] = "disabled" if values["disabled"] else "enabled"
    if values["disabled_reason"]:
        said["disabled_reason"] = values["disabled_reason"]
    return {"service": said}


def update(call: Call) -> dict[str, Any]:
    """PUT /os-services/{service_id} from 2.53 on: 200."""
    body: ServiceChange = call.body
    row = _find(call)
    values: dict[str, Any] = {}
    if body.status == "enabled":
        if body.disabled_reason is not UNSET:
            raise BadRequest("Specifying 'disabled_reason' with status 'enabled' is invalid.")
        values = {"disabled": False, "disabled_reason": None}
    elif body.status == "disabled":
        reason = None if body.disabled_reason is UNSET else body.disabled_reason
        values = {"disabled": True, "disabled_reason": reason}
    if body.forced_down is not UNSET:
        values["forced_down"] = as_bool(body.forced_down)
    if not values:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    change(call, row, values)
    return {"service": _SERVICE.render(_with_zone(call, [_find(call)])[0], call.version)}


def _find(call: Call) -> Any:
    wanted = call.params["service_id"]
    if call.version is not None and call.version >= (2, 53):
        if not is_uuid(wanted):
            raise BadRequest(f"Invalid uuid {wanted}.")
        row = call.tx.first(sa.select(node).where(node.c.id == wanted))
    else:
        if not wanted.isascii() or not wanted.isdigit() or len(wanted) > 18:
            raise BadRequest(f"id must be an integer, not {wanted}.")
        row = call.tx.first(sa.select(node).where(node.c.seq == int(wanted)))
    if row is None:
        raise NotFound(f"Service {wanted} not found.")
    return row


def change(call: Call, row: Any, values: dict[str, Any]) -> None:
    """Set columns of a node; placement learns whether it is enabled."""
    call.tx.execute(node.update().where(node.c.id == row.id).values(updated=call.now, **values))
    fresh = nodes.by_name(call.tx, row.name)
    if "disabled" in values and values["disabled"] != row.disabled and fresh is not None:
        nodes.publish(call.tx, call.cloud, fresh)


def delete(call: Call) -> None:
    """DELETE /os-services/{service_id}: 204. Raises Conflict while the node has servers or migrations."""
    _forget(call.tx, _find(call))


def forget(tx: Tx, name: str, *, force: bool) -> None:
    """A node is no part of the cloud any more: its service, hypervisor and provider go. Raises Conflict as `delete`.

    With `force` a node that still has servers keeps them, forced down, so that they can be evacuated or deleted."""
    row = nodes.by_name(tx, name)
    if row is None:
        return
    try:
        _forget(tx, row)
    except Conflict:
        if not force:
            raise
        tx.execute(node.update().where(node.c.id == row.id).values(forced_down=True))


def _forget(tx: Tx, row: Any) -> None:
    here = sa.select(server.c.id).where(server.c.host == row.name, server.c.deleted.is_(False)).limit(1)
    if tx.first(here) is not None:
        raise Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
        )
    moving = sa.select(migration.c.id).where(
        sa.or_(migration.c.source == row.name, migration.c.dest == row.name), migration.c.status.not_in(_ENDED)
    ).limit(1)
    if tx.first(moving) is not None:
        raise Conflict("Unable to delete compute service that has in-progress migrations. "
                       "Complete the migrations or delete the instances first.")
    for move in tx.all(sa.select(migration).where(migration.c.to_clean == row.name)):
        # With the node goes what it still had of guests that are elsewhere.
        if move.source == row.name:
            allocations.release(tx, move.uuid)
        after = migrations.COMPLETED if move.status == "done" else move.status
        migrations.change(tx, move, move.updated, to_clean=None, status=after)
    tx.execute(aggregate_host.delete().where(aggregate_host.c.host == row.name))
    providers.remove(tx, row.id)
    tx.execute(node.delete().where(node.c.id == row.id))
