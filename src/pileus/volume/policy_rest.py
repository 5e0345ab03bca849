"""Policy rules of types, quotas, backups, groups, transfers, services and the rest, by the names that Cinder's users
know."""

from __future__ import annotations

_ADMIN = "role:admin"
_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"


def _rules(prefix: str, rule: str, *names: str) -> dict[str, str]:
    return {f"{prefix}:{name}": rule for name in names}


REST_RULES: dict[str, str] = {
    # types; listing and showing them takes any valid token
    "volume_extension:access_types_extra_specs": _ADMIN,
    "volume_extension:access_types_qos_specs_id": _ADMIN,
    **_rules("volume_extension", _ADMIN, "type_create", "type_update", "type_delete"),
    **_rules("volume_extension:types_extra_specs", _ADMIN, "index", "show", "create", "update", "delete"),
    "volume_extension:volume_type_access": _ADMIN,
    **_rules("volume_extension:volume_type_access", _ADMIN, "addProjectAccess", "removeProjectAccess",
             "get_all_for_type"),
    **_rules("volume_extension:volume_type_encryption", _ADMIN, "get", "create", "update", "delete"),
    "volume_extension:volume_encryption_metadata": _READER,
    **_rules("volume_extension:default", _ADMIN, "set_or_update", "get", "get_all", "unset"),
    **_rules("volume_extension:qos_specs_manage", _ADMIN, "get_all", "get", "create", "update", "delete"),
    # quotas
    "volume_extension:quotas:show": _READER,
    **_rules("volume_extension:quotas", _ADMIN, "update", "delete"),
    **_rules("volume_extension:quota_classes", _ADMIN, "get", "update"),
    "limits_extension:used_limits": _READER,
    # the cloud's own parts
    "volume:availability_zone_list": "@",
    "volume:get_resource_filters": "@",
    "volume_extension:list_extensions": "@",
    **_rules("volume_extension:services", _ADMIN, "index", "update"),
    **_rules("volume", _ADMIN, "freeze_host", "thaw_host", "failover_host"),
    "volume_extension:hosts": _ADMIN,
    "scheduler_extension:scheduler_stats:get_pools": _ADMIN,
    "volume_extension:capabilities": _ADMIN,
    **_rules("clusters", _ADMIN, "get", "get_all", "update"),
    "workers:cleanup": _ADMIN,
    # transfers
    **_rules("volume", _READER, "get_transfer", "get_all_transfers"),
    **_rules("volume", _MEMBER, "create_transfer", "accept_transfer", "delete_transfer"),
    "volume:get_all_transfers:all_tenants": _ADMIN,
    # backups
    **_rules("backup", _READER, "get", "get_all"),
    **_rules("backup", _MEMBER, "create", "update", "delete", "restore"),
    **_rules("backup", _ADMIN, "get_all:all_tenants", "backup_project_attribute", "export-import"),
    **_rules("volume_extension:backup_admin_actions", _ADMIN, "reset_status", "force_delete"),
    # messages
    **_rules("message", _READER, "get", "get_all"),
    "message:delete": _MEMBER,
    "message:get_all:all_tenants": _ADMIN,
    # groups; listing and showing their types takes any valid token
    **_rules("group", _READER, "get", "get_all", "get_group_snapshot", "get_all_group_snapshots"),
    **_rules("group", _MEMBER, "create", "update", "delete", "create_group_snapshot", "update_group_snapshot",
             "delete_group_snapshot"),
    **_rules("group", _ADMIN, "get_all:all_tenants", "get_all_group_snapshots:all_tenants", "reset_status",
             "reset_group_snapshot_status", "access_group_types_specs", "group_project_attribute",
             "group_snapshot_project_attribute"),
    **_rules("group:group_types", _ADMIN, "create", "update", "delete"),
    **_rules("group:group_types_specs", _ADMIN, "get_all", "get", "create", "update", "delete"),
    # what is moved, retyped, and taken out of the API's hands
    "volume:retype": _MEMBER,
    "volume_extension:volume_admin_actions:migrate_volume": _ADMIN,
    **_rules("volume_extension", _ADMIN, "volume_manage", "volume_unmanage", "list_manageable"),
    **_rules("snapshot_extension", _ADMIN, "snapshot_manage", "snapshot_unmanage", "list_manageable"),
}
