"""Identity's policy rules: the defaults, by the names and with the targets that Keystone's policy files use.

Scopes are not enforced, as Keystone's default `enforce_scope` for a role of admin: `rule:admin_required` is the role
in whatever scope, readers need the system's or the target's domain.
"""

from __future__ import annotations

from typing import Any

_SYSTEM = "(role:reader and system_scope:all)"
_ADMIN = "rule:admin_required"
_READ = f"{_ADMIN} or {_SYSTEM}"


def _by(role: str, *fields: str) -> str:
    return f"(role:{role} and " + " and ".join(f"domain_id:%(target.{f})s" for f in fields) + ")"


_PROJECT_READ = f"{_READ} or {_by('reader', 'project.domain_id')} or project_id:%(target.project.id)s"
_PROJECT_WRITE = f"{_ADMIN} or {_by('manager', 'project.domain_id')}"
_USER_WRITE = f"{_ADMIN} or (role:manager and token.domain.id:%(target.user.domain_id)s)"
_GROUP_READ = f"{_READ} or {_by('reader', 'group.domain_id')}"
_GROUP_WRITE = f"{_ADMIN} or {_by('manager', 'group.domain_id')}"
_MEMBER_WRITE = f"{_ADMIN} or {_by('manager', 'group.domain_id', 'user.domain_id')}"
_CREDENTIAL_READ = f"{_READ} or user_id:%(target.credential.user_id)s"
_CREDENTIAL_WRITE = f"{_ADMIN} or user_id:%(target.credential.user_id)s"
_EC2_WRITE = f"{_ADMIN} or (role:member and user_id:%(target.credential.user_id)s)"
_TRUST_READ = f"{_READ} or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s"
_RULE_READ = f"{_SYSTEM} or user_id:%(target.user.id)s"
_RULE_WRITE = "(role:admin and system_scope:all) or user_id:%(target.user.id)s"

_PAIRS = (
    ("user.domain_id", "project.domain_id"), ("user.domain_id", "domain.id"),
    ("group.domain_id", "project.domain_id"), ("group.domain_id", "domain.id"),
)


def _grant(role: str) -> str:
    return "(" + " or ".join(_by(role, *pair) for pair in _PAIRS) + ")"


_OWN_ROLE = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"
_GRANT_WRITE = (
    f"{_ADMIN} or ({_grant('admin')} and {_OWN_ROLE}) or ({_grant('manager')} and rule:domain_managed_target_role)"
)


def _crud(noun: str, plural: str, read: str = _READ, write: str = _ADMIN) -> dict[str, str]:
    return {
        f"identity:get_{noun}": read, f"identity:list_{plural}": read, f"identity:create_{noun}": write,
        f"identity:update_{noun}": write, f"identity:delete_{noun}": write,
    }


RULES = {
    "admin_required": "role:admin",
    "service_role": "role:service",
    "service_or_admin": "rule:admin_required or rule:service_role",
    "owner": "user_id:%(user_id)s",
    "admin_or_owner": "rule:admin_required or rule:owner",
    "token_subject": "user_id:%(target.token.user_id)s",
    "admin_or_token_subject": "rule:admin_required or rule:token_subject",
    "service_admin_or_token_subject": "rule:service_or_admin or rule:token_subject",
    "domain_managed_target_role": (
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s"
    ),
    # tokens
    "identity:check_token": f"{_READ} or rule:token_subject",
    "identity:validate_token": f"{_READ} or rule:service_role or rule:token_subject",
    "identity:revoke_token": "rule:admin_or_token_subject",
    "identity:ec2tokens_validate": "rule:service_or_admin",
    "identity:s3tokens_validate": "rule:service_or_admin",
    "identity:get_auth_catalog": "",
    "identity:get_auth_projects": "",
    "identity:get_auth_domains": "",
    "identity:get_auth_system": "",
    # domains, projects
    **_crud("domain", "domains"),
    "identity:get_domain": (
        f"{_READ} or token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s"
    ),
    "identity:list_domains": f"{_READ} or {_by('reader', 'domain.id')}",
    **_crud("project", "projects", _PROJECT_READ, _PROJECT_WRITE),
    "identity:list_projects": f"{_READ} or {_by('reader', 'domain_id')}",
    "identity:list_user_projects": f"{_READ} or {_by('reader', 'user.domain_id')} or user_id:%(target.user.id)s",
    "identity:list_project_tags": _PROJECT_READ,
    "identity:get_project_tag": _PROJECT_READ,
    "identity:update_project_tags": _PROJECT_WRITE,
    "identity:create_project_tag": _PROJECT_WRITE,
    "identity:delete_project_tags": _PROJECT_WRITE,
    "identity:delete_project_tag": _PROJECT_WRITE,
    # users, groups
    **_crud("user", "users", _READ, _USER_WRITE),
    "identity:get_user": (
        f"{_READ} or (role:reader and token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"
    ),
    "identity:list_users": f"{_READ} or {_by('reader', 'domain_id')}",
    **_crud("group", "groups", _GROUP_READ, _GROUP_WRITE),
    "identity:list_groups_for_user": f"{_READ} or {_by('reader', 'user.domain_id')} or user_id:%(user_id)s",
    "identity:list_users_in_group": _GROUP_READ,
    "identity:check_user_in_group": f"{_READ} or {_by('reader', 'group.domain_id', 'user.domain_id')}",
    "identity:add_user_to_group": _MEMBER_WRITE,
    "identity:remove_user_from_group": _MEMBER_WRITE,
    # roles and grants
    **_crud("role", "roles"),
    "identity:get_role": f"{_READ} or (role:manager and rule:domain_managed_target_role)",
    "identity:list_roles": f"{_READ} or (role:manager and not domain_id:None)",
    **_crud("domain_role", "domain_roles"),
    **_crud("implied_role", "implied_roles"),
    "identity:check_implied_role": _READ,
    "identity:list_role_inference_rules": _READ,
    "identity:check_grant": f"{_READ} or ({_grant('reader')} and {_OWN_ROLE})",
    "identity:list_grants": f"{_READ} or {_grant('reader')}",
    "identity:create_grant": _GRANT_WRITE,
    "identity:revoke_grant": _GRANT_WRITE,
    "identity:list_system_grants_for_user": _READ,
    "identity:check_system_grant_for_user": _READ,
    "identity:create_system_grant_for_user": _ADMIN,
    "identity:revoke_system_grant_for_user": _ADMIN,
    "identity:list_system_grants_for_group": _READ,
    "identity:check_system_grant_for_group": _READ,
    "identity:create_system_grant_for_group": _ADMIN,
    "identity:revoke_system_grant_for_group": _ADMIN,
    "identity:list_role_assignments": f"{_READ} or {_by('reader', 'domain_id')}",
    "identity:list_role_assignments_for_tree": f"{_READ} or {_by('reader', 'domain_id')}",
    # catalog
    **_crud("region", "regions", ""),
    **_crud("service", "services"),
    **_crud("endpoint", "endpoints"),
    **_crud("policy", "policies"),
    # credentials and delegation
    **_crud("credential", "credentials", _CREDENTIAL_READ, _CREDENTIAL_WRITE),
    "identity:ec2_get_credential": _CREDENTIAL_READ,
    "identity:ec2_list_credentials": f"{_READ} or rule:owner",
    "identity:ec2_create_credential": _EC2_WRITE,
    "identity:ec2_delete_credential": _EC2_WRITE,
    "identity:create_trust": "user_id:%(target.trust.trustor_user_id)s",
    "identity:list_trusts": _READ,
    "identity:list_trusts_for_trustor": f"{_READ} or user_id:%(target.trust.trustor_user_id)s",
    "identity:list_trusts_for_trustee": f"{_READ} or user_id:%(target.trust.trustee_user_id)s",
    "identity:get_trust": _TRUST_READ,
    "identity:list_roles_for_trust": _TRUST_READ,
    "identity:get_role_for_trust": _TRUST_READ,
    "identity:delete_trust": f"{_ADMIN} or user_id:%(target.trust.trustor_user_id)s",
    "identity:get_application_credential": f"{_READ} or rule:owner",
    "identity:list_application_credentials": f"{_READ} or rule:owner",
    "identity:create_application_credential": "rule:owner",
    "identity:delete_application_credential": "rule:admin_or_owner",
    "identity:get_access_rule": _RULE_READ,
    "identity:list_access_rules": _RULE_READ,
    "identity:delete_access_rule": _RULE_WRITE,
    # unified limits
    "identity:get_limit_model": "",
    "identity:get_limit": (
        f"{_READ} or domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s"
        " or project_id:%(target.limit.project_id)s"
    ),
    "identity:list_limits": "",
    "identity:create_limits": _ADMIN,
    "identity:update_limit": _ADMIN,
    "identity:delete_limit": _ADMIN,
    "identity:get_registered_limit": "",
    "identity:list_registered_limits": "",
    "identity:create_registered_limits": _ADMIN,
    "identity:update_registered_limit": _ADMIN,
    "identity:delete_registered_limit": _ADMIN,
}

_FIELDS = ("id", "name", "domain_id", "user_id", "project_id", "trustor_user_id", "trustee_user_id")


def target(**things: Any) -> dict[str, Any]:
    """Rows as rules see them: `target(user=row)` has `target.user.id`, `target.user.domain_id` and so on.

    What is null is left out, so that it never equals a scope that is null too; but a global role's domain is None."""
    found: dict[str, Any] = {}
    for kind, row in things.items():
        for name in _FIELDS:
            value = getattr(row, name, None)
            if value:
                found[f"target.{kind}.{name}"] = value
        if kind == "role":
            found["target.role.domain_id"] = row.domain_id or None
    return found
