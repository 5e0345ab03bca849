"""Trunks and their subports."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make both tables. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    op.create_table("network_trunk",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("port_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["network_port.id"], name="fk_network_trunk_port_id"),
        sa.PrimaryKeyConstraint("id", name="pk_network_trunk"),
        sa.UniqueConstraint("port_id", name="uq_network_trunk_port_id"),
        if_not_exists=True,
    )
    op.create_index("ix_network_trunk_project_id", "network_trunk", ["project_id"], unique=False, if_not_exists=True)
    op.create_table("network_subport",
        sa.Column("port_id", sa.String(length=64), nullable=False),
        sa.Column("trunk_id", sa.String(length=64), nullable=False),
        sa.Column("segmentation_type", sa.String(length=16), nullable=False),
        sa.Column("segmentation_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["network_port.id"], name="fk_network_subport_port_id"),
        sa.ForeignKeyConstraint(
            ["trunk_id"], ["network_trunk.id"], name="fk_network_subport_trunk_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("port_id", name="pk_network_subport"),
        sa.UniqueConstraint(
            "trunk_id", "segmentation_type", "segmentation_id",
            name="uq_network_subport_trunk_id_segmentation_type_segmentation_id",
        ),
        if_not_exists=True,
    )
