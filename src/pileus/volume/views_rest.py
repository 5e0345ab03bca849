"""What types, QoS specs, transfers, backups, groups and messages look like on the wire."""

from __future__ import annotations

from pileus.web.views import Field, View
from pileus.world import iso_micro


def when(seconds: float | None) -> str | None:
    """A time as Cinder prints it: `2026-01-31T12:00:00.000000`."""
    return None if seconds is None else iso_micro(seconds)


_CREATED = Field("created_at", lambda row: when(row.created))
_UPDATED = Field("updated_at", lambda row: when(row.updated))

# -- types

_TYPE = ("id", "name", "is_public", "description", "extra_specs")
_IS_PUBLIC = Field("os-volume-type-access:is_public", "is_public")

TYPE = View(*_TYPE, Field("qos_specs_id", "qos_id"), _IS_PUBLIC)
TYPE_SHORT = View(*_TYPE, Field("qos_specs_id", "qos_id"))
"""As the default type is shown."""
TYPE_NEW = View(*_TYPE, _IS_PUBLIC)
TYPE_CHANGED = View(*_TYPE)

QOS = View("consumer", "specs", "name", "id")

# -- groups

GROUP_TYPE = View("id", "name", "is_public", "description", Field("group_specs", "specs"))

GROUP_SHORT = View("id", "name")
GROUP = View(
    "id", "name", "status", Field("availability_zone", "zone"), _CREATED, "description",
    Field("group_type", "type_id"), "volume_types",
    Field("group_snapshot_id", since=(3, 14)), Field("source_group_id", "source_id", since=(3, 14)),
    Field("replication_status", lambda row: "disabled", since=(3, 38)),
)

GROUP_SNAPSHOT_SHORT = View("id", "name")
GROUP_SNAPSHOT_NEW = View("id", "name", "group_type_id")
GROUP_SNAPSHOT = View(
    "id", "group_id", "group_type_id", "status", _CREATED, "name", "description",
)

# -- transfers

TRANSFER_SHORT = View("id", "volume_id", "name")
TRANSFER = View(
    "id", _CREATED, "name", "volume_id", Field("no_snapshots", since=(3, 55)),
    Field("source_project_id", "project_id", since=(3, 57)),
    Field("destination_project_id", lambda row: None, since=(3, 57)),
    Field("accepted", lambda row: False, since=(3, 57)),
)

# -- backups; what depends on the caller is added by `backups`

BACKUP_SHORT = View("id", "name")
BACKUP_NEW = View("id", "name", Field("metadata", since=(3, 43)))
BACKUP = View(
    "id", "status", "size", Field("object_count", lambda row: 0), Field("availability_zone", "zone"),
    Field("container", lambda row: None), _CREATED, _UPDATED, "name", "description", Field("fail_reason", "error"),
    "volume_id", Field("is_incremental", lambda row: row.parent_id is not None),
    "snapshot_id", Field("data_timestamp", lambda row: when(row.of or row.created)),
    Field("metadata", since=(3, 43)), Field("user_id", since=(3, 56)),
)

# -- messages

MESSAGE = View(
    "id", "event_id", Field("user_message", "text"), Field("message_level", "level"), _CREATED,
    Field("guaranteed_until", lambda row: when(row.expires)), "request_id", "resource_type",
    Field("resource_uuid", "resource_id"),
)
