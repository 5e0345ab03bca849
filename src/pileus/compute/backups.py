"""createBackup: snapshots that are kept in a row of at most `rotation`, the oldest going first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import names, orders, snapshots, spec, states
from pileus.compute.schemas import CreateBackup
from pileus.image import images
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.node.contract import Task

ROTATE = "compute.rotate_backups"


class Rotation(msgspec.Struct, frozen=True):
    """What the job is told: which backups, and how many of them stay."""

    server_id: str
    backup_type: str
    keep: int


def create(call: Call, row: Any, value: CreateBackup) -> Reply:
    """createBackup: 202; its Location names the image, from 2.45 on its body does; none of both for rotation 0."""
    states.require(call.context, row, "createBackup")
    if spec.is_on_volume(row):
        raise BadRequest("Backup is not supported for volume-backed instances.")
    own = {"image_type": "backup", "backup_type": value.backup_type}
    image_id = snapshots.make(call, row, names.check_name(value.name), {**value.metadata, **own}, call.context)
    orders.begin(call, row, "createBackup", "compute_backup_instance", "image_backup")
    orders.send(call.tx, call.cloud, row, "snapshot", request_id=call.request_id, image_id=image_id)
    # Runs behind the snapshot, whose image counts only if it came to be.
    tasks.enqueue(
        call.tx, call.cloud, ROTATE, resource=orders.resource(row.id), request_id=call.request_id,
        timeout=2 * call.cloud.settings.build_timeout,
        arguments=Rotation(row.id, value.backup_type, int(value.rotation)),
    )
    if int(value.rotation) == 0:
        return Reply()
    return snapshots.where(call, image_id)


async def rotate(cloud: Cloud, task: Task) -> None:
    """The job: delete the oldest backups of a server beyond those that are kept."""
    asked = msgspec.json.decode(task.arguments, type=Rotation)

    def work(tx: Any) -> None:
        found = images.with_properties(
            tx, {"image_type": "backup", "instance_uuid": asked.server_id, "backup_type": asked.backup_type}
        )
        for image_id in found[asked.keep :]:
            images.drop(tx, cloud, image_id)

    await cloud.db.run(work)
