"""Servers that go to another node while they are off: migrate, and a resize for which their own node has no room.

The guest is shut down where it is and carried on at its new node. Until that is confirmed the old node keeps the guest,
which is off, and the migration holds its place there in placement, so that going back always works. Only nodes that can
take each other's guests over, disks and all, take part (`HypervisorFacts.moves`).

The steps are tasks of two nodes, so that each is sent when the one before has ended (`results`): power_off at the
source (resize_prep), build at the destination (resize_finish); then destroy at the source (resize_confirming), or
destroy at the destination and power_on at the source (resize_reverting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import (
    availability_zones,
    create,
    demand,
    lifecycle,
    migrations,
    nodes,
    orders,
    scheduler,
    servers,
    spec,
    states,
    zones,
)
from pileus.compute.schemas import FlavorFacts, Migrate
from pileus.compute.tables import server_group
from pileus.network import ports
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.results import End


def migrate(call: Call, row: Any, value: Migrate | None) -> None:
    """migrate: 202; from 2.56 to a host that is named. Raises BadRequest where no node will do."""
    states.require(call.context, row, "migrate")
    host = value.host if value is not None else None
    if host is not None:
        call.enforce("os_compute_api:os-migrate-server:migrate:host", project_id=row.project_id)
        if zones.known_host(call, host) == row.host:
            raise BadRequest(f"Cannot migrate instance {row.id} to its current host {host}: name another.")
    orders.check_up(call, row)
    try:
        begin(call, row, spec.flavor_of(row), "migration", host=host)
    except scheduler.NoValidHost as reason:
        raise BadRequest(f"No valid host was found. {reason}") from None


def begin(call: Call, row: Any, new: FlavorFacts, kind: str, host: str | None = None, **values: Any) -> None:
    """Claim on another node for the flavor `new`, and have the guest shut down where it is.

    `kind` is the migration's, `values` are more columns of the server. Raises NoValidHost; then nothing has changed."""
    uuid = call.cloud.world.uuid()
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    wish = _wish(call, row, new, host)
    with call.tx.savepoint():
        allocations.move(call.tx, call.cloud, row.id, uuid)
        chosen = scheduler.place(call.tx, call.cloud, wish, owner)
    migrations.record(call, row, kind, "migrating", new, uuid=uuid, dest=chosen.name)
    orders.begin(
        call, row, "resize" if kind == "resize" else "migrate", "compute_prep_resize", "resize_prep",
        old_flavor=row.flavor, old_vm_state=row.vm_state, progress=0, **spec.columns(new), **values,
    )
    lifecycle.power_off(call.tx, call.cloud, row, call.request_id)


def _wish(call: Call, row: Any, new: FlavorFacts, host: str | None) -> scheduler.Wish:
    source = nodes.by_name(call.tx, row.host)
    if source is None or not nodes.facts_of(source).moves:
        raise scheduler.NoValidHost(f"Node {row.host} cannot hand the disks of its guests to other nodes.")
    return scheduler.Wish(
        demand=demand.of(new, spec.facts_of(row)), zone=row.pinned_zone, host=host, avoid=frozenset({row.host}),
        group=group_of(call, row), same_host=create.ids_of(row.hints.get("same_host")),
        different_host=create.ids_of(row.hints.get("different_host")), moving=row.id,
    )


def group_of(call: Call, row: Any) -> scheduler.Group | None:
    """The server's group, as the scheduler takes it."""
    found = None
    if row.group_id:
        found = call.tx.first(sa.select(server_group).where(server_group.c.id == row.group_id))
    return create.group_of(found)


def left(end: End) -> None:
    """The guest is off at its old node: it goes on at the new one. Could it not be shut down, it stays."""
    move = migrations.newest(end.tx, end.row.id)
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating")
        _hold_again(end, move.uuid)
        old = msgspec.convert(end.row.old_flavor, FlavorFacts)
        return end.fail(end.row.old_vm_state, old_flavor=None, old_vm_state=None, **spec.columns(old))
    end.write(power_state=end.power)
    return _go(end, move.dest, "build", "resize_finish")


def turn_back(end: End) -> None:
    """The new node could not carry the guest on: what it made goes, and the guest goes on where it was."""
    migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating")
    end.write(task_state="resize_reverting", fault=orders.fault(end.error, end.now))
    end.log()
    end.then("destroy")


def confirm(call: Call, row: Any, move: Any) -> None:
    """Have the old node forget the guest; only then is the server ACTIVE or SHUTOFF again."""
    orders.check_host(call.tx, row, call.now, move.source)
    migrations.set_status(call.tx, row.id, call.now, "confirming", "finished")
    orders.begin(call, row, "confirmResize", "compute_confirm_resize", "resize_confirming")
    orders.send(call.tx, call.cloud, row, "destroy", node=move.source, request_id=call.request_id)


def confirmed(end: End) -> None:
    """The old node has forgotten the guest: its place there is free."""
    move = migrations.newest(end.tx, end.row.id)
    if end.task.node != move.source:
        return None
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "confirming")
        return end.fail(states.ERROR)
    allocations.release(end.tx, move.uuid)
    migrations.set_status(end.tx, end.row.id, end.now, "confirmed", "confirming")
    off = end.row.power_state == states.POWER["shutdown"]
    return end.settle(vm_state=states.STOPPED if off else states.ACTIVE, old_flavor=None, old_vm_state=None)


def revert(call: Call, row: Any, move: Any) -> None:
    """Have the new node forget the guest; then it goes on at the old one."""
    orders.check_host(call.tx, row, call.now, move.source)
    orders.begin(call, row, "revertResize", "compute_revert_resize", "resize_reverting")
    migrations.set_status(call.tx, row.id, call.now, "reverting", "finished")
    orders.send(call.tx, call.cloud, row, "destroy", request_id=call.request_id)


def returned(end: End) -> None:
    """The new node has forgotten the guest: it is the old node's again, which starts it if it ran before."""
    if end.task.node != end.row.host:
        return None
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "reverting")
        return end.fail(states.ERROR)
    move = migrations.newest(end.tx, end.row.id)
    _hold_again(end, move.uuid)
    end.write(**spec.columns(msgspec.convert(end.row.old_flavor, FlavorFacts)), old_flavor=None)
    if end.row.old_vm_state == states.ACTIVE:
        return _go(end, move.source, "power_on", "resize_reverting")
    _settle_at(end, move.source)
    migrations.set_status(end.tx, end.row.id, end.now, "reverted", "reverting")
    return end.settle(vm_state=states.STOPPED, power_state=states.POWER["shutdown"], old_vm_state=None)


def runs_again(end: End) -> None:
    """The old node has started the guest again."""
    status = "error" if end.error else "reverted"
    migrations.set_status(end.tx, end.row.id, end.now, status, "reverting")
    return end.fail(states.ERROR) if end.error else end.settle(vm_state=states.ACTIVE, old_vm_state=None)


def _hold_again(end: End, uuid: str) -> None:
    """The server holds what the migration has kept for it, and nothing else."""
    allocations.release(end.tx, end.row.id)
    allocations.move(end.tx, end.cloud, uuid, end.row.id, "INSTANCE")


def _settle_at(end: End, host: str) -> Any:
    """The server is on this node from now on, and so are its ports; its row."""
    ports.move(end.tx, end.cloud, end.row.id, host)
    end.write(host=host, zone=_zone(end, end.cloud, host))
    moved = servers.held(end.tx, end.row.id)
    assert moved is not None
    return moved


def _zone(end: End, cloud: Cloud, host: str) -> str:
    return availability_zones.by_host(end.tx).get(host, cloud.settings.availability_zone)


def _go(end: End, host: str, kind: str, task_state: str) -> None:
    """On to another node, which is asked for `kind`."""
    moved = _settle_at(end, host)
    end.write(task_state=task_state)
    described = orders.described(end.tx, end.cloud, moved)
    orders.send(end.tx, end.cloud, moved, kind, request_id=end.task.request_id, spec=described)
