"""The extensions that v3 has always had.

Since there are microversions nothing is added; the list says which of the old ones are here."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call
from pileus.web.errors import NotFound

_EXTENSIONS = (
    ("OS-SCH-HNT", "SchedulerHints", "Hints where a volume shall be kept."),
    ("backups", "Backups", "Backups of volumes."),
    ("capabilities", "Capabilities", "What the nodes that keep volumes can do."),
    ("encryption", "VolumeTypeEncryption", "How the volumes of a type are to be encrypted."),
    ("os-admin-actions", "AdminActions", "Actions of administrators on volumes, snapshots and backups."),
    ("os-availability-zone", "AvailabilityZones", "Availability zones."),
    ("os-extended-services", "ExtendedServices", "Why a service is disabled."),
    ("os-extended-snapshot-attributes", "ExtendedSnapshotAttributes", "Progress and project of snapshots."),
    ("os-hosts", "Hosts", "The hosts of the volume service."),
    ("os-quota-class-sets", "QuotaClasses", "The default quotas."),
    ("os-quota-sets", "Quotas", "Quotas of projects."),
    ("os-services", "Services", "Services of the volume service."),
    ("os-snapshot-actions", "SnapshotActions", "Actions on snapshots."),
    ("os-snapshot-manage", "SnapshotManage", "Bring snapshots that are on a node under management."),
    ("os-snapshot-unmanage", "SnapshotUnmanage", "Leave snapshots to their node alone."),
    ("os-types-extra-specs", "TypesExtraSpecs", "Extra specs of volume types."),
    ("os-types-manage", "TypesManage", "Make and remove volume types."),
    ("os-used-limits", "UsedLimits", "How much of the limits is used."),
    ("os-vol-host-attr", "VolumeHostAttribute", "The host of volumes."),
    ("os-vol-image-meta", "VolumeImageMetadata", "What volumes remember of their image."),
    ("os-vol-mig-status-attr", "VolumeMigStatusAttribute", "How far a volume's migration is."),
    ("os-vol-tenant-attr", "VolumeTenantAttribute", "The project of volumes."),
    ("os-volume-actions", "VolumeActions", "Actions on volumes."),
    ("os-volume-manage", "VolumeManage", "Bring volumes that are on a node under management."),
    ("os-volume-transfer", "VolumeTransfer", "Volumes that change their project."),
    ("os-volume-type-access", "VolumeTypeAccess", "Private volume types."),
    ("os-volume-unmanage", "VolumeUnmanage", "Leave volumes to their node alone."),
    ("qos-specs", "Qos_specs_manage", "QoS specs of volume types."),
    ("scheduler-stats", "Scheduler_stats", "The nodes as the scheduler sees them."),
)


def _extension(row: tuple[str, str, str]) -> dict[str, Any]:
    alias, name, description = row
    return {"alias": alias, "name": name, "description": description, "links": [], "updated": "2016-12-01T00:00:00Z"}


def index(call: Call) -> dict[str, Any]:
    """GET /extensions: 200."""
    return {"extensions": [_extension(row) for row in _EXTENSIONS]}


def show(call: Call) -> dict[str, Any]:
    """GET /extensions/{alias}: 200."""
    for row in _EXTENSIONS:
        if row[0] == call.params["alias"]:
            return {"extension": _extension(row)}
    raise NotFound(f"There is no extension {call.params['alias']}.")
