"""evacuate: a server whose node is down is built again on another, from its image.

The disks that it had are out of reach, as Nova's are without shared storage. When the old node comes back it removes
what it still has of the guest; until then the migration holds the guest's place there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from pileus.compute import create, demand, migrations, moves, nodes, orders, scheduler, servers, spec, states
from pileus.compute.schemas import Evacuate
from pileus.network import ports
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.compute.results import End

KIND = "evacuation"


def evacuate(call: Call, row: Any, value: Evacuate) -> dict[str, str] | None:
    """evacuate: 200, with a password up to 2.13; from 2.95 on the guest stays off.

    Raises BadRequest while the server's node is up, or where no other will do."""
    states.require(call.context, row, "evacuate")
    _check(call, row, value)
    wish = scheduler.Wish(
        demand=demand.of(spec.flavor_of(row), spec.facts_of(row)), zone=row.pinned_zone, host=value.host,
        forced=value.host is not None and value.force is not UNSET and as_bool(value.force),
        avoid=frozenset({row.host}), group=moves.group_of(call, row),
        same_host=create.ids_of(row.hints.get("same_host")),
        different_host=create.ids_of(row.hints.get("different_host")),
    )
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    uuid = call.cloud.world.uuid()
    try:
        with call.tx.savepoint():
            allocations.move(call.tx, call.cloud, row.id, uuid)
            chosen = scheduler.place(call.tx, call.cloud, wish, owner)
    except scheduler.NoValidHost as reason:
        raise BadRequest(f"No valid host was found. {reason}") from None
    migrations.record(call, row, KIND, "accepted", spec.flavor_of(row), uuid=uuid, dest=chosen.name)
    _begin(call, row, chosen)
    version = call.version or (2, 1)
    given = None if value.admin_pass is UNSET else value.admin_pass
    return {"adminPass": given or create.new_password(UNSET)} if version < (2, 14) else None


def _check(call: Call, row: Any, value: Evacuate) -> None:
    if value.host is not None:
        if nodes.by_name(call.tx, value.host) is None:
            raise NotFound(f"Compute host {value.host} not found.")
        if value.host == row.host:
            raise BadRequest("The target host can't be the same one.")
    version = call.version or (2, 1)
    if version < (2, 14):
        if value.on_shared_storage is UNSET:
            raise BadRequest("Invalid input for evacuate: onSharedStorage is missing.")
        if as_bool(value.on_shared_storage):
            raise BadRequest("Disks of guests are not on shared storage: evacuate with onSharedStorage false.")
    old = nodes.by_name(call.tx, row.host) if row.host else None
    if old is None:
        raise Conflict(f"Instance {row.id} is not on any host.")
    if nodes.is_up(old, call.now):
        raise BadRequest(f"Compute service of {row.host} is still in use.")


def _begin(call: Call, row: Any, chosen: scheduler.Host) -> None:
    # What the old node was asked for before it went down is overtaken.
    orders.drop_waiting(call.tx, row.id)
    orders.send(
        call.tx, call.cloud, row, "destroy", request_id=call.request_id, deadline=orders.UNTIL_BACK
    )
    stopped = row.vm_state == states.STOPPED or (call.version or (2, 1)) >= (2, 95)
    servers.change(call.tx, row.id, call.now, host=chosen.name, zone=chosen.zone)
    ports.move(call.tx, call.cloud, row.id, chosen.name)
    placed = servers.held(call.tx, row.id)
    orders.begin(
        call, placed, "evacuate", "rebuild_server", "rebuilding", progress=0, fault=None, old_flavor=None,
        old_vm_state=states.STOPPED if stopped else states.ACTIVE,
    )
    described = orders.described(call.tx, call.cloud, placed)
    orders.send(call.tx, call.cloud, placed, "build", request_id=call.request_id, spec=described)


def ended(end: End) -> None:
    """The new node has built the guest, or could not."""
    migrations.set_status(end.tx, end.row.id, end.now, "error" if end.error else "done", "accepted")


def cleaned(end: End) -> bool:
    """An old node is back and has removed what it had of the guest: its place there is free. False: it was no old node.

    The server may even be on that node again by now, so that this tells such a removal from any other."""
    found = migrations.open_from(end.tx, end.row.id, KIND, end.task.node)
    for move in found:
        allocations.release(end.tx, move.uuid)
        migrations.complete(end.tx, move, end.now)
    return bool(found)
