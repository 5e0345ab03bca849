"""The first schema."""

import sqlalchemy as sa
from alembic import op

from pileus.db.tables import Json

revision = "0001"
down_revision = None

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    _kernel()
    _identity()
    _image()
    _placement()
    _network()
    _compute()


def _kernel() -> None:
    op.create_table("lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
        if_not_exists=True,
    )
    op.create_table("named_lock",
        sa.Column("name", sa.String(length=191), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_named_lock"),
        if_not_exists=True,
    )
    op.create_table("revision",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_revision"),
        if_not_exists=True,
    )
    op.create_table("task",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("resource", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("arguments", LONG_TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("lease", sa.Double(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("result", Json(), nullable=True),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_task"),
        sa.UniqueConstraint("id", name="uq_task_id"),
        if_not_exists=True,
    )
    op.create_index("ix_task_open", "task", ["node", "state", "seq"], unique=False, if_not_exists=True)
    op.create_index("ix_task_resource", "task", ["resource", "state"], unique=False, if_not_exists=True)


def _identity() -> None:
    op.create_table("identity_credential",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("blob", LONG_TEXT, nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_credential"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_credential_user_id", "identity_credential", ["user_id"], unique=False, if_not_exists=True)
    op.create_table("identity_domain",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("options", Json(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_domain"),
        sa.UniqueConstraint("name", name="uq_identity_domain_name"),
        if_not_exists=True,
    )
    op.create_table("identity_key",
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("purpose", "number", name="pk_identity_key"),
        if_not_exists=True,
    )
    op.create_table("identity_policy",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("blob", LONG_TEXT, nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_policy"),
        if_not_exists=True,
    )
    op.create_table("identity_region",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=False),
        sa.Column("parent_id", sa.String(length=255), nullable=True),
        sa.Column("extra", Json(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["identity_region.id"], name="fk_identity_region_parent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_region"),
        if_not_exists=True,
    )
    op.create_table("identity_revoked",
        sa.Column("audit_id", sa.String(length=64), nullable=False),
        sa.Column("chain", sa.Boolean(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_identity_revoked"),
        if_not_exists=True,
    )
    op.create_table("identity_role",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("options", Json(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_role"),
        sa.UniqueConstraint("domain_id", "name", name="uq_identity_role_domain_id_name"),
        if_not_exists=True,
    )
    op.create_table("identity_service",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_service"),
        if_not_exists=True,
    )
    op.create_table("identity_trust",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("trustor_user_id", sa.String(length=64), nullable=False),
        sa.Column("trustee_user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("impersonation", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("remaining_uses", sa.Integer(), nullable=True),
        sa.Column("redelegated_trust_id", sa.String(length=64), nullable=True),
        sa.Column("redelegation_count", sa.Integer(), nullable=False),
        sa.Column("roles", Json(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity_trust"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_trust_trustee_user_id", "identity_trust", ["trustee_user_id"], unique=False, if_not_exists=True)
    op.create_index("ix_identity_trust_trustor_user_id", "identity_trust", ["trustor_user_id"], unique=False, if_not_exists=True)
    op.create_table("identity_assignment",
        sa.Column("actor_kind", sa.String(length=8), nullable=False),
        sa.Column("actor_id", sa.String(length=64), nullable=False),
        sa.Column("target_kind", sa.String(length=8), nullable=False),
        sa.Column("target_id", sa.String(length=64), nullable=False),
        sa.Column("role_id", sa.String(length=64), nullable=False),
        sa.Column("inherited", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["role_id"], ["identity_role.id"], name="fk_identity_assignment_role_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "actor_kind", "actor_id", "target_kind", "target_id", "role_id", "inherited", name="pk_identity_assignment"
        ),
        if_not_exists=True,
    )
    op.create_index(
        "ix_identity_assignment_target", "identity_assignment", ["target_kind", "target_id"], unique=False
    )
    op.create_table("identity_endpoint",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("service_id", sa.String(length=64), nullable=False),
        sa.Column("interface", sa.String(length=8), nullable=False),
        sa.Column("region_id", sa.String(length=255), nullable=True),
        sa.Column("url", LONG_TEXT, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.ForeignKeyConstraint(["region_id"], ["identity_region.id"], name="fk_identity_endpoint_region_id"),
        sa.ForeignKeyConstraint(
            ["service_id"], ["identity_service.id"], name="fk_identity_endpoint_service_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_endpoint"),
        if_not_exists=True,
    )
    op.create_table("identity_group",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["identity_domain.id"], name="fk_identity_group_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_group"),
        sa.UniqueConstraint("domain_id", "name", name="uq_identity_group_domain_id_name"),
        if_not_exists=True,
    )
    op.create_table("identity_implied_role",
        sa.Column("prior_id", sa.String(length=64), nullable=False),
        sa.Column("implied_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["implied_id"], ["identity_role.id"], name="fk_identity_implied_role_implied_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["prior_id"], ["identity_role.id"], name="fk_identity_implied_role_prior_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("prior_id", "implied_id", name="pk_identity_implied_role"),
        if_not_exists=True,
    )
    op.create_table("identity_project",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("description", LONG_TEXT, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("options", Json(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["identity_domain.id"], name="fk_identity_project_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_project"),
        sa.UniqueConstraint("domain_id", "name", name="uq_identity_project_domain_id_name"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_project_parent", "identity_project", ["parent_id"], unique=False, if_not_exists=True)
    op.create_table("identity_registered_limit",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("service_id", sa.String(length=64), nullable=False),
        sa.Column("region_id", sa.String(length=255), nullable=False),
        sa.Column("resource_name", sa.String(length=255), nullable=False),
        sa.Column("default_limit", sa.BigInteger(), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["service_id"], ["identity_service.id"], name="fk_identity_registered_limit_service_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_registered_limit"),
        if_not_exists=True,
    )
    op.create_table("identity_user",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("default_project_id", sa.String(length=64), nullable=True),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("password_changed", sa.Double(), nullable=True),
        sa.Column("password_expires", sa.Double(), nullable=True),
        sa.Column("tokens_from", sa.Double(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.Column("last_active", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("options", Json(), nullable=False),
        sa.Column("extra", Json(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["identity_domain.id"], name="fk_identity_user_domain_id"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_user"),
        sa.UniqueConstraint("domain_id", "name", name="uq_identity_user_domain_id_name"),
        if_not_exists=True,
    )
    op.create_table("identity_access_rule",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("service", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["identity_user.id"], name="fk_identity_access_rule_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_access_rule"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_access_rule_user_id", "identity_access_rule", ["user_id"], unique=False, if_not_exists=True)
    op.create_table("identity_application_credential",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("system", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("secret_hash", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        sa.Column("roles", Json(), nullable=False),
        sa.Column("access_rules", Json(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["identity_project.id"], name="fk_identity_application_credential_project_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["identity_user.id"], name="fk_identity_application_credential_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_application_credential"),
        sa.UniqueConstraint("user_id", "name", name="uq_identity_application_credential_user_id_name"),
        if_not_exists=True,
    )
    op.create_table("identity_group_member",
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["identity_group.id"], name="fk_identity_group_member_group_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["identity_user.id"], name="fk_identity_group_member_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "user_id", name="pk_identity_group_member"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_group_member_user_id", "identity_group_member", ["user_id"], unique=False, if_not_exists=True)
    op.create_table("identity_limit",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("registered_limit_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("domain_id", sa.String(length=64), nullable=True),
        sa.Column("resource_limit", sa.BigInteger(), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["registered_limit_id"], ["identity_registered_limit.id"], name="fk_identity_limit_registered_limit_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_limit"),
        if_not_exists=True,
    )
    op.create_index("ix_identity_limit_domain_id", "identity_limit", ["domain_id"], unique=False, if_not_exists=True)
    op.create_index("ix_identity_limit_project_id", "identity_limit", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("identity_password_history",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["identity_user.id"], name="fk_identity_password_history_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_identity_password_history"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_identity_password_history_user_id", "identity_password_history", ["user_id"], unique=False
    )
    op.create_table("identity_project_tag",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["identity_project.id"], name="fk_identity_project_tag_project_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "name", name="pk_identity_project_tag"),
        if_not_exists=True,
    )


def _image() -> None:
    op.create_table("image_image",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("os_hidden", sa.Boolean(), nullable=False),
        sa.Column("disk_format", sa.String(length=16), nullable=True),
        sa.Column("container_format", sa.String(length=16), nullable=True),
        sa.Column("min_disk", sa.Integer(), nullable=False),
        sa.Column("min_ram", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("virtual_size", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.String(length=32), nullable=True),
        sa.Column("os_hash_algo", sa.String(length=64), nullable=True),
        sa.Column("os_hash_value", sa.String(length=128), nullable=True),
        sa.Column("found_format", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("transfer", sa.String(length=64), nullable=False),
        sa.Column("transfer_host", sa.String(length=255), nullable=False),
        sa.Column("transfer_lease", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_image"),
        if_not_exists=True,
    )
    op.create_index("ix_image_image_owner", "image_image", ["owner", "created_at"], unique=False, if_not_exists=True)
    op.create_index("ix_image_image_status", "image_image", ["status"], unique=False, if_not_exists=True)
    op.create_index("ix_image_image_visibility", "image_image", ["visibility", "created_at"], unique=False, if_not_exists=True)
    op.create_table("image_task",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("input", Json(), nullable=False),
        sa.Column("message", LONG_TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_task"),
        if_not_exists=True,
    )
    op.create_index("ix_image_task_image_id", "image_task", ["image_id"], unique=False, if_not_exists=True)
    op.create_table("image_member",
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("member_id", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image_image.id"], name="fk_image_member_image_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "member_id", name="pk_image_member"),
        if_not_exists=True,
    )
    op.create_index("ix_image_member_member", "image_member", ["member_id", "status"], unique=False, if_not_exists=True)
    op.create_table("image_property",
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image_image.id"], name="fk_image_property_image_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "name", name="pk_image_property"),
        if_not_exists=True,
    )
    op.create_table("image_tag",
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image_image.id"], name="fk_image_tag_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "value", name="pk_image_tag"),
        if_not_exists=True,
    )


def _placement() -> None:
    op.create_table("placement_consumer",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_placement_consumer"),
        if_not_exists=True,
    )
    op.create_index("ix_placement_consumer_project_id", "placement_consumer", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("placement_provider",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("root_id", sa.String(length=64), nullable=False),
        sa.Column("traits", LONG_TEXT, nullable=False),
        sa.Column("aggregates", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_placement_provider"),
        sa.UniqueConstraint("name", name="uq_placement_provider_name"),
        if_not_exists=True,
    )
    op.create_index("ix_placement_provider_parent_id", "placement_provider", ["parent_id"], unique=False, if_not_exists=True)
    op.create_index("ix_placement_provider_root_id", "placement_provider", ["root_id"], unique=False, if_not_exists=True)
    op.create_table("placement_resource_class",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_placement_resource_class"),
        if_not_exists=True,
    )
    op.create_table("placement_trait",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_placement_trait"),
        if_not_exists=True,
    )
    op.create_table("placement_allocation",
        sa.Column("consumer_id", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("resource_class", sa.String(length=255), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consumer_id"], ["placement_consumer.id"], name="fk_placement_allocation_consumer_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["placement_provider.id"], name="fk_placement_allocation_provider_id"
        ),
        sa.PrimaryKeyConstraint("consumer_id", "provider_id", "resource_class", name="pk_placement_allocation"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_placement_allocation_provider_id", "placement_allocation", ["provider_id"], unique=False
    )
    op.create_table("placement_inventory",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("resource_class", sa.String(length=255), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("min_unit", sa.Integer(), nullable=False),
        sa.Column("max_unit", sa.Integer(), nullable=False),
        sa.Column("step_size", sa.Integer(), nullable=False),
        sa.Column("allocation_ratio", sa.Double(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["placement_provider.id"], name="fk_placement_inventory_provider_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("provider_id", "resource_class", name="pk_placement_inventory"),
        if_not_exists=True,
    )
    op.create_index("ix_placement_inventory_class", "placement_inventory", ["resource_class"], unique=False, if_not_exists=True)


def _network() -> None:
    op.create_table("network_address_scope",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_network_address_scope"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_network_address_scope_project_id", "network_address_scope", ["project_id"], unique=False
    )
    op.create_table("network_agent",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("heartbeat", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_network_agent"),
        sa.UniqueConstraint("kind", "node", name="uq_network_agent_kind_node"),
        if_not_exists=True,
    )
    op.create_table("network_fault",
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", name="pk_network_fault"),
        if_not_exists=True,
    )
    op.create_index("ix_network_fault_node", "network_fault", ["node"], unique=False, if_not_exists=True)
    op.create_table("network_network",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("network_type", sa.String(length=16), nullable=False),
        sa.Column("physical_network", sa.String(length=64), nullable=True),
        sa.Column("segmentation_id", sa.Integer(), nullable=True),
        sa.Column("segment", sa.String(length=128), nullable=True),
        sa.Column("mtu", sa.Integer(), nullable=False),
        sa.Column("port_security_enabled", sa.Boolean(), nullable=False),
        sa.Column("dns_domain", sa.String(length=255), nullable=False),
        sa.Column("zone_hints", Json(), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_network_network"),
        sa.UniqueConstraint("segment", name="uq_network_network_segment"),
        if_not_exists=True,
    )
    op.create_index("ix_network_network_project_id", "network_network", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("network_quota",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=32), nullable=False),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "resource", name="pk_network_quota"),
        if_not_exists=True,
    )
    op.create_table("network_rbac",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target_project", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_network_rbac"),
        sa.UniqueConstraint(
            "object_id", "action", "target_project", name="uq_network_rbac_object_id_action_target_project"
        ),
        if_not_exists=True,
    )
    op.create_index("ix_network_rbac_target", "network_rbac", ["target_project", "action"], unique=False, if_not_exists=True)
    op.create_table("network_security_group",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("stateful", sa.Boolean(), nullable=False),
        sa.Column("default_of", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_network_security_group"),
        sa.UniqueConstraint("default_of", name="uq_network_security_group_default_of"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_network_security_group_project_id", "network_security_group", ["project_id"], unique=False
    )
    op.create_table("network_tag",
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "name", name="pk_network_tag"),
        if_not_exists=True,
    )
    op.create_table("network_port",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=255), nullable=False),
        sa.Column("device_owner", sa.String(length=255), nullable=False),
        sa.Column("port_security_enabled", sa.Boolean(), nullable=False),
        sa.Column("allowed_pairs", Json(), nullable=False),
        sa.Column("dhcp_options", Json(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("vnic_type", sa.String(length=32), nullable=False),
        sa.Column("profile", Json(), nullable=False),
        sa.Column("dns_name", sa.String(length=255), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["network_network.id"], name="fk_network_port_network_id"),
        sa.PrimaryKeyConstraint("id", name="pk_network_port"),
        sa.UniqueConstraint("network_id", "mac", name="uq_network_port_network_id_mac"),
        if_not_exists=True,
    )
    op.create_index("ix_network_port_device", "network_port", ["device_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_port_host", "network_port", ["host", "network_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_port_network_host", "network_port", ["network_id", "host"], unique=False, if_not_exists=True)
    op.create_index("ix_network_port_network_owner", "network_port", ["network_id", "device_owner"], unique=False, if_not_exists=True)
    op.create_index("ix_network_port_project_id", "network_port", ["project_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_port_project_owner", "network_port", ["project_id", "device_owner"], unique=False, if_not_exists=True)
    op.create_table("network_security_group_rule",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("security_group_id", sa.String(length=64), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("ethertype", sa.String(length=4), nullable=False),
        sa.Column("protocol", sa.String(length=40), nullable=True),
        sa.Column("port_range_min", sa.Integer(), nullable=True),
        sa.Column("port_range_max", sa.Integer(), nullable=True),
        sa.Column("remote_group_id", sa.String(length=64), nullable=True),
        sa.Column("remote_ip_prefix", sa.String(length=64), nullable=True),
        sa.Column("identity", sa.String(length=191), nullable=False),
        sa.ForeignKeyConstraint(
            ["remote_group_id"], ["network_security_group.id"], name="fk_network_security_group_rule_remote_group_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["security_group_id"], ["network_security_group.id"], name="fk_network_security_group_rule_security_group_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_network_security_group_rule"),
        sa.UniqueConstraint(
            "security_group_id", "identity", name="uq_network_security_group_rule_security_group_id_identity"
        ),
        if_not_exists=True,
    )
    op.create_index(
        "ix_network_security_group_rule_project_id", "network_security_group_rule", ["project_id"], unique=False
    )
    op.create_index(
        "ix_network_security_group_rule_remote_group_id", "network_security_group_rule", ["remote_group_id"], unique=False
    )
    op.create_table("network_subnet_pool",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("prefixes", Json(), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("default_quota", sa.Integer(), nullable=True),
        sa.Column("min_prefixlen", sa.Integer(), nullable=False),
        sa.Column("max_prefixlen", sa.Integer(), nullable=False),
        sa.Column("default_prefixlen", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("address_scope_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["address_scope_id"], ["network_address_scope.id"], name="fk_network_subnet_pool_address_scope_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_network_subnet_pool"),
        if_not_exists=True,
    )
    op.create_index("ix_network_subnet_pool_project_id", "network_subnet_pool", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("network_port_group",
        sa.Column("port_id", sa.String(length=64), nullable=False),
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["network_security_group.id"], name="fk_network_port_group_group_id"),
        sa.ForeignKeyConstraint(
            ["port_id"], ["network_port.id"], name="fk_network_port_group_port_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("port_id", "group_id", name="pk_network_port_group"),
        if_not_exists=True,
    )
    op.create_index("ix_network_port_group_group", "network_port_group", ["group_id"], unique=False, if_not_exists=True)
    op.create_table("network_router",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("gateway_network_id", sa.String(length=64), nullable=True),
        sa.Column("gateway_port_id", sa.String(length=64), nullable=True),
        sa.Column("enable_snat", sa.Boolean(), nullable=False),
        sa.Column("routes", Json(), nullable=False),
        sa.Column("zone_hints", Json(), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway_network_id"], ["network_network.id"], name="fk_network_router_gateway_network_id"
        ),
        sa.ForeignKeyConstraint(["gateway_port_id"], ["network_port.id"], name="fk_network_router_gateway_port_id"),
        sa.PrimaryKeyConstraint("id", name="pk_network_router"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_network_router_gateway_network_id", "network_router", ["gateway_network_id"], unique=False
    )
    op.create_index("ix_network_router_project_id", "network_router", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("network_subnet",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("cidr", sa.String(length=64), nullable=False),
        sa.Column("gateway_ip", sa.String(length=64), nullable=True),
        sa.Column("pools", Json(), nullable=False),
        sa.Column("enable_dhcp", sa.Boolean(), nullable=False),
        sa.Column("dns_nameservers", Json(), nullable=False),
        sa.Column("host_routes", Json(), nullable=False),
        sa.Column("ipv6_ra_mode", sa.String(length=16), nullable=True),
        sa.Column("ipv6_address_mode", sa.String(length=16), nullable=True),
        sa.Column("subnetpool_id", sa.String(length=64), nullable=True),
        sa.Column("service_types", Json(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["network_network.id"], name="fk_network_subnet_network_id"),
        sa.ForeignKeyConstraint(
            ["subnetpool_id"], ["network_subnet_pool.id"], name="fk_network_subnet_subnetpool_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_network_subnet"),
        if_not_exists=True,
    )
    op.create_index("ix_network_subnet_network_id", "network_subnet", ["network_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_subnet_project_id", "network_subnet", ["project_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_subnet_subnetpool_id", "network_subnet", ["subnetpool_id"], unique=False, if_not_exists=True)
    op.create_table("network_allocation",
        sa.Column("subnet_id", sa.String(length=64), nullable=False),
        sa.Column("ip_key", sa.String(length=32), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("port_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["port_id"], ["network_port.id"], name="fk_network_allocation_port_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["subnet_id"], ["network_subnet.id"], name="fk_network_allocation_subnet_id"),
        sa.PrimaryKeyConstraint("subnet_id", "ip_key", name="pk_network_allocation"),
        if_not_exists=True,
    )
    op.create_index("ix_network_allocation_ip", "network_allocation", ["ip"], unique=False, if_not_exists=True)
    op.create_index("ix_network_allocation_port_id", "network_allocation", ["port_id"], unique=False, if_not_exists=True)
    op.create_table("network_floating_ip",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("floating_network_id", sa.String(length=64), nullable=False),
        sa.Column("floating_ip_address", sa.String(length=64), nullable=False),
        sa.Column("floating_port_id", sa.String(length=64), nullable=False),
        sa.Column("port_id", sa.String(length=64), nullable=True),
        sa.Column("fixed_ip_address", sa.String(length=64), nullable=True),
        sa.Column("router_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("dns_name", sa.String(length=255), nullable=False),
        sa.Column("dns_domain", sa.String(length=255), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["floating_network_id"], ["network_network.id"], name="fk_network_floating_ip_floating_network_id"
        ),
        sa.ForeignKeyConstraint(
            ["floating_port_id"], ["network_port.id"], name="fk_network_floating_ip_floating_port_id"
        ),
        sa.ForeignKeyConstraint(["port_id"], ["network_port.id"], name="fk_network_floating_ip_port_id"),
        sa.ForeignKeyConstraint(["router_id"], ["network_router.id"], name="fk_network_floating_ip_router_id"),
        sa.PrimaryKeyConstraint("id", name="pk_network_floating_ip"),
        sa.UniqueConstraint("port_id", "fixed_ip_address", name="uq_network_floating_ip_port_id_fixed_ip_address"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_network_floating_ip_floating_network_id", "network_floating_ip", ["floating_network_id"], unique=False
    )
    op.create_index("ix_network_floating_ip_project_id", "network_floating_ip", ["project_id"], unique=False, if_not_exists=True)
    op.create_index("ix_network_floating_ip_router_id", "network_floating_ip", ["router_id"], unique=False, if_not_exists=True)


def _compute() -> None:
    op.create_table("compute_action",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(length=255), nullable=True),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_compute_action"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_action_request", "compute_action", ["request_id"], unique=False, if_not_exists=True)
    op.create_index("ix_compute_action_server", "compute_action", ["server_id", "started"], unique=False, if_not_exists=True)
    op.create_table("compute_aggregate",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_compute_aggregate"),
        sa.UniqueConstraint("name", name="uq_compute_aggregate_name"),
        sa.UniqueConstraint("uuid", name="uq_compute_aggregate_uuid"),
        if_not_exists=True,
    )
    op.create_table("compute_console_token",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_compute_console_token"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_console_token_expires", "compute_console_token", ["expires"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_compute_console_token_server_id", "compute_console_token", ["server_id"], unique=False
    )
    op.create_table("compute_flavor",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("ram", sa.Integer(), nullable=False),
        sa.Column("disk", sa.Integer(), nullable=False),
        sa.Column("ephemeral", sa.Integer(), nullable=False),
        sa.Column("swap", sa.Integer(), nullable=False),
        sa.Column("rxtx_factor", sa.Double(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("description", LONG_TEXT, nullable=True),
        sa.Column("extra_specs", Json(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_compute_flavor"),
        sa.UniqueConstraint("id", name="uq_compute_flavor_id"),
        sa.UniqueConstraint("name", name="uq_compute_flavor_name"),
        if_not_exists=True,
    )
    op.create_table("compute_keypair",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("fingerprint", sa.String(length=255), nullable=False),
        sa.Column("public_key", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compute_keypair"),
        sa.UniqueConstraint("user_id", "name", name="uq_compute_keypair_user_id_name"),
        if_not_exists=True,
    )
    op.create_table("compute_migration",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=True),
        sa.Column("dest", sa.String(length=255), nullable=True),
        sa.Column("old_flavor", sa.Integer(), nullable=True),
        sa.Column("new_flavor", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compute_migration"),
        sa.UniqueConstraint("uuid", name="uq_compute_migration_uuid"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_migration_server_id", "compute_migration", ["server_id"], unique=False, if_not_exists=True)
    op.create_index("ix_compute_migration_updated", "compute_migration", ["updated"], unique=False, if_not_exists=True)
    op.create_table("compute_node",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("facts", Json(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=255), nullable=True),
        sa.Column("forced_down", sa.Boolean(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_compute_node"),
        sa.UniqueConstraint("id", name="uq_compute_node_id"),
        sa.UniqueConstraint("name", name="uq_compute_node_name"),
        if_not_exists=True,
    )
    op.create_table("compute_quota",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "user_id", "resource", name="pk_compute_quota"),
        if_not_exists=True,
    )
    op.create_table("compute_quota_class",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "resource", name="pk_compute_quota_class"),
        if_not_exists=True,
    )
    op.create_table("compute_server",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("vm_state", sa.String(length=32), nullable=False),
        sa.Column("task_state", sa.String(length=32), nullable=True),
        sa.Column("power_state", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("pinned_zone", sa.String(length=255), nullable=True),
        sa.Column("image_id", sa.String(length=64), nullable=True),
        sa.Column("image", Json(), nullable=True),
        sa.Column("flavor_id", sa.String(length=255), nullable=False),
        sa.Column("flavor", Json(), nullable=False),
        sa.Column("old_flavor", Json(), nullable=True),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("ram", sa.Integer(), nullable=False),
        sa.Column("key_name", sa.String(length=255), nullable=True),
        sa.Column("key_data", LONG_TEXT, nullable=True),
        sa.Column("user_data", LONG_TEXT, nullable=True),
        sa.Column("config_drive", sa.Boolean(), nullable=False),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("hints", Json(), nullable=False),
        sa.Column("group_id", sa.String(length=64), nullable=True),
        sa.Column("security_groups", Json(), nullable=False),
        sa.Column("access_ip_v4", sa.String(length=45), nullable=False),
        sa.Column("access_ip_v6", sa.String(length=45), nullable=False),
        sa.Column("disk_config", sa.String(length=8), nullable=False),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("locked_by", sa.String(length=8), nullable=True),
        sa.Column("locked_reason", sa.String(length=255), nullable=True),
        sa.Column("fault", Json(), nullable=True),
        sa.Column("reservation_id", sa.String(length=32), nullable=False),
        sa.Column("launch_index", sa.Integer(), nullable=False),
        sa.Column("password_data", LONG_TEXT, nullable=True),
        sa.Column("rescue_image", Json(), nullable=True),
        sa.Column("shelved_image_id", sa.String(length=64), nullable=True),
        sa.Column("old_vm_state", sa.String(length=32), nullable=True),
        sa.Column("nic_tags", Json(), nullable=False),
        sa.Column("own_ports", Json(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("launched", sa.Double(), nullable=True),
        sa.Column("terminated", sa.Double(), nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_compute_server"),
        sa.UniqueConstraint("id", name="uq_compute_server_id"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_server_created", "compute_server", ["deleted", "created"], unique=False, if_not_exists=True)
    op.create_index("ix_compute_server_group", "compute_server", ["group_id", "deleted"], unique=False, if_not_exists=True)
    op.create_index("ix_compute_server_host", "compute_server", ["host", "deleted"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_compute_server_project", "compute_server", ["project_id", "deleted", "created"], unique=False
    )
    op.create_index("ix_compute_server_task", "compute_server", ["task_state"], unique=False, if_not_exists=True)
    op.create_index("ix_compute_server_updated", "compute_server", ["updated"], unique=False, if_not_exists=True)
    op.create_table("compute_server_group",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.String(length=32), nullable=False),
        sa.Column("rules", Json(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_compute_server_group"),
        sa.UniqueConstraint("id", name="uq_compute_server_group_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_compute_server_group_project_id", "compute_server_group", ["project_id"], unique=False
    )
    op.create_table("compute_aggregate_host",
        sa.Column("aggregate_id", SERIAL, nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["aggregate_id"], ["compute_aggregate.id"], name="fk_compute_aggregate_host_aggregate_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("aggregate_id", "host", name="pk_compute_aggregate_host"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_aggregate_host_host", "compute_aggregate_host", ["host"], unique=False, if_not_exists=True)
    op.create_table("compute_event",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("action_id", SERIAL, nullable=False),
        sa.Column("event", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("result", sa.String(length=16), nullable=True),
        sa.Column("traceback", LONG_TEXT, nullable=True),
        sa.Column("details", sa.String(length=255), nullable=True),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["action_id"], ["compute_action.id"], name="fk_compute_event_action_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_compute_event"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_event_action_id", "compute_event", ["action_id"], unique=False, if_not_exists=True)
    op.create_table("compute_flavor_access",
        sa.Column("flavor_id", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["flavor_id"], ["compute_flavor.id"], name="fk_compute_flavor_access_flavor_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("flavor_id", "project_id", name="pk_compute_flavor_access"),
        if_not_exists=True,
    )
    op.create_table("compute_server_tag",
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.ForeignKeyConstraint(
            ["server_id"], ["compute_server.id"], name="fk_compute_server_tag_server_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("server_id", "name", name="pk_compute_server_tag"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_server_tag_name", "compute_server_tag", ["name"], unique=False, if_not_exists=True)
