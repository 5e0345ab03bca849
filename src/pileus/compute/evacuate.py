"""evacuate: a server whose node is down is built again on another: from its image, or on the volume that it boots from.

The disks of the node's own are out of reach, as Nova's are without shared storage; volumes are not. When the old node
comes back it removes what it still has of the guest; until then the migration holds the guest's place there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import block_devices, create, migrations, nodes, orders, scheduler, servers, spec, states, wishes
from pileus.compute.actors import Actor
from pileus.compute.schemas import Evacuate
from pileus.network import ports
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.compute.ends import End

KIND = "evacuation"


def evacuate(call: Call, row: Any, value: Evacuate) -> dict[str, str] | None:
    """evacuate: 200, with a password up to 2.13; from 2.95 on the guest stays off.

    Raises BadRequest while the server's node is up, or where no other will do."""
    states.require(call.context, row, "evacuate")
    _check(call, row, value)
    forced = value.host is not None and value.force is not UNSET and as_bool(value.force)
    version = call.version or (2, 1)
    off = row.vm_state == states.STOPPED or version >= (2, 95)
    try:
        begin(call, row, host=value.host, forced=forced, off=off)
    except scheduler.NoValidHost as reason:
        raise BadRequest(f"No valid host was found. {reason}") from None
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
    if nodes.is_up(old, moment(call.cloud)):
        raise BadRequest(f"Compute service of {row.host} is still in use.")
    _check_alone(call, row)


def _check_alone(call: Call, row: Any) -> None:
    """Raises Conflict while a live migration may have taken the guest elsewhere: its nodes are asked first."""
    if row.task_state == "migrating":
        raise Conflict(
            f"Instance {row.id} was being live-migrated when node {row.host} went down: it can be evacuated as soon as "
            "it is known where its guest is."
        )


def begin(
    by: Actor, row: Any, *, host: str | None = None, forced: bool = False, off: bool = False, purpose: str = ""
) -> None:
    """Claim on another node and have the guest built there; the old node is to remove its copy when it is back.

    The caller answers for it that the old node runs nothing. Raises NoValidHost; then nothing has changed."""
    if reason := block_devices.out_of_reach(by.tx, moment(by.cloud), *block_devices.of(by.tx, row.id)):
        raise scheduler.NoValidHost(reason)
    wish = wishes.of_server(by.tx, row, "evacuate", host=host, forced=forced, avoid=frozenset({row.host}))
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    uuid = by.cloud.world.uuid()
    with by.tx.savepoint():
        allocations.move(by.tx, by.cloud, row.id, uuid)
        chosen = scheduler.place(by.tx, by.cloud, wish, owner)
    migrations.record(by, row, KIND, "accepted", spec.flavor_of(row), uuid=uuid, dest=chosen.name, purpose=purpose)
    _order(by, row, chosen, off)


def _order(by: Actor, row: Any, chosen: scheduler.Host, off: bool) -> None:
    # What the old node was asked for before it went down is overtaken.
    orders.drop_waiting(by.tx, row.id)
    block_devices.end_detaching(by.tx, by.cloud, row, by.request_id)
    migrations.clean(by.tx, by.cloud, row, migrations.newest(by.tx, row.id), row.host, by.request_id)
    servers.change(by.tx, row.id, by.now, host=chosen.name, zone=chosen.zone)
    ports.move(by.tx, by.cloud, row.id, chosen.name)
    placed = servers.held(by.tx, row.id)
    orders.begin(
        by, placed, "evacuate", "rebuild_server", "rebuilding", progress=0, fault=None, old_flavor=None,
        rescue_image=None, old_vm_state=states.STOPPED if off else states.ACTIVE,
    )
    # With new keys, so that what may still run at the old place cannot write the volumes any more.
    if block_devices.prepare(by.tx, by.cloud, placed, by.request_id, anew=True):
        return servers.change(by.tx, row.id, by.now, task_state=block_devices.REMAPPING)
    described = orders.described(by.tx, by.cloud, servers.held(by.tx, row.id))
    return orders.send(by.tx, by.cloud, placed, "build", request_id=by.request_id, spec=described)


def ended(end: End) -> None:
    """The new node has built the guest, or could not."""
    status = "error" if end.error else "done"
    migrations.set_status(end.tx, end.row.id, end.now, status, "accepted", reason=end.error or None)
