"""What is done with the volumes of servers, one durable step after another.

    volume.create      (volume room) the volume is made         `volume_made`
    volume.export      (volume room) it is given out            `connected`
    server.build       on the guest's node, once all are; or
    server.attach_volume                                        `attached`
    server.detach_volume                                        `detached`

A server that waits for its volumes has one of the task states in `AFTER`. Every step is sent in the transaction that
takes the result of the one before, so that none is lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import actors, devices, ends, instance_actions, nodes, orders, servers, states
from pileus.compute.devices import ATTACHED, ATTACHING, DETACHING, GIVING, MAKING, PLUGGING
from pileus.network import ports
from pileus.placement import allocations
from pileus.volume import attachments, backends, volumes
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pileus.cloud import Cloud
    from pileus.cluster.liveness import Moment
    from pileus.compute.ends import End
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.compute")

MAPPING, REMAPPING, REIMAGED = "block_device_mapping", "rebuild_block_device_mapping", "rebuild_spawning"
AFTER = {MAPPING: "spawning", REMAPPING: "rebuilding", REIMAGED: "rebuilding"}
"""The task states of servers that wait for volumes, and which each has once they are there and it is built."""


def prepare(tx: Tx, cloud: Cloud, row: Any, request_id: str, *, anew: bool = False) -> bool:
    """Have all volumes of a server given out to its node, before its guest is built there. False: it has none.

    `anew`: with other keys, so that whatever still runs elsewhere is cut off; but a volume that other servers have too
    keeps its key, for they would be cut off as well."""
    found = [one for one in devices.of_server(tx, row.id) if one.attachment_id and one.state not in (MAKING, DETACHING)]
    for device in found:
        if device.state in (PLUGGING, ATTACHING):
            instance_actions.finish(tx, row.id, device.request_id, cloud.world.now())  # the build gives it to the guest
        devices.change(tx, cloud, device, state=GIVING, request_id=request_id)
        alone = len(devices.of_volume(tx, device.volume_id)) == 1
        attachments.connect(tx, cloud, device.attachment_id, row.host, request_id, anew=anew and alone)
    return bool(found)


def out_of_reach(tx: Tx, now: Moment, *volume_ids: str) -> str:
    """Why a server could not have these volumes now: the node of one is down. "" where it could."""
    for one in volumes.infos(tx, volume_ids).values() if volume_ids else ():
        kept = backends.by_node(tx, one.node) if one.node else None
        own = nodes.by_name(tx, one.node) if one.node else None
        if kept is None or not backends.is_up(kept, now) or (own is not None and own.forced_down):
            return f"Volume {one.id} is out of reach: node {one.node}, which keeps it, is down."
    return ""


def of(tx: Tx, server_id: str) -> list[str]:
    """The ids of a server's volumes."""
    return [one.volume_id for one in devices.of_server(tx, server_id) if one.volume_id]


def end_detaching(tx: Tx, cloud: Cloud, row: Any, request_id: str) -> None:
    """The guest is gone from its node: what was to be taken from it is taken."""
    for device in devices.of_server(tx, row.id):
        if device.state == DETACHING:
            take(tx, cloud, device, request_id)
            instance_actions.finish(tx, row.id, device.request_id, cloud.world.now())


def take(tx: Tx, cloud: Cloud, device: Any, request_id: str) -> None:
    """The server has the volume no more, and the volume is free."""
    devices.remove(tx, device)
    attachments.release(tx, cloud, device.attachment_id, request_id)


def let_go(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The server is deleted: its volumes are free, and go with it where they shall.

    Those that were made for a server that never came to be go too."""
    request_id = instance_actions.last_request(tx, row.id)
    for device in devices.of_server(tx, row.id):
        if device.attachment_id:
            take(tx, cloud, device, request_id)
        else:
            devices.remove(tx, device)
        if device.volume_id and (device.delete_on_termination or (device.own and row.launched is None)):
            volumes.drop(tx, cloud, device.volume_id, request_id)


# -- called by the volume room


def volume_made(tx: Tx, cloud: Cloud, volume_id: str, error: str) -> None:
    """A volume is made, or could not be: a server may have waited for it."""
    for found in devices.of_volume(tx, volume_id):
        row, device = _held(tx, found)
        if row is None or device is None or device.state != MAKING:
            continue
        if error:
            _fail(tx, cloud, row, device.request_id, f"volume {volume_id} could not be made: {error}")
        elif row.task_state in AFTER:
            devices.change(tx, cloud, device, state=GIVING)
            attachments.connect(tx, cloud, device.attachment_id, row.host, device.request_id)


def reimaged(tx: Tx, cloud: Cloud, volume_id: str, error: str) -> None:
    """An image is written over a volume, or could not be: the server that is rebuilt on it goes on, or fails."""
    for found in devices.of_volume(tx, volume_id):
        row, device = _held(tx, found)
        if row is None or device is None or device.state != MAKING or row.task_state != "rebuilding":
            continue
        if error:
            devices.change(tx, cloud, device, state=ATTACHED)  # so that it can be tried again
            text = f"volume {volume_id} could not be overwritten: {error}"
            ends.without_task(tx, cloud, row, device.request_id, text).fail(states.ERROR)
        else:
            devices.change(tx, cloud, device, state=GIVING)
            servers.change(tx, row.id, cloud.world.now(), task_state=REIMAGED)
            prepare(tx, cloud, row, device.request_id)


def connected(tx: Tx, cloud: Cloud, attachment_id: str, error: str) -> None:
    """A volume is given out, or could not be: its server goes on, or fails."""
    found = devices.by_attachment(tx, attachment_id)
    if found is None:
        return
    row, device = _held(tx, found)
    if row is None or device is None:
        return
    text = f"volume {device.volume_id} could not be given out: {error}" if error else ""
    if device.state == GIVING and row.task_state in AFTER:
        if text:
            return _fail(tx, cloud, row, device.request_id, text)
        devices.change(tx, cloud, device, state=ATTACHING)
        return _build(tx, cloud, row, device.request_id)
    if device.state == PLUGGING:
        if text or row.host is None:
            return give_up(tx, cloud, row, device, text or "the server has left its node meanwhile")
        devices.change(tx, cloud, device, state=ATTACHING)
        described = orders.described(tx, cloud, row)
        return orders.send(
            tx, cloud, row, "attach_volume", request_id=device.request_id, spec=described, volume_id=device.volume_id
        )
    return None


def extended(tx: Tx, cloud: Cloud, volume_id: str, server_id: str | None = None) -> None:
    """A volume has grown: the guests that have it (or the one) are shown that, as soon as their nodes are there."""
    for found in devices.of_volume(tx, volume_id):
        if server_id not in (None, found.server_id):
            continue
        row, device = _held(tx, found)
        if row is not None and device is not None and device.state == ATTACHED and row.host is not None:
            by = actors.itself(tx, cloud, row)
            instance_actions.begin(by, row.id, "extend_volume", "compute_extend_volume", row.host)
            described = orders.described(tx, cloud, row)
            orders.send(
                tx, cloud, row, "extend_volume", request_id=by.request_id, spec=described, volume_id=volume_id
            )


def _held(tx: Tx, found: Any) -> tuple[Any | None, Any | None]:
    """The server of a device, which nobody else changes now, and the device as it is now; None where they are gone."""
    row = servers.held(tx, found.server_id)
    if row is None or row.deleted:
        return None, None
    return row, next((one for one in devices.of_server(tx, row.id) if one.id == found.id), None)


def _build(tx: Tx, cloud: Cloud, row: Any, request_id: str) -> None:
    """Have the guest built, if all of its volumes are there."""
    if any(one.state in (MAKING, GIVING) for one in devices.of_server(tx, row.id)):
        return
    servers.change(tx, row.id, cloud.world.now(), task_state=AFTER[row.task_state])
    kind = "rebuild" if row.task_state == REIMAGED else "build"
    orders.send(tx, cloud, row, kind, request_id=request_id, spec=orders.described(tx, cloud, row))


def _fail(tx: Tx, cloud: Cloud, row: Any, request_id: str, error: str) -> None:
    """A server cannot have its volumes."""
    from pileus.compute import evacuate

    if row.task_state not in AFTER:
        return None
    end = ends.without_task(tx, cloud, row, request_id, error)
    if row.task_state == REMAPPING:
        evacuate.ended(end)
        return end.fail(states.ERROR)
    if row.vm_state != states.OFFLOADED:
        return end.fail(states.ERROR)
    # It stays shelved, and can be tried again.
    allocations.release(tx, row.id)
    ports.move(tx, cloud, row.id, "")
    return end.fail(host=None, zone=None)


# -- results of the guest's node


def settle(end: End) -> None:
    """The guest is built: it has the volumes that it was built with."""
    for device in devices.of_server(end.tx, end.row.id):
        if device.state in (ATTACHING, GIVING):
            _has(end, device)


def attached(end: End) -> None:
    """The guest has a volume more. If not, the volume is free again."""
    device = _awaited(end, ATTACHING)
    if device is None:
        return end.log()
    if end.error:
        return give_up(end.tx, end.cloud, end.row, device, end.error)
    _has(end, device)
    return end.log()


def detached(end: End) -> None:
    """The guest has let go of a volume. If not, it has it still."""
    device = _awaited(end, DETACHING)
    if device is not None and end.error:
        attachments.roll_back_detach(end.tx, end.cloud, device.attachment_id)
        devices.change(end.tx, end.cloud, device, state=ATTACHED)
        end.write(fault=orders.fault(end.error, end.now))
    elif device is not None:
        take(end.tx, end.cloud, device, end.task.request_id)
    end.log()


def _awaited(end: End, state: str) -> Any | None:
    """The device that a result is about, if it still counts: a node that the server has left changes nothing."""
    if end.task.node != end.row.host or end.args.volume_id is None:
        return None
    device = devices.find(end.tx, end.row.id, end.args.volume_id)
    return device if device is not None and device.state == state else None


def _has(end: End, device: Any) -> None:
    devices.change(end.tx, end.cloud, device, state=ATTACHED)
    attachments.complete(end.tx, end.cloud, device.attachment_id, device.device)


def give_up(tx: Tx, cloud: Cloud, row: Any, device: Any, error: str) -> None:
    """A volume could not be given to a guest that is there."""
    take(tx, cloud, device, device.request_id)
    now = cloud.world.now()
    servers.change(tx, row.id, now, fault=orders.fault(error, now))
    instance_actions.finish(tx, row.id, device.request_id, now, error)


# -- nothing stays stuck


def resources(rows: Sequence[Any]) -> list[str]:
    """The names of the tasks on which servers depend for these devices."""
    return [f"volume:{one.volume_id}" for one in rows if one.volume_id and one.state in (MAKING, GIVING, PLUGGING)]


def lost(tx: Tx, cloud: Cloud, row: Any) -> None:
    """A server waits for volumes, and no task is left that would bring them."""
    request_id = instance_actions.last_request(tx, row.id)
    _fail(tx, cloud, row, request_id, f"the tasks for the volumes of server {row.id} were lost")


def mend(tx: Tx, cloud: Cloud, before: float) -> int:
    """Put right what goes on with volumes of servers since `before`, and for which no task is left; how many."""
    stuck = [one for one in devices.in_transit(tx, before) if not _is_busy(tx, one)]
    for device in stuck:
        _LOG.warning("volume %s of server %s is %s, but no task is left; repairing", device.volume_id,
                     device.server_id, device.state)
        _repair(tx, cloud, device)
    return len(stuck)


def _is_busy(tx: Tx, device: Any) -> bool:
    names = (orders.resource(device.server_id), f"volume:{device.volume_id}")
    return tx.first(sa.select(task.c.id).where(task.c.resource.in_(names), task.c.state.in_(tasks.OPEN))) is not None


def _repair(tx: Tx, cloud: Cloud, found: Any) -> None:
    row, device = _held(tx, found)
    if row is None or device is None or device.state != found.state or row.task_state is not None:
        return
    reason = f"the task for volume {device.volume_id} ({device.state}) was lost"
    if device.state != DETACHING:
        return give_up(tx, cloud, row, device, reason)
    attachments.roll_back_detach(tx, cloud, device.attachment_id)
    devices.change(tx, cloud, device, state=ATTACHED)
    instance_actions.finish(tx, row.id, device.request_id, cloud.world.now(), reason)
