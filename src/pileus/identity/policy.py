"""Identity's policy rules: the defaults, by the names that Keystone's users know."""

_READ = "rule:admin_required or (role:reader and system_scope:all)"
_DOMAIN_READ = _READ + " or (role:reader and domain_id:%(domain_id)s)"
_DOMAIN_WRITE = "rule:admin_required"

RULES = {
    "admin_required": "role:admin",
    "owner": "user_id:%(user_id)s",
    "admin_or_owner": "rule:admin_required or rule:owner",
    "identity:validate_token": _READ + " or rule:owner",
    "identity:revoke_token": "rule:admin_or_owner",
    "identity:get_project": _DOMAIN_READ + " or project_id:%(project_id)s",
    "identity:list_projects": _DOMAIN_READ,
    "identity:create_project": _DOMAIN_WRITE,
    "identity:update_project": _DOMAIN_WRITE,
    "identity:delete_project": _DOMAIN_WRITE,
    "identity:list_project_tags": _DOMAIN_READ + " or project_id:%(project_id)s",
    "identity:get_project_tag": _DOMAIN_READ + " or project_id:%(project_id)s",
    "identity:update_project_tags": _DOMAIN_WRITE,
    "identity:create_project_tag": _DOMAIN_WRITE,
    "identity:delete_project_tags": _DOMAIN_WRITE,
    "identity:delete_project_tag": _DOMAIN_WRITE,
}
