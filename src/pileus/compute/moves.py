"""Servers that go to another node while they are off: migrate, and a resize for which their own node has no room.

The guest is shut down where it is and carried on at its new node. Until that is confirmed the old node keeps the guest,
which is off, and the migration holds its place there in placement, so that going back always works. Only nodes that can
take each other's guests over, disks and all, take part (`HypervisorFacts.moves`).

The steps are tasks of two nodes, so that each is sent when the one before has ended (`results`):

    resize_prep        power_off at the source
    resize_migrating   export_disks at the source
    resize_finish      build at the destination, from the disks that the source gives out (fetch_disks for a guest that
                       was off, and stays off); then end_export at the source
    resize_confirming  destroy at the source; one that is down then does it when it is back
    resize_reverting   destroy at the destination, power_on at the source

A guest is started at the source again only when the destination has said that it has none: while that node is down the
server waits, until it is back or is forced down (`go_back`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster.liveness import moment
from pileus.compute import (
    availability_zones,
    ends,
    instance_actions,
    lifecycle,
    migrations,
    nodes,
    orders,
    scheduler,
    servers,
    spec,
    states,
    wishes,
    zones,
)
from pileus.compute.actors import Actor
from pileus.compute.schemas import FlavorFacts, Migrate
from pileus.network import ports
from pileus.placement import allocations
from pileus.volume import attachments
from pileus.web.call import Call
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.ends import End
    from pileus.db.engine import Tx


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


def begin(
    by: Actor, row: Any, new: FlavorFacts, kind: str, host: str | None = None, purpose: str = "", **values: Any
) -> None:
    """Claim on another node for the flavor `new`, and have the guest shut down where it is.

    `kind` is the migration's, `values` are more columns of the server. Raises NoValidHost; then nothing has changed."""
    uuid = by.cloud.world.uuid()
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    wish = _wish(by, row, new, host)
    with by.tx.savepoint():
        allocations.move(by.tx, by.cloud, row.id, uuid)
        chosen = scheduler.place(by.tx, by.cloud, wish, owner)
    migrations.record(by, row, kind, "migrating", new, uuid=uuid, dest=chosen.name, purpose=purpose)
    orders.begin(
        by, row, "resize" if kind == "resize" else "migrate", "compute_prep_resize", "resize_prep",
        old_flavor=row.flavor, old_vm_state=row.vm_state, progress=0, **spec.columns(new), **values,
    )
    lifecycle.power_off(by.tx, by.cloud, row, by.request_id)


def _wish(by: Actor, row: Any, new: FlavorFacts, host: str | None) -> scheduler.Wish:
    source = nodes.by_name(by.tx, row.host)
    if source is None or not nodes.facts_of(source).moves:
        raise scheduler.NoValidHost(f"Node {row.host} cannot hand the disks of its guests to other nodes.")
    action = "migrate" if new == spec.flavor_of(row) else "resize"
    return wishes.of_server(by.tx, row, action, new, host=host, avoid=frozenset({row.host}), moving=row.id)


def left(end: End) -> None:
    """The guest is off at its old node, which gives out its disks. Could it not be shut down, it stays."""
    move = migrations.newest(end.tx, end.row.id)
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating", reason=end.error)
        _hold_again(end, move.uuid)
        return end.fail(end.row.old_vm_state, **_old_shape(end.row), old_vm_state=None)
    end.write(power_state=end.power, task_state="resize_migrating")
    return end.then("export_disks")


def exported(end: End) -> None:
    """The old node gives out the disks: the guest goes on at the new one. If not, it goes on where it is."""
    move = migrations.newest(end.tx, end.row.id)
    if not end.error:
        limit = orders.patience(end.cloud, end.row)
        kind = "build" if end.row.old_vm_state == states.ACTIVE else "fetch_disks"
        return _go(end, move.dest, kind, "resize_finish", source=end.done.source, deadline=limit)
    migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating", reason=end.error)
    end.write(fault=orders.fault(end.error, end.now))
    end.log()
    return _at_source(end, move)


def _old_shape(row: Any) -> dict[str, Any]:
    """The columns of the flavor that the server had before."""
    return {**spec.columns(msgspec.convert(row.old_flavor, FlavorFacts)), "old_flavor": None}


def arrived(end: End) -> None:
    """The new node has the guest: the old one need not give out its disks any more."""
    move = migrations.newest(end.tx, end.row.id)
    orders.send(end.tx, end.cloud, end.row, "end_export", node=move.source, request_id=end.task.request_id)


def turn_back(end: End) -> None:
    """The new node could not carry the guest on: what it made goes, and the guest goes on where it was."""
    move = migrations.newest(end.tx, end.row.id)
    migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating", reason=end.error)
    text = end.error
    if not end.is_up(move.dest):
        text += (
            f"; the server goes on at node {move.source} as soon as node {move.dest} is back and has removed it, "
            "or is forced down"
        )
    end.write(task_state="resize_reverting", fault=orders.fault(text, end.now))
    end.log()
    end.then("destroy", deadline=orders.UNTIL_BACK)


def confirm(by: Actor, row: Any, move: Any) -> None:
    """Have the old node forget the guest; only then is the server ACTIVE or SHUTOFF again. One that is down is not
    waited for."""
    source = nodes.by_name(by.tx, move.source)
    migrations.set_status(by.tx, row.id, by.now, "confirming", "finished")
    orders.begin(by, row, "confirmResize", "compute_confirm_resize", "resize_confirming")
    if source is None or not nodes.is_up(source, moment(by.cloud)):
        return _confirm_without(ends.without_task(by.tx, by.cloud, row, by.request_id), move)
    return orders.send(by.tx, by.cloud, row, "destroy", node=move.source, request_id=by.request_id)


def confirmed(end: End) -> None:
    """The old node has forgotten the guest: its place there is free."""
    move = migrations.newest(end.tx, end.row.id)
    if end.task.node != move.source:
        return None
    if end.error and not end.is_up(move.source):
        end.error = ""
        return _confirm_without(end, move)
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "confirming", reason=end.error)
        return end.fail(states.ERROR)
    allocations.release(end.tx, move.uuid)
    return _confirm(end)


def _confirm_without(end: End, move: Any) -> None:
    """The old node is down: it forgets the guest when it is back."""
    migrations.clean(end.tx, end.cloud, end.row, move, move.source, end.task.request_id)
    _confirm(end)


def _confirm(end: End) -> None:
    migrations.set_status(end.tx, end.row.id, end.now, "confirmed", "confirming")
    off = end.row.power_state == states.POWER["shutdown"]
    end.settle(
        vm_state=states.STOPPED if off else states.ACTIVE, old_flavor=None, old_vm_state=None,
        power_state=end.row.power_state,
    )


def revert(by: Actor, row: Any, move: Any) -> None:
    """Have the new node forget the guest; then it goes on at the old one."""
    orders.check_host(by.tx, row, moment(by.cloud), move.source)
    orders.begin(by, row, "revertResize", "compute_revert_resize", "resize_reverting")
    migrations.set_status(by.tx, row.id, by.now, "reverting", "finished")
    orders.send(by.tx, by.cloud, row, "destroy", request_id=by.request_id, deadline=orders.UNTIL_BACK)


def returned(end: End) -> None:
    """The new node has forgotten the guest: it is the old node's again, which starts it if it ran before."""
    if end.task.node != end.row.host:
        return None
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "reverting", reason=end.error)
        return end.fail(states.ERROR)
    return _at_source(end, migrations.newest(end.tx, end.row.id))


def undo_without(by: Actor, row: Any) -> bool:
    """Revert what waits to be confirmed, where the new node is known to run nothing. False: it has not moved."""
    move = migrations.newest(by.tx, row.id)
    if move is None or move.source == move.dest or row.host != move.dest:
        return False
    orders.begin(by, row, "revertResize", "compute_revert_resize", "resize_reverting", reachable=False)
    migrations.set_status(by.tx, row.id, by.now, "reverting", "finished")
    migrations.clean(by.tx, by.cloud, row, move, row.host, by.request_id)
    _at_source(ends.without_task(by.tx, by.cloud, row, by.request_id), move)
    return True


def go_back(tx: Tx, cloud: Cloud, row: Any) -> bool:
    """The same for a server that waits for a node which has been forced down. False: it waits for no such node."""
    move = migrations.newest(tx, row.id)
    if move is None or row.host != move.dest or move.source == move.dest:
        return False
    end = ends.without_task(tx, cloud, row, instance_actions.open_request(tx, row.id, "revertResize"))
    if not end.given_up(row.host):
        return False
    migrations.change(tx, move, end.now, to_clean=row.host)
    _at_source(end, move)
    return True


def _at_source(end: End, move: Any) -> None:
    """Nothing of the guest is left at the new node."""
    _hold_again(end, move.uuid)
    end.write(**_old_shape(end.row))
    if end.row.old_vm_state == states.ACTIVE:
        return _go(end, move.source, "power_on", "resize_reverting")
    _settle_at(end, move.source)
    orders.send(end.tx, end.cloud, end.row, "end_export", node=move.source, request_id=end.task.request_id)
    migrations.set_status(end.tx, end.row.id, end.now, "reverted", "reverting")
    end.error = ""
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
    attachments.moved(end.tx, end.row.id, host)
    end.write(host=host, zone=_zone(end, end.cloud, host))
    moved = servers.held(end.tx, end.row.id)
    assert moved is not None
    return moved


def _zone(end: End, cloud: Cloud, host: str) -> str:
    return availability_zones.by_host(end.tx).get(host, cloud.settings.availability_zone)


def _go(end: End, host: str, kind: str, task_state: str, **arguments: Any) -> None:
    """On to another node, which is asked for `kind`."""
    moved = _settle_at(end, host)
    end.write(task_state=task_state)
    described = orders.described(end.tx, end.cloud, moved)
    orders.send(end.tx, end.cloud, moved, kind, request_id=end.task.request_id, spec=described, **arguments)
