"""Volumes: volumes, snapshots, attachments, and the nodes that keep them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what is missing. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    op.create_table("volume_backend",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("backend", sa.String(length=32), nullable=False),
        sa.Column("total_gib", sa.Double(), nullable=False),
        sa.Column("free_gib", sa.Double(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=255), nullable=True),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_volume_backend"),
        sa.UniqueConstraint("id", name="uq_volume_backend_id"),
        if_not_exists=True,
    )
    op.create_table("volume_snapshot",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("volume_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("progress", sa.String(length=8), nullable=False),
        sa.Column("metadata", LONG_TEXT, nullable=False),
        sa.Column("type_id", sa.String(length=64), nullable=True),
        sa.Column("group_snapshot_id", sa.String(length=64), nullable=True),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_volume_snapshot"),
        sa.UniqueConstraint("id", name="uq_volume_snapshot_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_snapshot_group_snapshot_id", "volume_snapshot", ["group_snapshot_id"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_snapshot_project", "volume_snapshot", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_snapshot_status", "volume_snapshot", ["status", "changed"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_snapshot_volume_id", "volume_snapshot", ["volume_id"], unique=False, if_not_exists=True
    )
    op.create_table("volume_volume",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("new_size", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("previous_status", sa.String(length=32), nullable=True),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("backend", sa.String(length=32), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("type_id", sa.String(length=64), nullable=True),
        sa.Column("group_id", sa.String(length=64), nullable=True),
        sa.Column("bootable", sa.Boolean(), nullable=False),
        sa.Column("multiattach", sa.Boolean(), nullable=False),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        sa.Column("encryption_key_id", sa.String(length=64), nullable=True),
        sa.Column("read_only", sa.Boolean(), nullable=True),
        sa.Column("metadata", LONG_TEXT, nullable=False),
        sa.Column("image_metadata", LONG_TEXT, nullable=True),
        sa.Column("snapshot_id", sa.String(length=64), nullable=True),
        sa.Column("source_id", sa.String(length=64), nullable=True),
        sa.Column("image_id", sa.String(length=64), nullable=True),
        sa.Column("backup_id", sa.String(length=64), nullable=True),
        sa.Column("migration_status", sa.String(length=32), nullable=True),
        sa.Column("migration", sa.String(length=64), nullable=True),
        sa.Column("export_key", sa.String(length=128), nullable=False),
        sa.Column("export", LONG_TEXT, nullable=True),
        sa.Column("drop_wanted", sa.Boolean(), nullable=False),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=True),
        sa.Column("launched", sa.Double(), nullable=True),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_volume_volume"),
        sa.UniqueConstraint("id", name="uq_volume_volume_id"),
        if_not_exists=True,
    )
    op.create_index("ix_volume_volume_created", "volume_volume", ["created"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_volume_group", "volume_volume", ["group_id"], unique=False, if_not_exists=True)
    op.create_index("ix_volume_volume_node", "volume_volume", ["node"], unique=False, if_not_exists=True)
    op.create_index(
        "ix_volume_volume_project", "volume_volume", ["project_id", "created"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_volume_status", "volume_volume", ["status", "changed"], unique=False, if_not_exists=True
    )
    op.create_index("ix_volume_volume_type", "volume_volume", ["type_id"], unique=False, if_not_exists=True)
    op.create_table("volume_attachment",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("volume_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=2), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("device", sa.String(length=255), nullable=True),
        sa.Column("connector", LONG_TEXT, nullable=True),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("waits_for", sa.String(length=64), nullable=True),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.Column("attached", sa.Double(), nullable=True),
        sa.Column("detached", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["volume_id"], ["volume_volume.id"], name="fk_volume_attachment_volume_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_volume_attachment"),
        sa.UniqueConstraint("id", name="uq_volume_attachment_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_volume_attachment_project_id", "volume_attachment", ["project_id"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_attachment_server_id", "volume_attachment", ["server_id"], unique=False, if_not_exists=True
    )
    op.create_index(
        "ix_volume_attachment_volume_id", "volume_attachment", ["volume_id"], unique=False, if_not_exists=True
    )
