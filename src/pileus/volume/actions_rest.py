"""Actions of volumes and snapshots that other nouns bring: retype, migrate, unmanage."""

from __future__ import annotations

from pileus.volume import manage, migrate, reimage
from pileus.web.actions import Action

VOLUME_ACTIONS: dict[str, Action] = {
    "os-retype": Action("volume:retype", migrate.retype, body=migrate.Retype),
    "os-migrate_volume": Action(
        "volume_extension:volume_admin_actions:migrate_volume", migrate.migrate, body=migrate.Migrate
    ),
    "os-unmanage": Action("volume_extension:volume_unmanage", manage.unmanage),
    "os-reimage": Action("volume:reimage", reimage.act, body=reimage.Reimage, since=(3, 68)),
}
SNAPSHOT_ACTIONS: dict[str, Action] = {
    "os-unmanage": Action("snapshot_extension:snapshot_unmanage", manage.unmanage_snapshot),
}
