"""Volumes: types, quotas, backups, groups, transfers, messages."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)


def upgrade() -> None:
    """Add what is missing. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    _types()
    _quotas()
    _backups()
    _groups()


def _types() -> None:
    op.create_table("volume_type",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("extra_specs", LONG_TEXT, nullable=False),
        sa.Column("qos_id", sa.String(length=64), nullable=True),
        sa.Column("encryption", LONG_TEXT, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.UniqueConstraint("name", name="uq_volume_type_name"),
        sa.PrimaryKeyConstraint("id", name="pk_volume_type"),
        if_not_exists=True,
    )
    op.create_index("ix_volume_type_qos_id", "volume_type", ["qos_id"], unique=False, if_not_exists=True)
    op.create_table("volume_type_access",
        sa.Column("type_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("type_id", "project_id", name="pk_volume_type_access"),
        sa.ForeignKeyConstraint(["type_id"], ["volume_type.id"], name="fk_volume_type_access_type_id", ondelete="CASCADE"),
        if_not_exists=True,
    )
    op.create_table("volume_default_type",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("type_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_volume_default_type"),
        sa.ForeignKeyConstraint(["type_id"], ["volume_type.id"], name="fk_volume_default_type_type_id", ondelete="CASCADE"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_default_type_type_id", "volume_default_type", ["type_id"], unique=False, if_not_exists=True
    )
    op.create_table("volume_qos_spec",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("consumer", sa.String(length=16), nullable=False),
        sa.Column("specs", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.UniqueConstraint("name", name="uq_volume_qos_spec_name"),
        sa.PrimaryKeyConstraint("id", name="pk_volume_qos_spec"),
        if_not_exists=True,
    )


def _quotas() -> None:
    op.create_table("volume_quota",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("type_id", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "resource", "type_id", name="pk_volume_quota"),
        if_not_exists=True,
    )
    op.create_table("volume_quota_class",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("type_id", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "resource", "type_id", name="pk_volume_quota_class"),
        if_not_exists=True,
    )


def _backups() -> None:
    op.create_table("volume_transfer",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("volume_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("no_snapshots", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.UniqueConstraint("volume_id", name="uq_volume_transfer_volume_id"),
        sa.PrimaryKeyConstraint("id", name="pk_volume_transfer"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_transfer_project_id", "volume_transfer", ["project_id"], unique=False, if_not_exists=True
    )
    op.create_table("volume_backup",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("volume_id", sa.String(length=64), nullable=False),
        sa.Column("snapshot_id", sa.String(length=64), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("stored_as", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("metadata", LONG_TEXT, nullable=False),
        sa.Column("volume_facts", LONG_TEXT, nullable=False),
        sa.Column("restoring", sa.String(length=64), nullable=True),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.Column("of", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_backup"),
        if_not_exists=True,
    )
    op.create_index("ix_volume_backup_node", "volume_backup", ["node"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_backup_parent_id", "volume_backup", ["parent_id"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_volume_backup_project", "volume_backup", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index("ix_volume_backup_status", "volume_backup", ["status", "changed"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_backup_stored_as", "volume_backup", ["stored_as"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_backup_volume_id", "volume_backup", ["volume_id"], unique=False, if_not_exists=True)
    op.create_table("volume_message",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("text", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_message"),
        if_not_exists=True,
    )
    op.create_index("ix_volume_message_expires", "volume_message", ["expires"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_volume_message_project", "volume_message", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_message_resource_id", "volume_message", ["resource_id"], unique=False, if_not_exists=True
    )
    op.create_table("volume_unmanaged",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("volume_id", sa.String(length=64), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("facts", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_unmanaged"),
        if_not_exists=True,
    )
    op.create_index("ix_volume_unmanaged_node", "volume_unmanaged", ["node"], unique=False, if_not_exists=True)
    op.create_table("volume_migration",
        sa.Column("volume_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("type_id", sa.String(length=64), nullable=True),
        sa.Column("waits_for", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("volume_id", name="pk_volume_migration"),
        sa.ForeignKeyConstraint(["volume_id"], ["volume_volume.id"], name="fk_volume_migration_volume_id", ondelete="CASCADE"),
        if_not_exists=True,
    )


def _groups() -> None:
    op.create_table("volume_group_type",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("specs", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.UniqueConstraint("name", name="uq_volume_group_type_name"),
        sa.PrimaryKeyConstraint("id", name="pk_volume_group_type"),
        if_not_exists=True,
    )
    op.create_table("volume_group",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("waits", sa.Boolean(), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("type_id", sa.String(length=64), nullable=False),
        sa.Column("volume_types", LONG_TEXT, nullable=False),
        sa.Column("group_snapshot_id", sa.String(length=64), nullable=True),
        sa.Column("source_id", sa.String(length=64), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_volume_group"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_group_project", "volume_group", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index("ix_volume_group_type_id", "volume_group", ["type_id"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_group_waits", "volume_group", ["waits"], unique=False, if_not_exists=True)
    op.create_table("volume_group_snapshot",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.Column("group_type_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("waits", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_volume_group_snapshot"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_group_snapshot_group_id", "volume_group_snapshot", ["group_id"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_group_snapshot_project", "volume_group_snapshot", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_group_snapshot_waits", "volume_group_snapshot", ["waits"], unique=False, if_not_exists=True
    )
