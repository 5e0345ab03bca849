"""Live migration: a server goes to another node while it runs.

The steps are tasks of two nodes, each sent when the one before has ended; a process may be killed at any of them:

    preparing        the source tells how the guest's machine is put together (`layout`), and the destination makes
                     ready for it (`take_in`); its ports are wired there too
    running          the source sends the guest (`send`)
    post-migrating   it runs at the destination, which is the server's node from now on (`taken`); the source removes
                     what it has left (`destroy`), whenever it is there to do it
    completed, error, cancelled

The server's claim is the destination's from the start, and the migration holds its place at the source until that is
clean, so that neither can be taken by others. When `send` ends without success, or a node is lost, it is not guessed
where the guest is: `standing` asks both nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import (
    availability_zones,
    compatible,
    devices,
    instance_actions,
    migrations,
    nodes,
    orders,
    power,
    scheduler,
    servers,
    spec,
    standing,
    states,
    wishes,
    zones,
)
from pileus.compute.actors import Actor
from pileus.compute.migrations import LIVE
from pileus.compute.schemas import LiveMigrate
from pileus.network import ports
from pileus.placement import allocations
from pileus.volume import attachments
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.ends import End
    from pileus.db.engine import Tx
    from pileus.node.contract import MoveTarget

_SYNCHRONOUS_BELOW = (2, 34)


class Refused(Exception):
    """It cannot be live-migrated so. `str()` tells why."""


# -- the request


def migrate(call: Call, row: Any, value: LiveMigrate) -> None:
    """os-migrateLive: 202. Where no node will do: 400 up to 2.33, later the migration is an error that says why."""
    version = call.version or (2, 1)
    force = value.force is not UNSET and as_bool(value.force)
    if force and value.host is None:
        raise BadRequest("Can't force to a non-provided destination")
    if version < (2, 25) and value.disk_over_commit is UNSET:
        raise BadRequest("Invalid input for os-migrateLive: disk_over_commit is missing.")
    if version < (2, 25) and value.block_migration == "auto":
        raise BadRequest("Invalid input for os-migrateLive: block_migration is true or false.")
    states.require(call.context, row, "liveMigrate", "os-migrateLive")
    if value.host is not None:
        call.enforce("os_compute_api:os-migrate-server:migrate_live:host", project_id=row.project_id)
        zones.known_host(call, value.host)
    try:
        _check_disks(call.tx, row, value)
        begin(call, row, value.host, forced=force or (value.host is not None and version < (2, 30)))
    except Refused as reason:
        if version < _SYNCHRONOUS_BELOW:
            raise BadRequest(str(reason)) from None
        scheduler.keep(call.tx, call.cloud, row.id, reason)
        _failed_at_once(call, row, value.host, str(reason))


def has_local_disks(tx: Tx, row: Any) -> bool:
    """Whether a server has disks beside its volumes."""
    image = spec.facts_of(row)
    local = devices.local_sizes(spec.flavor_of(row), devices.of_server(tx, row.id))
    return image is None or not image.volume or any(local)


def _check_disks(tx: Tx, row: Any, value: LiveMigrate) -> None:
    """Only block migration carries disks of the node's own."""
    if has_local_disks(tx, row) and value.block_migration != "auto" and not as_bool(value.block_migration):
        raise Refused(
            f"{row.host} is not on shared storage: Shared storage live-migration requires either shared storage or "
            "boot-from-volume with no local disks. Migrate with block_migration true."
        )


def begin(by: Actor, row: Any, host: str | None = None, *, forced: bool = False, purpose: str = "") -> None:
    """Claim at the destination and have it make ready. Raises Refused; then nothing has changed."""
    tx, cloud = by.tx, by.cloud
    source = nodes.by_name(tx, row.host)
    if source is None or not nodes.is_up(source, moment(cloud)):
        raise Refused(f"Compute service of {row.host} is unavailable at this time.")
    if host == row.host:
        raise Refused(f"Unable to migrate instance ({row.id}) to current host ({host}).")
    unfit = compatible.unfit(tx, source)
    if host in unfit:
        raise Refused(f"Node {host} cannot take in a guest that runs on {row.host}: {unfit[host]}.")
    uuid = cloud.world.uuid()
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    wish = wishes.of_server(
        tx, row, "live-migrate", host=host, forced=forced, avoid=frozenset({row.host}), unfit=unfit, moving=row.id,
    )
    try:
        with tx.savepoint():
            allocations.move(tx, cloud, row.id, uuid)
            chosen = scheduler.place(tx, cloud, wish, owner)
    except scheduler.NoValidHost as reason:
        raise Refused(f"No valid host was found. {reason}") from None
    flavor = spec.flavor_of(row)
    migrations.record(by, row, LIVE, "preparing", flavor, uuid=uuid, dest=chosen.name, purpose=purpose)
    orders.begin(by, row, LIVE, "compute_live_migration", "migrating", progress=0)
    ports.prepare_move(tx, cloud, row.id, chosen.name)
    orders.send(tx, cloud, row, "layout", request_id=by.request_id)


def _failed_at_once(call: Call, row: Any, host: str | None, reason: str) -> None:
    migrations.record(call, row, LIVE, "error", spec.flavor_of(row), dest=host, reason=reason)
    instance_actions.begin(call, row.id, LIVE, "conductor_live_migrate_instance", row.host)
    instance_actions.finish(call.tx, row.id, call.request_id, call.now, reason)
    servers.change(call.tx, row.id, call.now, fault=orders.fault(reason, call.now))


# -- its steps, as the nodes tell that they are done


def laid_out(end: End) -> None:
    """The source has told how the machine is put together: the destination makes the very same."""
    move = migrations.newest(end.tx, end.row.id)
    if move is None or (move.kind, move.status, move.source) != (LIVE, "preparing", end.task.node):
        return None
    if end.error:
        return stays(end, move, end.error)
    return orders.send(
        end.tx, end.cloud, end.row, "take_in", node=move.dest, request_id=end.task.request_id,
        spec=orders.described(end.tx, end.cloud, end.row), layout=end.done.layout,
    )


def ready(end: End) -> None:
    """The destination waits for the guest: the source sends it."""
    move = migrations.newest(end.tx, end.row.id)
    if move is None or (move.kind, move.status, move.dest) != (LIVE, "preparing", end.task.node):
        return None
    target = end.done.target
    if end.error or target is None:
        return stays(end, move, end.error or f"node {move.dest} did not say where it takes the guest in")
    return send(end, move, target)


def send(end: End, move: Any, target: MoveTarget) -> None:
    """Have the source send the guest. Told again it says how it has ended, or goes on."""
    migrations.change(end.tx, move, end.now, status="running", sends=move.sends + 1)
    orders.send(
        end.tx, end.cloud, end.row, "send", node=move.source, request_id=end.task.request_id, target=target,
        deadline=orders.patience(end.cloud, end.row),
    )


def sent(end: End) -> None:
    """The source has sent the guest. If not, both nodes are asked where it is: a broken-off task tells nothing."""
    move = migrations.newest(end.tx, end.row.id)
    if move is None or (move.kind, move.status, move.source) != (LIVE, "running", end.task.node):
        return None
    if not end.error:
        return goes(end, move)
    migrations.change(end.tx, move, end.now, reason=end.error)
    return standing.ask(end.tx, end.cloud, end.row, move, end.task.request_id, target=end.args.target)


def goes(end: End, move: Any) -> None:
    """The guest runs at the destination."""
    tx, cloud, row = end.tx, end.cloud, end.row
    orders.drop_steps(tx, row.id, "send")
    zone = availability_zones.by_host(tx).get(move.dest, cloud.settings.availability_zone)
    servers.change(tx, row.id, end.now, host=move.dest, zone=zone, progress=100)
    ports.move(tx, cloud, row.id, move.dest)
    attachments.moved(tx, row.id, move.dest)
    migrations.change(tx, move, end.now, status="post-migrating", reason=None)
    moved = servers.held(tx, row.id)
    described = orders.described(tx, cloud, moved)
    orders.send(tx, cloud, moved, "taken", request_id=end.task.request_id, spec=described)
    migrations.clean(tx, cloud, moved, move, move.source, end.task.request_id)


def arrived(end: End) -> None:
    """The destination has settled the guest. That it could not close what the move needed does not undo the move."""
    move = migrations.newest(end.tx, end.row.id)
    if move is not None and (move.kind, move.status, move.dest) == (LIVE, "post-migrating", end.task.node):
        migrations.change(end.tx, move, end.now, status=migrations.COMPLETED, reason=end.error or None)
    if end.error:
        return end.fail()
    return end.settle(fault=None, vm_state=_vm_state(end, end.done.guest.power if end.done.guest else ""))


def _vm_state(end: End, said: str) -> str:
    return power.vm_state(end.row.vm_state, said) if said else str(end.row.vm_state)


def stays(end: End, move: Any, reason: str, said: str = "") -> None:
    """The guest is at the source, as it was: what was done at the destination is undone.

    `said`: the guest's power as the source tells it, where it was asked."""
    tx, cloud, row = end.tx, end.cloud, end.row
    orders.drop_steps(tx, row.id, "layout", "take_in", "send")
    allocations.release(tx, row.id)
    allocations.move(tx, cloud, move.uuid, row.id, "INSTANCE")
    ports.abandon_move(tx, cloud, row.id)
    aborted = move.wanted == "abort"
    migrations.change(tx, move, end.now, status="cancelled" if aborted else "error", reason=reason)
    migrations.clean(tx, cloud, row, move, move.dest, end.task.request_id)
    values: dict[str, Any] = {"task_state": None, "progress": 0, "vm_state": _vm_state(end, said)}
    if said:
        values["power_state"] = states.POWER.get(said, 0)
    if not aborted:
        values["fault"] = orders.fault(reason, end.now)
    end.write(**values)
    instance_actions.finish(tx, row.id, end.task.request_id, end.now, reason)


def hasten(tx: Tx, cloud: Cloud, row: Any) -> None:
    """One of the nodes of a migration is down: not its task's deadline is waited for, but both are asked at once."""
    move = migrations.newest(tx, row.id)
    if move is None or move.kind != LIVE or move.status not in ("preparing", "running"):
        return
    now = cloud.world.now()
    ends = [nodes.by_name(tx, name) for name in (move.source, move.dest)]
    if all(found is not None and nodes.is_up(found, moment(cloud)) for found in ends) or standing.is_asked(tx, move):
        return
    migrations.change(tx, move, now, reason=move.reason or f"node {move.source} or {move.dest} went down")
    standing.ask(tx, cloud, row, move, instance_actions.open_request(tx, row.id, LIVE))


def lost(tx: Tx, cloud: Cloud, row: Any) -> bool:
    """No task is left of a server that migrates: have its nodes asked. False: it does not migrate live."""
    move = migrations.newest(tx, row.id)
    if move is None or move.kind != LIVE or move.status not in ("preparing", "running", "post-migrating"):
        return False
    request_id = instance_actions.open_request(tx, row.id, LIVE)
    if move.status == "post-migrating":
        described = orders.described(tx, cloud, row)
        orders.send(tx, cloud, row, "taken", request_id=request_id, spec=described)
    else:
        standing.ask(tx, cloud, row, move, request_id)
    return True
