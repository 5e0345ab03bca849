"""Power and state of servers: start, stop, reboot, pause, suspend, lock, reset, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import block_devices, instance_actions, migrations, nodes, orders, servers, snapshots, states
from pileus.compute.schemas import Lock, Reboot, ResetState
from pileus.compute.tables import console_token, migration, server
from pileus.image import images
from pileus.network import ports
from pileus.placement import allocations
from pileus.web.call import Call
from pileus.web.errors import Forbidden

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


# -- power


def start(call: Call, row: Any, value: Any) -> None:
    """os-start: 202."""
    states.require(call.context, row, "start")
    orders.begin(call, row, "start", "compute_start_instance", "powering-on")
    _send(call, row, "power_on", spec=orders.described(call.tx, call.cloud, row))


def stop(call: Call, row: Any, value: Any) -> None:
    """os-stop: 202."""
    states.require(call.context, row, "stop")
    orders.begin(call, row, "stop", "compute_stop_instance", "powering-off")
    power_off(call.tx, call.cloud, row, call.request_id)


def power_off(tx: Tx, cloud: Cloud, row: Any, request_id: str) -> None:
    """Ask the node to shut the guest down, politely first."""
    limit = cloud.settings.shutdown_timeout
    orders.send(
        tx, cloud, row, "power_off", request_id=request_id, timeout=limit,
        deadline=cloud.settings.build_timeout + limit,
    )


def reboot(call: Call, row: Any, value: Reboot) -> None:
    """reboot: 202. A soft one that the guest does not follow becomes a hard one, after `shutdown_timeout`."""
    hard = value.type.upper() == "HARD"
    states.require(call.context, row, "reboot_hard" if hard else "reboot", "reboot")
    task_state = "rebooting_hard" if hard else "rebooting"
    orders.begin(call, row, "reboot", "compute_reboot_instance", task_state)
    _send(
        call, row, "reboot", hard=hard, timeout=0.0 if hard else call.cloud.settings.shutdown_timeout,
        spec=orders.described(call.tx, call.cloud, row),
    )


def pause(call: Call, row: Any, value: Any) -> None:
    """pause: 202."""
    _simple(call, row, "pause", "pausing")


def unpause(call: Call, row: Any, value: Any) -> None:
    """unpause: 202."""
    _simple(call, row, "unpause", "unpausing")


def suspend(call: Call, row: Any, value: Any) -> None:
    """suspend: 202."""
    _simple(call, row, "suspend", "suspending")


def resume(call: Call, row: Any, value: Any) -> None:
    """resume: 202."""
    states.require(call.context, row, "resume")
    orders.begin(call, row, "resume", "compute_resume_instance", "resuming")
    _send(call, row, "resume", spec=orders.described(call.tx, call.cloud, row))


def _simple(call: Call, row: Any, action: str, task_state: str) -> None:
    states.require(call.context, row, action)
    orders.begin(call, row, action, f"compute_{action}_instance", task_state)
    _send(call, row, action)


def _send(call: Call, row: Any, kind: str, **arguments: Any) -> None:
    orders.send(call.tx, call.cloud, row, kind, request_id=call.request_id, **arguments)


# -- locks and states


def lock(call: Call, row: Any, value: Lock | None) -> None:
    """lock: 202; from 2.73 with a reason."""
    reason = value.locked_reason if value is not None and value.locked_reason is not UNSET else None
    by = "owner" if row.project_id == call.context.project_id and row.user_id == call.context.user_id else "admin"
    servers.change(call.tx, row.id, call.now, locked=True, locked_by=by, locked_reason=reason)
    instance_actions.begin(call, row.id, "lock")
    instance_actions.finish(call.tx, row.id, call.request_id, call.now)


def unlock(call: Call, row: Any, value: Any) -> None:
    """unlock: 202. What an administrator locked only one may unlock."""
    if row.locked_by == "admin" and not call.context.is_admin:
        call.enforce("os_compute_api:os-lock-server:unlock:unlock_override", project_id=row.project_id)
    servers.change(call.tx, row.id, call.now, locked=False, locked_by=None, locked_reason=None)
    instance_actions.begin(call, row.id, "unlock")
    instance_actions.finish(call.tx, row.id, call.request_id, call.now)


def reset_state(call: Call, row: Any, value: ResetState) -> None:
    """os-resetState: 202. Says what the server shall count as; touches no guest, and drops no task that runs."""
    values: dict[str, Any] = {"vm_state": value.state, "task_state": None}
    if value.state == states.ACTIVE:
        values["launched"] = row.launched or call.now
    servers.change(call.tx, row.id, call.now, **values)
    instance_actions.begin(call, row.id, "resetState")
    instance_actions.finish(call.tx, row.id, call.request_id, call.now)


def inject_network_info(call: Call, row: Any, value: Any) -> None:
    """injectNetworkInfo: 202. The server's node is told again how its ports shall be wired."""
    orders.check_up(call, row)
    bus, topic = call.cloud.bus, f"net:{row.host}"
    call.tx.after_commit(lambda: bus.wake(topic))


# -- deletion


def delete(call: Call) -> None:
    """DELETE /servers/{server_id}: 204. Gone at once where there is no guest, else when the node has removed it."""
    row = servers.check_action(call, call.params["server_id"], "os_compute_api:servers:delete", "delete")
    _delete(call, row)


def force_delete(call: Call, row: Any, value: Any) -> None:
    """forceDelete: 202, the same: deletes are never deferred here."""
    states.require(call.context, row, "forceDelete")
    _delete(call, row)


def restore(call: Call, row: Any, value: Any) -> None:
    """restore: 202. Nothing is ever soft-deleted here, so that no state fits."""
    states.require(call.context, row, "restore")
    raise Forbidden("There are no soft-deleted servers in this cloud.")


def _delete(call: Call, row: Any) -> None:
    if row.task_state == "deleting":
        return
    instance_actions.begin(call, row.id, "delete", "compute_terminate_instance", row.host)
    snapshots.give_up(call.tx, call.cloud, row.id)
    orders.drop_waiting(call.tx, row.id)
    other = migrations.other_node(call.tx, row) if row.host is not None else None
    if other is not None:
        _send(call, row, "destroy", node=other, deadline=orders.UNTIL_BACK)
    if row.host is None:
        bury(call.tx, call.cloud, row, call.now)
        instance_actions.finish(call.tx, row.id, call.request_id, call.now)
        return
    found = nodes.by_name(call.tx, row.host)
    if found is None or not nodes.is_up(found, moment(call.cloud)):
        # The node is dead: the server goes now, and the node removes the guest when it comes back.
        _send(call, row, "destroy", deadline=orders.UNTIL_BACK)
        bury(call.tx, call.cloud, row, call.now)
        return
    servers.change(call.tx, row.id, call.now, task_state="deleting")
    _send(call, row, "destroy")


_MIGRATIONS = sa.select(migration.c.uuid).where(migration.c.server_id == sa.bindparam("s"))
_DROP_TOKENS = console_token.delete().where(console_token.c.server_id == sa.bindparam("s"))
_BURY = server.update().where(server.c.id == sa.bindparam("s")).values(
    deleted=True, deleted_at=sa.bindparam("now"), updated=sa.bindparam("now"), terminated=sa.bindparam("now"),
    vm_state=states.DELETED, task_state=None, power_state=0,
)


def bury(tx: Tx, cloud: Cloud, row: Any, now: float) -> None:
    """The guest is gone, or never was: give back what the server holds, and mark it deleted."""
    for port in ports.of_servers(tx, [row.id]).get(row.id, []):
        if port.id in row.own_ports:
            ports.delete(tx, cloud, port.id)
        else:
            ports.release(tx, cloud, port.id)
    block_devices.let_go(tx, cloud, row)
    allocations.release(tx, row.id)
    for uuid in tx.scalars(_MIGRATIONS, {"s": row.id}):
        allocations.release(tx, uuid)
    if row.shelved_image_id is not None:
        images.drop(tx, cloud, row.shelved_image_id)
    tx.execute(_DROP_TOKENS, {"s": row.id})
    tx.execute(_BURY, {"s": row.id, "now": now})
