"""Tables of identity."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

domain = table(
    "identity_domain",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("description", LongText, nullable=False, default=""),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

project = table(
    "identity_project",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("domain_id", Id, sa.ForeignKey("identity_domain.id"), nullable=False),
    sa.Column("parent_id", Id),  # None: the domain is the parent
    sa.Column("description", LongText, nullable=False, default=""),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
    sa.Index("ix_identity_project_parent", "parent_id"),
)

project_tag = table(
    "identity_project_tag",
    sa.Column("project_id", Id, sa.ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", Name, primary_key=True),
)

user = table(
    "identity_user",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("domain_id", Id, sa.ForeignKey("identity_domain.id"), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("default_project_id", Id),
    sa.Column("description", LongText),
    sa.Column("password_hash", sa.String(255)),
    sa.Column("password_changed", Time),
    sa.Column("password_expires", Time),
    sa.Column("tokens_from", Time, nullable=False, default=0.0),  # tokens issued before are void
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("failed_at", Time),
    sa.Column("last_active", Time),
    sa.Column("created", Time, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
)

password_history = table(
    "identity_password_history",
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("user_id", Id, sa.ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("created", Time, nullable=False),
)

group = table(
    "identity_group",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("domain_id", Id, sa.ForeignKey("identity_domain.id"), nullable=False),
    sa.Column("description", LongText, nullable=False, default=""),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
)

group_member = table(
    "identity_group_member",
    sa.Column("group_id", Id, sa.ForeignKey("identity_group.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", Id, sa.ForeignKey("identity_user.id", ondelete="CASCADE"), primary_key=True, index=True),
)

role = table(
    "identity_role",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("domain_id", Id, nullable=False, default=""),  # "": a global role
    sa.Column("description", LongText),
    sa.Column("options", Json, nullable=False),
    sa.Column("extra", Json, nullable=False),
    sa.UniqueConstraint("domain_id", "name"),
)

implied_role = table(
    "identity_implied_role",
    sa.Column("prior_id", Id, sa.ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("implied_id", Id, sa.ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
)

assignment = table(
    "identity_assignment",
    sa.Column("actor_kind", sa.String(8), primary_key=True),  # user, group
    sa.Column("actor_id", Id, primary_key=True),
    sa.Column("target_kind", sa.String(8), primary_key=True),  # project, domain, system
    sa.Column("target_id", Id, primary_key=True),
    sa.Column("role_id", Id, sa.ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True),
    sa.Index("ix_identity_assignment_target", "target_kind", "target_id"),
)

region = table(
    "identity_region",
    sa.Column("id", Name, primary_key=True),
    sa.Column("description", LongText, nullable=False, default=""),
    sa.Column("parent_id", Name, sa.ForeignKey("identity_region.id")),
    sa.Column("extra", Json, nullable=False),
)

service = table(
    "identity_service",
    sa.Column("id", Id, primary_key=True),
    sa.Column("type", Name, nullable=False),
    sa.Column("name", Name, nullable=False, default=""),
    sa.Column("description", LongText),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

endpoint = table(
    "identity_endpoint",
    sa.Column("id", Id, primary_key=True),
    sa.Column("service_id", Id, sa.ForeignKey("identity_service.id", ondelete="CASCADE"), nullable=False),
    sa.Column("interface", sa.String(8), nullable=False),  # public, internal, admin
    sa.Column("region_id", Name, sa.ForeignKey("identity_region.id")),
    sa.Column("url", LongText, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("own", sa.Boolean, nullable=False, default=False),  # kept in step with the setting `public_url`
    sa.Column("owner", Name, nullable=False, default="", server_default=""),  # the controller whose URL it is
    sa.Column("explicit", sa.Boolean, nullable=False, default=False, server_default=sa.false()),  # by `public_url`
    sa.Column("extra", Json, nullable=False),
)

application_credential = table(
    "identity_application_credential",
    sa.Column("id", Id, primary_key=True),
    sa.Column("user_id", Id, sa.ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    sa.Column("project_id", Id, sa.ForeignKey("identity_project.id", ondelete="CASCADE")),
    sa.Column("system", sa.Boolean, nullable=False, default=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("description", LongText),
    sa.Column("secret_hash", sa.String(255), nullable=False),
    sa.Column("expires_at", Time),
    sa.Column("unrestricted", sa.Boolean, nullable=False),
    sa.Column("roles", Json, nullable=False),  # role ids
    sa.Column("access_rules", Json, nullable=False),  # access rule ids
    sa.UniqueConstraint("user_id", "name"),
)

access_rule = table(
    "identity_access_rule",
    sa.Column("id", Id, primary_key=True),
    sa.Column("user_id", Id, sa.ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("service", Name, nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("path", sa.String(255), nullable=False),
)

trust = table(
    "identity_trust",
    sa.Column("id", Id, primary_key=True),
    sa.Column("trustor_user_id", Id, nullable=False, index=True),
    sa.Column("trustee_user_id", Id, nullable=False, index=True),
    sa.Column("project_id", Id),
    sa.Column("impersonation", sa.Boolean, nullable=False),
    sa.Column("expires_at", Time),
    sa.Column("remaining_uses", sa.Integer),
    sa.Column("redelegated_trust_id", Id),
    sa.Column("redelegation_count", sa.Integer, nullable=False, default=0),
    sa.Column("roles", Json, nullable=False),  # role ids
    sa.Column("deleted_at", Time),
    sa.Column("created", Time, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

credential = table(
    "identity_credential",
    sa.Column("id", Id, primary_key=True),
    sa.Column("user_id", Id, nullable=False, index=True),
    sa.Column("project_id", Id),
    sa.Column("type", Name, nullable=False),
    sa.Column("blob", LongText, nullable=False),  # encrypted with the credential key
    sa.Column("extra", Json, nullable=False),
)

policy = table(
    "identity_policy",
    sa.Column("id", Id, primary_key=True),
    sa.Column("type", Name, nullable=False),
    sa.Column("blob", LongText, nullable=False),
    sa.Column("extra", Json, nullable=False),
)

registered_limit = table(
    "identity_registered_limit",
    sa.Column("id", Id, primary_key=True),
    sa.Column("service_id", Id, sa.ForeignKey("identity_service.id"), nullable=False),
    sa.Column("region_id", Name, nullable=False, default=""),  # "": every region
    sa.Column("resource_name", Name, nullable=False),
    sa.Column("default_limit", sa.BigInteger, nullable=False),
    sa.Column("description", LongText),
)

limit = table(
    "identity_limit",
    sa.Column("id", Id, primary_key=True),
    sa.Column("registered_limit_id", Id, sa.ForeignKey("identity_registered_limit.id"), nullable=False),
    sa.Column("project_id", Id, index=True),
    sa.Column("domain_id", Id, index=True),
    sa.Column("resource_limit", sa.BigInteger, nullable=False),
    sa.Column("description", LongText),
)

revoked = table(
    "identity_revoked",
    sa.Column("audit_id", Id, primary_key=True),  # a token's own audit id, or its chain's with `chain`
    sa.Column("chain", sa.Boolean, nullable=False, default=False),
    sa.Column("until", Time, nullable=False),  # when the token would have expired by itself
)

key = table(
    "identity_key",
    sa.Column("purpose", sa.String(16), primary_key=True),  # token, credential
    sa.Column("number", sa.Integer, primary_key=True),  # the highest signs, all verify
    sa.Column("secret", sa.String(64), nullable=False),
    sa.Column("created", Time, nullable=False),
)
