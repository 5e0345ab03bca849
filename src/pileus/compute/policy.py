"""Compute's policy rules of servers, by the names that Nova's users know; `policy_rest` has the others."""

from __future__ import annotations

from pileus.compute.policy_rest import REST_RULES

_ADMIN = "role:admin"
_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"
_MANAGER = "role:admin or (role:manager and project_id:%(project_id)s)"


def _rules(prefix: str, rule: str, *names: str) -> dict[str, str]:
    return {f"os_compute_api:{prefix}:{name}": rule for name in names}


SERVER_RULES: dict[str, str] = {
    **_rules("servers", _READER, "index", "detail", "show", "show:flavor-extra-specs"),
    **_rules(
        "servers", _ADMIN, "index:get_all_tenants", "detail:get_all_tenants", "allow_all_filters", "show:host_status",
        "create:forced_host", "create:zero_disk_flavor",
    ),
    **_rules(
        "servers", _MEMBER, "create", "create:attach_volume", "create:attach_network", "create:trusted_certs", "delete",
        "update", "confirm_resize", "revert_resize", "reboot", "resize", "rebuild", "create_image", "start", "stop",
    ),
    "compute:servers:create:requested_destination": _ADMIN,
    "network:attach_external_network": _ADMIN,
    "os_compute_api:os-extended-server-attributes": _ADMIN,
    **_rules("server-metadata", _READER, "index", "show"),
    **_rules("server-metadata", _MEMBER, "create", "update_all", "update", "delete"),
    **_rules("os-server-tags", _READER, "index", "show"),
    **_rules("os-server-tags", _MEMBER, "update", "update_all", "delete", "delete_all"),
    **_rules("ips", _READER, "index", "show"),
    **_rules("os-admin-actions", _ADMIN, "reset_state", "inject_network_info"),
    "os_compute_api:os-create-backup": _MEMBER,
    **_rules("os-deferred-delete", _MEMBER, "force", "restore"),
    "os_compute_api:os-evacuate": _ADMIN,
    **_rules("os-lock-server", _MEMBER, "lock", "unlock"),
    "os_compute_api:os-lock-server:unlock:unlock_override": _ADMIN,
    **_rules("os-migrate-server", _MANAGER, "migrate", "migrate_live"),
    "os_compute_api:os-migrate-server:migrate:host": _ADMIN,
    "os_compute_api:os-migrate-server:migrate_live:host": _ADMIN,
    **_rules("os-pause-server", _MEMBER, "pause", "unpause"),
    **_rules("os-suspend-server", _MEMBER, "suspend", "resume"),
    "os_compute_api:os-rescue": _MEMBER,
    "os_compute_api:os-unrescue": _MEMBER,
    **_rules("os-shelve", _MEMBER, "shelve", "unshelve"),
    **_rules("os-shelve", _ADMIN, "shelve_offload", "unshelve_to_host"),
    "os_compute_api:os-remote-consoles": _MEMBER,
    "os_compute_api:os-console-auth-tokens": _ADMIN,
    **_rules("os-attach-interfaces", _READER, "list", "show"),
    **_rules("os-attach-interfaces", _MEMBER, "create", "delete"),
    **_rules("os-volumes-attachments", _READER, "index", "show"),
    **_rules("os-volumes-attachments", _MEMBER, "create", "update", "delete"),
    "os_compute_api:os-volumes-attachments:swap": "role:admin or role:service",
    **_rules("os-multinic", _MEMBER, "add", "remove"),
    **_rules("os-security-groups", _READER, "list"),
    **_rules("os-security-groups", _MEMBER, "add", "remove"),
    **_rules("os-floating-ips", _MEMBER, "add", "remove"),
    **_rules("os-instance-actions", _READER, "list", "show"),
    **_rules("os-instance-actions", _ADMIN, "events", "events:details"),
    "os_compute_api:os-console-output": _MEMBER,
    "os_compute_api:os-server-diagnostics": _ADMIN,
    "os_compute_api:os-server-password:show": _READER,
    "os_compute_api:os-server-password:clear": _MEMBER,
    "os_compute_api:os-admin-password": _MEMBER,
    "os_compute_api:servers:trigger_crash_dump": _MEMBER,
    **_rules("servers:migrations", _MANAGER, "index", "delete", "force_complete"),
    **_rules("servers:migrations", _ADMIN, "show"),
    "compute:server:topology:index": _READER,
}

RULES = {**SERVER_RULES, **REST_RULES}
