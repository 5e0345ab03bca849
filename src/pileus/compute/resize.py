"""resize, confirmResize, revertResize: another flavor for a server, on its own node; `moves` has what goes to others.

Until it is confirmed the server holds the larger of both flavors in placement, so that going back always works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from pileus.compute import (
    create,
    demand,
    instance_actions,
    lifecycle,
    migrations,
    moves,
    names,
    orders,
    quotas,
    scheduler,
    servers,
    spec,
    states,
)
from pileus.compute.schemas import FlavorFacts, Resize
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


def resize(call: Call, row: Any, value: Resize) -> None:
    """resize: 202. Where its node has no room the server goes to another.

    Where none has room it stays as it is, and its action log says why."""
    states.require(call.context, row, "resize")
    new = _new_flavor(call, row, value)
    old = spec.flavor_of(row)
    quotas.room(call.tx, call.cloud, row.project_id, {
        "cores": max(0, new.vcpus - old.vcpus), "ram": max(0, new.ram - old.ram),
    }, row.user_id)
    orders.check_up(call, row)
    image = spec.facts_of(row)
    wish = scheduler.Wish(demand=demand.of(new, image), action="resize", host=row.host)
    held = demand.both(wish.demand.resources, demand.of(old, image).resources)
    disk_config = row.disk_config if value.disk_config is UNSET else value.disk_config
    try:
        _claim(call, row, wish, held)
    except scheduler.NoValidHost as here:
        try:
            return moves.begin(call, row, new, "resize", disk_config=disk_config)
        except scheduler.NoValidHost as elsewhere:
            for failed in (here, elsewhere):
                scheduler.keep(call.tx, call.cloud, row.id, failed)
            return _refuse(call, row, new, f"{here} {elsewhere}")
    migrations.record(call, row, "resize", "migrating", new)
    return _begin(call, row, new, disk_config)


def _new_flavor(call: Call, row: Any, value: Resize) -> FlavorFacts:
    try:
        new = create.flavor_facts(call, names.last_part(value.flavor))
    except NotFound as missing:
        raise BadRequest(missing.message) from None
    old = spec.flavor_of(row)
    if new.id == old.id:
        raise BadRequest("When resizing, instances must change flavor!")
    image = spec.facts_of(row)
    if image is not None:
        spec.check_fit(new, image)
    if new.disk < old.disk or new.ephemeral < old.ephemeral:
        raise BadRequest("Resize error: Unable to resize disk down: choose a flavor with disks at least as large.")
    return new


def _claim(call: Call, row: Any, wish: scheduler.Wish, held: dict[str, int]) -> None:
    """Let the server have `held` instead of what it has, which counts as free for it. Raises NoValidHost.

    Runs in a savepoint: where it fails, the server has what it had."""
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    with call.tx.savepoint():
        allocations.release(call.tx, row.id)
        scheduler.place(call.tx, call.cloud, wish, owner, held)


def _refuse(call: Call, row: Any, new: FlavorFacts, reason: str) -> None:
    message = f"No valid host was found. {reason}"
    migrations.record(call, row, "resize", "error", new)
    instance_actions.begin(call, row.id, "resize", "cold_migrate", row.host)
    instance_actions.finish(call.tx, row.id, call.request_id, call.now, message)
    servers.change(call.tx, row.id, call.now, fault=orders.fault(message, call.now))


def _begin(call: Call, row: Any, new: FlavorFacts, disk_config: str) -> None:
    orders.begin(
        call, row, "resize", "compute_prep_resize", "resize_migrating", old_flavor=row.flavor, progress=0,
        old_vm_state=row.vm_state, disk_config=disk_config, **spec.columns(new),
    )
    changed = servers.held(call.tx, row.id)
    assert changed is not None
    if row.vm_state == states.ACTIVE:
        lifecycle.power_off(call.tx, call.cloud, row, call.request_id)
    described = orders.described(call.tx, call.cloud, changed)
    orders.send(call.tx, call.cloud, row, "resize", request_id=call.request_id, spec=described)


def confirm(call: Call, row: Any, value: Any) -> None:
    """confirmResize: 204. The old flavor's claim goes; nothing is left to do on the node, but on one that was left."""
    states.require(call.context, row, "confirmResize")
    move = migrations.newest(call.tx, row.id)
    if move is not None and move.source != move.dest:
        return moves.confirm(call, row, move)
    image = spec.facts_of(row)
    settle(call.tx, call.cloud, row, demand.of(spec.flavor_of(row), image).resources)
    migrations.set_status(call.tx, row.id, call.now, "confirmed", "finished")
    vm_state = states.STOPPED if row.power_state == states.POWER["shutdown"] else states.ACTIVE
    servers.change(call.tx, row.id, call.now, vm_state=vm_state, old_flavor=None, old_vm_state=None)
    instance_actions.begin(call, row.id, "confirmResize", "compute_confirm_resize", row.host)
    instance_actions.finish(call.tx, row.id, call.request_id, call.now)
    return None


def settle(tx: Tx, cloud: Cloud, row: Any, resources: dict[str, int]) -> None:
    """Hold exactly `resources` from now on, where the server is."""
    mine = allocations.of_consumer(tx, row.id)
    for provider_id in mine:
        allocations.claim(
            tx, cloud, consumer=row.id, project_id=row.project_id, user_id=row.user_id,
            resources={provider_id: resources},
        )


def revert(call: Call, row: Any, value: Any) -> None:
    """revertResize: 202. Back to the old flavor's processors and memory; a disk that has grown keeps its size."""
    states.require(call.context, row, "revertResize")
    move = migrations.newest(call.tx, row.id)
    if move is not None and move.source != move.dest:
        return moves.revert(call, row, move)
    old = msgspec.convert(row.old_flavor, FlavorFacts)
    new = spec.flavor_of(row)
    orders.begin(
        call, row, "revertResize", "compute_revert_resize", "resize_reverting", old_flavor=row.flavor,
        **spec.columns(old),
    )
    migrations.set_status(call.tx, row.id, call.now, "reverting", "finished")
    changed = servers.held(call.tx, row.id)
    assert changed is not None
    if row.power_state != states.POWER["shutdown"]:
        lifecycle.power_off(call.tx, call.cloud, row, call.request_id)
    described = orders.described(
        call.tx, call.cloud, changed, root_gib=new.disk, ephemeral_gib=new.ephemeral, swap_mib=new.swap
    )
    orders.send(call.tx, call.cloud, row, "resize", request_id=call.request_id, spec=described)
    return None


def reverted(tx: Tx, cloud: Cloud, row: Any) -> None:
    """What a server holds after a revert: the old flavor, and the disk that it grew to."""
    image = spec.facts_of(row)
    resources = dict(demand.of(spec.flavor_of(row), image).resources)
    if row.old_flavor is not None:
        grown = demand.of(msgspec.convert(row.old_flavor, FlavorFacts), image).resources
        if grown.get("DISK_GB", 0) > resources.get("DISK_GB", 0):
            resources["DISK_GB"] = grown["DISK_GB"]
    settle(tx, cloud, row, resources)


def trim(tx: Tx, cloud: Cloud, row: Any) -> None:
    """After a rebuild the disk has the flavor's size again, whatever it had grown to."""
    wanted = dict(demand.of(spec.flavor_of(row), spec.facts_of(row)).resources)
    if any(held != wanted for held in allocations.of_consumer(tx, row.id).values()):
        settle(tx, cloud, row, wanted)
