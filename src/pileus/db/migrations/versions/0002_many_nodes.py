"""Many nodes: who they are, how they join, and what moves between them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)


def upgrade() -> None:
    """Add what is missing. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    _cluster()


def _add(table: str, *columns: sa.Column) -> None:
    """Add the columns that are not there yet."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def _cluster() -> None:
    op.create_table("cluster_authority",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("certificate", LONG_TEXT, nullable=False),
        sa.Column("private_key", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cluster_authority"),
        if_not_exists=True,
    )
    op.create_table("cluster_token",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("roles", LONG_TEXT, nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("uses_left", sa.Integer(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cluster_token"),
        if_not_exists=True,
    )
    op.create_table("cluster_node",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("roles", LONG_TEXT, nullable=False),
        sa.Column("key_digest", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("controller", sa.String(length=255), nullable=False),
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cluster_node"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_cluster_node_controller", "cluster_node", ["controller"], unique=False, if_not_exists=True
    )
    op.create_table("cluster_controller",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("services", LONG_TEXT, nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cluster_controller"),
        if_not_exists=True,
    )
