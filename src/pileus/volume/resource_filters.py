"""What lists can be filtered by."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call

_FILTERS = {
    "volume": ["name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size",
               "created_at", "updated_at", "description", "multiattach", "snapshot_id", "source_volid", "user_id",
               "glance_metadata", "volume_type", "consumes_quota"],
    "backup": ["name", "status", "volume_id", "snapshot_id", "size", "metadata"],
    "snapshot": ["name", "status", "volume_id", "metadata", "size", "user_id", "group_snapshot_id",
                 "availability_zone", "consumes_quota"],
    "group": ["name", "status", "availability_zone", "group_type"],
    "group_snapshot": ["name", "status", "group_id"],
    "attachment": ["volume_id", "status", "instance_id", "attach_status"],
    "message": ["resource_uuid", "resource_type", "event_id", "request_id", "message_level"],
    "pool": ["name", "volume_type"],
    "volume_type": ["is_public", "extra_specs", "name", "description"],
}


def index(call: Call) -> dict[str, Any]:
    """GET /resource_filters: 200, of one resource or of all."""
    wanted = call.query.resource
    return {"resource_filters": [
        {"resource": name, "filters": filters} for name, filters in _FILTERS.items() if wanted in (None, name)
    ]}
