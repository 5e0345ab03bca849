"""Compute: the block devices of servers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what is missing. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    op.create_table("compute_block_device",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("source_type", sa.String(length=16), nullable=False),
        sa.Column("destination_type", sa.String(length=16), nullable=False),
        sa.Column("source_id", sa.String(length=64), nullable=True),
        sa.Column("volume_id", sa.String(length=64), nullable=True),
        sa.Column("attachment_id", sa.String(length=64), nullable=True),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("boot_index", sa.Integer(), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("tag", sa.String(length=60), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("guest_format", sa.String(length=255), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_compute_block_device"),
        sa.UniqueConstraint("id", name="uq_compute_block_device_id"),
        sa.UniqueConstraint("attachment_id", name="uq_compute_block_device_attachment_id"),
        sa.UniqueConstraint("server_id", "volume_id", name="uq_compute_block_device_server_id_volume_id"),
        if_not_exists=True,
    )
    for name, columns in (("server_id", ["server_id"]), ("volume_id", ["volume_id"]), ("state", ["state", "updated"])):
        op.create_index(
            f"ix_compute_block_device_{name}", "compute_block_device", columns, unique=False, if_not_exists=True
        )
