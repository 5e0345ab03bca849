"""Policy rules of everything in compute but servers, by the names that Nova's users know."""

_ADMIN = "role:admin"
_READER = "role:admin or (role:reader and project_id:%(project_id)s)"
_MEMBER = "role:admin or (role:member and project_id:%(project_id)s)"
_SELF = "role:admin or user_id:%(user_id)s"


def _rules(prefix: str, rule: str, *names: str) -> dict[str, str]:
    return {f"os_compute_api:{prefix}:{name}": rule for name in names}


REST_RULES: dict[str, str] = {
    "os_compute_api:extensions": "@",
    # flavors; listing and showing them takes any valid token
    **_rules("os-flavor-manage", _ADMIN, "create", "update", "delete"),
    **_rules("os-flavor-extra-specs", _READER, "index", "show"),
    **_rules("os-flavor-extra-specs", _ADMIN, "create", "update", "delete"),
    "os_compute_api:os-flavor-access": _ADMIN,
    **_rules("os-flavor-access", _ADMIN, "add_tenant_access", "remove_tenant_access"),
    # what belongs to users and projects
    **_rules("os-keypairs", _SELF, "index", "show", "create", "delete"),
    **_rules("os-server-groups", _READER, "index", "show"),
    **_rules("os-server-groups", _MEMBER, "create", "delete"),
    "os_compute_api:os-server-groups:index:all_projects": _ADMIN,
    "os_compute_api:limits": _READER,
    "os_compute_api:limits:other_project": _ADMIN,
    "os_compute_api:os-quota-sets:defaults": "@",
    **_rules("os-quota-sets", _READER, "show", "detail"),
    **_rules("os-quota-sets", _ADMIN, "update", "delete"),
    **_rules("os-quota-class-sets", _ADMIN, "show", "update"),
    **_rules("os-simple-tenant-usage", _READER, "show"),
    **_rules("os-simple-tenant-usage", _ADMIN, "list"),
    # the cloud's own parts
    **_rules("os-services", _ADMIN, "list", "update", "delete"),
    **_rules(
        "os-hypervisors", _ADMIN, "list", "list-detail", "statistics", "show", "uptime", "search", "servers"
    ),
    **_rules(
        "os-aggregates", _ADMIN, "index", "show", "create", "update", "delete", "add_host", "remove_host",
        "set_metadata",
    ),
    "compute:aggregates:images": _ADMIN,
    "os_compute_api:os-availability-zone:list": _READER,
    "os_compute_api:os-availability-zone:detail": _ADMIN,
    **_rules("os-hosts", _ADMIN, "list", "show", "update", "start", "shutdown", "reboot"),
    "os_compute_api:os-migrations:index": _ADMIN,
    **_rules("os-instance-usage-audit-log", _ADMIN, "list", "show"),
    "os_compute_api:os-server-external-events:create": "role:admin or role:service",
    # proxies of other services, up to 2.35
    **_rules("os-tenant-networks", _READER, "list", "show"),
    **_rules("os-networks", _READER, "list", "show"),
    **_rules("os-security-groups", _READER, "get", "show"),
    **_rules("os-security-groups", _MEMBER, "create", "update", "delete", "rule:create", "rule:delete"),
    **_rules("os-volumes", _READER, "list", "detail", "show", "snapshots:list", "snapshots:detail", "snapshots:show"),
    **_rules("os-volumes", _MEMBER, "create", "delete", "snapshots:create", "snapshots:delete"),
    "os_compute_api:os-floating-ip-pools": "@",
    **_rules("os-floating-ips", _READER, "list", "show"),
    **_rules("os-floating-ips", _MEMBER, "create", "delete"),
}
