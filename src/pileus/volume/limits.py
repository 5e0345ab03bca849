"""Limits: a project's quotas and what it uses of them, in the shape of the oldest clients."""

from __future__ import annotations

from typing import Any

from pileus.volume import quotas, usage
from pileus.volume.schemas_rest import LimitsQuery
from pileus.web.call import Call

_LIMITS = {
    "maxTotalVolumes": "volumes", "maxTotalSnapshots": "snapshots", "maxTotalVolumeGigabytes": "gigabytes",
    "maxTotalBackups": "backups", "maxTotalBackupGigabytes": "backup_gigabytes",
}
_USED = {
    "totalVolumesUsed": "volumes", "totalSnapshotsUsed": "snapshots", "totalGigabytesUsed": "gigabytes",
    "totalBackupsUsed": "backups", "totalBackupGigabytesUsed": "backup_gigabytes",
}


def index(call: Call) -> dict[str, Any]:
    """GET /limits: 200. From 3.39 on administrators may name another project."""
    query: LimitsQuery = call.query
    project_id = call.context.project_id or ""
    if query.project_id is not None and call.context.is_admin and (call.version or (3, 0)) >= (3, 39):
        project_id = query.project_id
    allowed = quotas.limits(call.tx, call.cloud, project_id)
    taken = {**usage.used(call.tx, project_id), **usage.used_beside(call.tx, project_id)}
    absolute = {wire: allowed[name] for wire, name in _LIMITS.items()}
    absolute.update((wire, taken.get(name, 0)) for wire, name in _USED.items())
    return {"limits": {"rate": [], "absolute": absolute}}
