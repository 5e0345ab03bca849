"""Volumes that move to another node, or become of another type.

The way is a chain of tasks: the node that has the volume gives it out, the other one copies it, and only then the
volume is there and no longer here. Until then its users cannot touch it; when anything fails it is where it was."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from pileus.node.contract import Task, TaskResult, VolumeExport, VolumeTask
from pileus.volume import backends, groups, messages, orders, placing, states, usage, volume_types, volumes
from pileus.volume.tables import snapshot
from pileus.volume.tables_rest import migration, unmanaged
from pileus.volume.type_encryption import refuse
from pileus.web.errors import BadRequest
from pileus.web.schemas import Body, Flag, since

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

_LOG = logging.getLogger("pileus.volume")
_SECRET_BYTES = 32


class Migrate(Body):
    """What os-migrate_volume takes. The bytes are always copied by the nodes, and the volume is always locked."""

    host: str | None = None
    cluster: Annotated[str | UnsetType | None, since(3, 16)] = UNSET
    force_host_copy: Flag = False
    lock_volume: Flag = False


class Retype(Body):
    """What os-retype takes."""

    new_type: str
    migration_policy: Literal["never", "on-demand"] | None = "never"


def migrate(call: Call, found: Any, value: Migrate) -> None:
    """os-migrate_volume: 202. To a node that is up, enabled, has room, and is as the volume's type wants it."""
    if value.cluster not in (UNSET, None) or not value.host:
        raise BadRequest("Invalid input received: name a 'host' to migrate to; there are no clusters of backends.")
    target = backends.by_node(call.tx, backends.node_of(value.host))
    if target is None or value.host not in (
        target.node, f"{target.node}@{target.backend}", backends.host(target.node, target.backend)
    ):
        raise BadRequest(f"Invalid host: no node {value.host} keeps volumes.")
    if target.node == found.node:
        raise BadRequest(f"Invalid host: volume {found.id} is on {value.host} already.")
    kind = volume_types.info(call.tx, found.type_id) if found.type_id else None
    _check_movable(call, found, "migrate it")
    chosen = _choose(call, found, kind, only=target.node)
    _begin(call, found, chosen, states.MAINTENANCE, None)


def retype(call: Call, found: Any, value: Retype) -> None:
    """os-retype: 202. At once where the volume's node is as the new type wants it; else it moves, if that is wanted."""
    kind = volume_types.find(call.tx, call.context, value.new_type)
    if kind.id == found.type_id:
        raise BadRequest(f"Invalid volume type: volume {found.id} is of type {kind.name} already.")
    refuse(kind)
    states.require(found, {states.AVAILABLE, states.IN_USE}, "retype it")
    if found.status == states.IN_USE and kind.multiattach != found.multiattach:
        raise BadRequest("Invalid input received: Retyping into or out from a multiattach type is not allowed for "
                         "volumes that are in use. Detach it first.")
    if found.group_id is not None:
        groups.admit(call.tx, call.context, found.group_id, kind.id)
    usage.room_of_type(call.tx, call.cloud, found.project_id, kind.id, volumes=1, gigabytes=found.size)
    here = backends.by_node(call.tx, found.node or "")
    if here is None:
        raise BadRequest(f"Invalid volume: volume {found.id} is on no node.")
    if placing.suits(here, kind.extra_specs) and (not kind.zones or found.zone in kind.zones):
        return _become(call.tx, call.cloud, found, kind.id)
    if value.migration_policy != "on-demand":
        raise BadRequest(f"Invalid volume type: node {here.node} is not as type {kind.name} wants it. Let the volume "
                         "move with migration_policy on-demand.")
    _check_movable(call, found, "retype it to a type that is kept elsewhere")
    return _begin(call, found, _choose(call, found, kind), states.RETYPING, kind.id)


def _check_movable(call: Call, found: Any, doing: str) -> None:
    states.require(found, {states.AVAILABLE}, doing)
    taken = sa.select(snapshot.c.id).where(snapshot.c.volume_id == found.id).limit(1)
    left = sa.select(unmanaged.c.id).where(unmanaged.c.volume_id == found.id).limit(1)
    if call.tx.first(taken) is not None or call.tx.first(left) is not None:
        raise BadRequest(f"Invalid volume: volume {found.id} has snapshots, which would stay behind; delete them.")
    if volumes.is_copied(call.tx, found.id):
        raise BadRequest(f"Invalid volume: another volume is being made from volume {found.id}; try again after that.")
    orders.check_up(call.tx, call.cloud, found)


def _choose(call: Call, found: Any, kind: volume_types.TypeInfo | None, only: str | None = None) -> Any:
    """The backend to move to. Raises BadRequest when there is none."""
    try:
        return placing.choose(
            call.tx, call.cloud, found.size, extra_specs=kind.extra_specs if kind else None,
            of_zones=kind.zones if kind else (), only=None if only is None else frozenset([only]),
            but=frozenset([found.node]),
        )
    except placing.NoPlace as problem:
        raise BadRequest(f"Invalid volume: volume {found.id} cannot move. {problem}") from None


def _begin(call: Call, found: Any, target: Any, status: str, type_id: str | None) -> None:
    volumes.change(call.tx, call.cloud, found.id, status=status, migration_status="migrating")
    task_id = orders.send(
        call.tx, call.cloud, found.node, "export", found.id, request_id=call.request_id,
        secret=secrets.token_hex(_SECRET_BYTES), read_only=True,
    )
    call.tx.execute(migration.delete().where(migration.c.volume_id == found.id))
    call.tx.execute(migration.insert().values(
        volume_id=found.id, source=found.node, target=target.node, type_id=type_id, waits_for=task_id,
        created=call.now,
    ))


def _become(tx: Tx, cloud: Cloud, found: Any, type_id: str, **values: Any) -> None:
    """A volume is of another type from now on, and so are its snapshots."""
    kind = volume_types.info(tx, type_id)
    multiattach = found.multiattach if kind is None else kind.multiattach
    volumes.change(tx, cloud, found.id, type_id=type_id, multiattach=multiattach, **values)
    tx.execute(snapshot.update().where(snapshot.c.volume_id == found.id).values(type_id=type_id))


# -- what nodes' results change


def exported(
    tx: Tx, cloud: Cloud, task: Task, export: VolumeExport | None, error: str
) -> bool:
    """volume.export has ended; whether that was for a move, whose next node is told to copy then."""
    move = tx.first(sa.select(migration).where(migration.c.waits_for == task.id).with_for_update())
    if move is None:
        return False
    found = volumes.held(tx, move.volume_id)
    if found is None or found.status not in (states.MAINTENANCE, states.RETYPING) or export is None:
        abort(tx, cloud, move, found, error or "the volume is not to be moved any more", task.request_id)
    else:
        orders.send(
            tx, cloud, move.target, "fetch", found.id, request_id=task.request_id, size_gib=found.size, source=export,
            among=_there(found.id, move.target), timeout=orders.patience(cloud, found.size),
        )
    return True


def fetched(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """volume.fetch has ended: the volume is on its new node, or is where it was."""
    volume_id = msgspec.json.decode(task.arguments, type=VolumeTask).volume_id
    found = volumes.held(tx, volume_id)
    wanted = sa.select(migration).where(migration.c.volume_id == volume_id, migration.c.target == task.node)
    move = tx.first(wanted.with_for_update())
    if move is None:
        if found is None or found.node != task.node:
            _drop(tx, cloud, task.node, volume_id, task.request_id)
        return
    error = "" if result.ok else (result.error or "the node gave no reason")
    target = backends.by_node(tx, move.target)
    if error or target is None or found is None or found.status not in (states.MAINTENANCE, states.RETYPING):
        abort(tx, cloud, move, found, error or "the volume is not to be moved any more", task.request_id)
        return
    tx.execute(migration.delete().where(migration.c.volume_id == volume_id))
    zone = placing.by_node(tx).get(target.node, cloud.settings.availability_zone)
    values = {"node": target.node, "backend": target.backend, "zone": zone, "migration_status": "success"}
    if move.type_id is not None:
        _become(tx, cloud, found, move.type_id)
    volumes.settle(tx, cloud, volume_id, force=True, error=None, export=None, export_key="", **values)
    _drop(tx, cloud, move.source, volume_id, task.request_id)


def abort(tx: Tx, cloud: Cloud, move: Any, found: Any, error: str, request_id: str) -> None:
    """A move has failed: the volume is where it was, and nothing of it elsewhere."""
    _LOG.warning("volume %s cannot move from %s to %s: %s", move.volume_id, move.source, move.target, error)
    tx.execute(migration.delete().where(migration.c.volume_id == move.volume_id))
    _drop(tx, cloud, move.target, move.volume_id, request_id)
    if found is None:
        return
    if found.status in (states.MAINTENANCE, states.RETYPING):
        orders.send(
            tx, cloud, move.source, "unexport", found.id, request_id=request_id, timeout=orders.UNTIL_BACK
        )
        volumes.settle(tx, cloud, found.id, force=True, migration_status="error", error=error)
    messages.record(
        tx, cloud, project_id=found.project_id, request_id=request_id, resource_type="VOLUME", resource_id=found.id,
        action="migrate volume", detail=error,
    )


def _drop(tx: Tx, cloud: Cloud, node: str, volume_id: str, request_id: str) -> None:
    """Have a node forget a volume that is another's. No delete of the volume itself overtakes that."""
    orders.send(
        tx, cloud, node, "delete", volume_id, request_id=request_id, among=_there(volume_id, node),
        timeout=orders.UNTIL_BACK,
    )


def _there(volume_id: str, node: str) -> str:
    """The resource of what a node does about a volume that is not its own."""
    return f"{orders.resource(volume_id)}@{node}"[:128]


def repair(tx: Tx, cloud: Cloud, before: float, lost: str) -> int:
    """Undo the moves begun before `before` for which no task is left; how many."""
    moves = list(tx.all(sa.select(migration).where(migration.c.created < before).limit(200)))
    names = {move.volume_id: {orders.resource(move.volume_id), _there(move.volume_id, move.target)} for move in moves}
    busy = orders.busy(tx, [name for both in names.values() for name in both])
    stuck = [move for move in moves if not names[move.volume_id] & busy]
    for move in stuck:
        abort(tx, cloud, move, volumes.held(tx, move.volume_id), lost, "")
    return len(stuck)
