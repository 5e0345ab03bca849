"""The policy rules of volumes, snapshots and attachments, by the names that Cinder's users know."""

from __future__ import annotations

from pileus.volume.policy_rest import REST_RULES

_ADMIN = "role:admin"
_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"


def _rules(prefix: str, rule: str, *names: str) -> dict[str, str]:
    return {f"{prefix}:{name}": rule for name in names}


RULES: dict[str, str] = {
    **_rules("volume", _READER, "get", "get_all", "get_volume_metadata", "get_snapshot", "get_all_snapshots",
             "get_snapshot_metadata"),
    **_rules("volume", _MEMBER, "create", "create_from_image", "update", "delete", "extend", "extend_attached_volume",
             "revert_to_snapshot", "create_volume_metadata", "update_volume_metadata", "delete_volume_metadata",
             "create_snapshot", "update_snapshot", "delete_snapshot", "update_snapshot_metadata",
             "delete_snapshot_metadata", "attachment_create", "attachment_update", "attachment_delete",
             "attachment_complete", "multiattach_bootable_volume", "reimage", "reimage_reserved"),
    **_rules("volume", _ADMIN, "force_delete", "get_all:all_tenants"),
    **_rules("volume_extension:volume_actions", _MEMBER, "upload_image", "reserve", "unreserve", "begin_detaching",
             "roll_detaching", "attach", "detach", "initialize_connection", "terminate_connection"),
    **_rules("volume_extension:volume_admin_actions", _ADMIN, "reset_status", "force_delete", "force_detach",
             "extend_volume_completion"),
    **_rules("volume_extension:snapshot_admin_actions", _ADMIN, "reset_status", "force_delete"),
    "snapshot_extension:snapshot_actions:update_snapshot_status": _MEMBER,
    "volume_extension:volume_image_metadata:show": _READER,
    "volume_extension:volume_image_metadata:set": _MEMBER,
    "volume_extension:volume_image_metadata:remove": _MEMBER,
    "volume_extension:volume_tenant_attribute": _READER,
    "volume_extension:volume_host_attribute": _ADMIN,
    "volume_extension:volume_mig_status_attribute": _ADMIN,
    "volume_extension:extended_snapshot_attributes": _READER,
    **REST_RULES,
}
