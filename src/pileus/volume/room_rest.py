"""What types, backups, groups and the rest bring to the room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.cloud import Job, ResultHandler
from pileus.volume import backups, groups, manage, messages, migrate, orders, reimage, volume_types, volumes
from pileus.volume.tables import volume
from pileus.work.periodic import Periodic

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_GRACE = 10.0
_LOST = "the task for it was lost"
_BECOMES = {
    backups.BACKING_UP: "", backups.RESTORING_TO: "error_restoring", manage.MANAGING: manage.ERROR_MANAGING,
}
"""What a volume is when nothing is done to it any more; "": as its attachments say."""

REST_RESULTS: Mapping[str, ResultHandler] = {
    "volume.backup": backups.made,
    "volume.restore": backups.restored,
    "volume.delete_backup": backups.deleted,
    "volume.fetch": migrate.fetched,
    "volume.adopt": manage.adopted,
    "volume.reimage": reimage.ended,
}
JOBS: Mapping[str, Job] = {}


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make what must exist before the first request: the default volume type."""
    volume_types.bootstrap(tx, cloud)


def reconcile(tx: Tx, cloud: Cloud) -> int:
    """Put right what no task will; how many. Runs periodically."""
    before = cloud.world.now() - _GRACE
    groups.settle_all(tx, cloud)
    return backups.repair(tx, cloud, before, _LOST) + migrate.repair(tx, cloud, before, _LOST) + _volumes(
        tx, cloud, before
    )


def _volumes(tx: Tx, cloud: Cloud, before: float) -> int:
    waiting = sa.select(volume).where(volume.c.status.in_(list(_BECOMES)), volume.c.changed < before)
    rows = list(tx.all(waiting.order_by(volume.c.changed).limit(200)))
    busy = orders.busy(tx, [orders.resource(row.id) for row in rows])
    stuck = [row for row in rows if orders.resource(row.id) not in busy]
    for row in stuck:
        status = _BECOMES[row.status]
        if status:
            volumes.change(tx, cloud, row.id, status=status, error=_LOST)
        else:
            volumes.settle(tx, cloud, row.id, force=True)
    return len(stuck)


def forget(tx: Tx, cloud: Cloud) -> int:
    """Forget what is of no use to anybody any more; how many. Runs periodically."""
    return messages.purge(tx, cloud) + manage.purge(tx, cloud)


PERIODIC: tuple[Periodic, ...] = (
    Periodic("volume.reconcile_rest", 15.0, reconcile),
    Periodic("volume.forget", 3600.0, forget),
)
