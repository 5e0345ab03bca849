"""What a node's results change: the end of every action on a server, by the kind of its task.

A result counts only while the server still waits for it (`task_state`); one that a delete or an operator's reset
has overtaken changes nothing but the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import (
    block_devices,
    evacuate,
    ha,
    lifecycle,
    live,
    migrations,
    moves,
    nodes,
    orders,
    rebuild,
    reschedule,
    resize,
    server_migrations,
    servers,
    standing,
    states,
)
from pileus.compute.ends import End
from pileus.image import images
from pileus.network import ports
from pileus.node.contract import ServerTask, Task, TaskResult
from pileus.placement import allocations

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

Values = dict[str, Any]

Handler = Callable[[End], None]


def handle(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """The result of any `server.…` task, in the transaction that finishes it."""
    args = msgspec.json.decode(task.arguments, type=ServerTask)
    row = servers.held(tx, args.server_id)
    if row is None:
        return
    end = End(tx, cloud, task, result, args, row)
    if row.deleted:
        _give_up_image(end)
        return end.log()
    if end.done.ports_up:
        ports.mark_up(tx, cloud, end.done.ports_up)
    awaited = _BY_KIND[task.kind]
    handler = awaited.get(row.task_state) or awaited.get(_ANY)
    if handler is not None:
        handler(end)
    elif row.task_state in (None, "deleting"):
        end.log()


_ANY = "(any)"


# -- build, and all that ends with a running guest


def _built(end: End) -> None:
    nodes.build_ended(end.tx, end.task.node, failed=bool(end.error))
    if end.error:
        if not reschedule.elsewhere(end.tx, end.cloud, end.row, end.task.request_id, end.error, end.now):
            end.fail(states.ERROR)
        return
    _forget_shelved(end)
    block_devices.settle(end)
    end.settle(
        vm_state=states.ACTIVE, launched=end.row.launched or end.now, progress=100, shelved_image_id=None,
        old_vm_state=None, fault=None,
    )


def _forget_shelved(end: End) -> None:
    """The image that a shelved server was kept as is not needed any more."""
    if end.row.shelved_image_id is not None:
        images.drop(end.tx, end.cloud, end.row.shelved_image_id)


def _rebuilt(end: End) -> None:
    if end.error:
        return end.fail(states.ERROR)
    block_devices.settle(end)
    resize.trim(end.tx, end.cloud, end.row)
    running: Values = {"vm_state": states.ACTIVE, "launched": end.now, "progress": 100}
    if end.row.old_vm_state == states.STOPPED:
        # It was off before, so that it is off again.
        end.write(task_state="powering-off", power_state=end.power, **running)
        return lifecycle.power_off(end.tx, end.cloud, end.row, end.task.request_id)
    return end.settle(**running, old_vm_state=None)


def _becomes(vm_state: str, failed: str | None = None, **values: Any) -> Handler:
    """The plain end of an action."""

    def handler(end: End) -> None:
        if end.error:
            return end.fail(failed)
        return end.settle(vm_state=vm_state, **values)

    return handler


def _started(end: End) -> None:
    if end.error:
        return end.fail()
    _forget_shelved(end)
    return end.settle(vm_state=states.ACTIVE, shelved_image_id=None, old_vm_state=None, fault=None)


def _rescued(end: End) -> None:
    if end.error:
        return end.fail(states.ERROR, rescue_image=None)
    return end.settle(vm_state=states.RESCUED)


def _stopped(vm_state: str) -> Handler:
    def handler(end: End) -> None:
        if end.error:
            return end.fail()
        own = ports.of_servers(end.tx, [end.row.id]).get(end.row.id, [])
        ports.mark_down(end.tx, end.cloud, [port.id for port in own])
        if vm_state == states.RESIZED:
            migrations.set_status(end.tx, end.row.id, end.now, "finished", "migrating")
        return end.settle(vm_state=vm_state, old_vm_state=None)

    return handler


# -- resize


def _resized(end: End) -> None:
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "migrating")
        return end.fail(states.ERROR)
    if end.row.old_vm_state == states.STOPPED:
        end.write(task_state="resize_finish", power_state=end.power, progress=100)
        return lifecycle.power_off(end.tx, end.cloud, end.row, end.task.request_id)
    migrations.set_status(end.tx, end.row.id, end.now, "finished", "migrating")
    return end.settle(vm_state=states.RESIZED, progress=100)


def _evacuated(end: End) -> None:
    evacuate.ended(end)
    return _rebuilt(end)


def _arrived(end: End) -> None:
    if end.error:
        return moves.turn_back(end)
    moves.arrived(end)
    return _resized(end)


def _fetched(end: End) -> None:
    """A server that was off has come to another node."""
    if end.error:
        return moves.turn_back(end)
    moves.arrived(end)
    migrations.set_status(end.tx, end.row.id, end.now, "finished", "migrating")
    return end.settle(vm_state=states.RESIZED, progress=100, old_vm_state=None)


def _reverted(end: End) -> None:
    if end.error:
        migrations.set_status(end.tx, end.row.id, end.now, "error", "reverting")
        return end.fail(states.ERROR)
    resize.reverted(end.tx, end.cloud, end.row)
    migrations.set_status(end.tx, end.row.id, end.now, "reverted", "reverting")
    if end.row.power_state == states.POWER["shutdown"]:
        end.write(
            vm_state=states.ACTIVE, task_state="powering-off", power_state=end.power, old_flavor=None
        )
        return lifecycle.power_off(end.tx, end.cloud, end.row, end.task.request_id)
    return end.settle(vm_state=states.ACTIVE, old_flavor=None, old_vm_state=None)


# -- snapshots and shelving


def _stored(end: End) -> None:
    """A snapshot's image: the node has uploaded it, or it never will."""
    _give_up_image(end)
    if end.row.task_state == "shelving":
        return _shelved(end)
    if end.row.task_state in ("image_snapshot", "image_backup"):
        return end.fail() if end.error else end.settle()
    return end.log()


def _give_up_image(end: End) -> None:
    if end.error and end.args.image_id:
        images.fail(end.tx, end.cloud, end.args.image_id, end.error)


def _shelved(end: End) -> None:
    if end.error:
        return end.fail(states.ERROR, shelved_image_id=None)
    end.write(vm_state=states.SHELVED, task_state="shelving_offloading", power_state=states.POWER["shutdown"])
    return end.then("destroy")


def _removed(end: End) -> None:
    if not end.error and migrations.cleaned(end):
        return None
    by_state = {"resize_confirming": moves.confirmed, "resize_reverting": moves.returned}
    return by_state.get(end.row.task_state, _destroyed)(end)


def _destroyed(end: End) -> None:
    if end.task.node != end.row.host:
        return  # what a node that failed to build the server had left of it
    if end.error and end.row.task_state == "deleting" and not end.is_up(end.row.host):
        # The node went down meanwhile: the server goes now, and the node removes the guest when it is back.
        end.then("destroy", deadline=orders.UNTIL_BACK)
        end.error = ""
    if end.error:
        return end.fail(states.ERROR)
    if end.row.task_state == "shelving_offloading":
        allocations.release(end.tx, end.row.id)
        ports.move(end.tx, end.cloud, end.row.id, "")
        return end.settle(vm_state=states.OFFLOADED, host=None, zone=None, power_state=0)
    lifecycle.bury(end.tx, end.cloud, end.row, end.now)
    return end.log()


# -- interfaces


def _attached(end: End) -> None:
    """A port that the guest could not be given goes again."""
    port_id = end.args.port_id
    if end.error and port_id:
        _drop_port(end, port_id)
        end.write(fault=orders.fault(end.error, end.now))
    end.log()


def _detached(end: End) -> None:
    port_id = end.args.port_id
    if not end.error and port_id:
        _drop_port(end, port_id)
    end.log()


def _drop_port(end: End, port_id: str) -> None:
    if port_id in end.row.own_ports:
        ports.delete(end.tx, end.cloud, port_id)
    else:
        ports.release(end.tx, end.cloud, port_id)
    tags = {k: v for k, v in end.row.nic_tags.items() if k != port_id}
    end.write(own_ports=[p for p in end.row.own_ports if p != port_id], nic_tags=tags)


_ACTIVE = _becomes(states.ACTIVE)

_BY_KIND: Mapping[str, Mapping[str | None, Handler]] = {
    "server.build": {"spawning": _built, "resize_finish": _arrived, "rebuilding": _evacuated},
    "server.rebuild": {"rebuilding": _rebuilt},
    "server.power_on": {"powering-on": _started, "resize_reverting": moves.runs_again},
    "server.power_off": {
        "powering-off": _stopped(states.STOPPED), "resize_prep": moves.left, "resize_finish": _stopped(states.RESIZED),
        "rebuilding": rebuild.stopped,
    },
    "server.reboot": dict.fromkeys(
        ("rebooting", "rebooting_hard"), _becomes(states.ACTIVE, failed=states.ERROR, fault=None)
    ),
    "server.pause": {"pausing": _becomes(states.PAUSED)},
    "server.unpause": {"unpausing": _ACTIVE},
    "server.suspend": {"suspending": _becomes(states.SUSPENDED)},
    "server.resume": {"resuming": _ACTIVE},
    "server.rescue": {"rescuing": _rescued},
    "server.unrescue": {
        "unrescuing": _becomes(states.ACTIVE, failed=states.ERROR, rescue_image=None, old_vm_state=None)
    },
    "server.resize": {"resize_migrating": _resized, "resize_reverting": _reverted},
    "server.snapshot": {_ANY: _stored},
    "server.destroy": {_ANY: _removed},
    "server.attach_nic": {_ANY: _attached},
    "server.detach_nic": {_ANY: _detached},
    "server.attach_volume": {_ANY: block_devices.attached},
    "server.detach_volume": {_ANY: block_devices.detached},
    "server.extend_volume": {_ANY: End.log},
    "server.export_disks": {"resize_migrating": moves.exported},
    "server.end_export": {},
    "server.fetch_disks": {"resize_finish": _fetched},
    "server.layout": {"migrating": live.laid_out},
    "server.take_in": {"migrating": live.ready},
    "server.send": {"migrating": live.sent},
    "server.taken": {"migrating": live.arrived},
}

RESULTS = {
    **dict.fromkeys(_BY_KIND, handle),
    standing.ASK: standing.answered,
    standing.LOOK: standing.looked,
    server_migrations.STEER: server_migrations.steered,
    ha.FENCE: ha.fenced,
}
JOBS = {
    standing.ASK: standing.job,
    standing.LOOK: standing.look,
    server_migrations.STEER: server_migrations.steer,
    **ha.JOBS,
}
