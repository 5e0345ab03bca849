"""Who makes a request, as every service sees it."""

from __future__ import annotations

from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A verified token's holder and scope. Made by identity from a token, never from request headers."""

    user_id: str
    user_name: str = ""
    user_domain_id: str = ""
    project_id: str | None = None
    project_name: str = ""
    project_domain_id: str | None = None
    domain_id: str | None = None  # domain scope
    system: bool = False  # system scope
    roles: tuple[str, ...] = ()  # names, implied ones included
    role_ids: tuple[str, ...] = ()
    token_expires: float = 0
    audit_ids: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    application_credential_id: str | None = None
    trust_id: str | None = None
    trustor_id: str | None = None
    trustee_id: str | None = None
    unrestricted: bool = True  # False: an application credential that may not make credentials

    @property
    def is_admin(self) -> bool:
        """Holds the admin role in whatever scope the token has; policy rules decide what that opens."""
        return "admin" in self.roles

    def credentials(self) -> dict[str, Any]:
        """What policy rules may ask about the caller, by the names that oslo.policy files use."""
        return {
            "user_id": self.user_id,
            "user_domain_id": self.user_domain_id,
            "project_id": self.project_id,
            "tenant_id": self.project_id,
            "project_domain_id": self.project_domain_id,
            "domain_id": self.domain_id,
            "token.domain.id": self.domain_id,
            "token.project.domain.id": self.project_domain_id,
            "system_scope": "all" if self.system else None,
            "roles": self.roles,
            "is_admin": self.is_admin,
            "trust_id": self.trust_id,
            "trustor_id": self.trustor_id,
            "trustee_id": self.trustee_id,
        }


NOBODY = Context(user_id="")
