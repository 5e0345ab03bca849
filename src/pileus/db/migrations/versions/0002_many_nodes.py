"""Many nodes: who they are, how they join, and what moves between them."""

from typing import Any

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
    _kernel()
    _cluster()
    _controllers()
    _scheduling()
    _network()
    _moves()


def _add(table: str, *columns: sa.Column[Any]) -> None:
    """Add the columns that are not there yet."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def _kernel() -> None:
    _add("named_lock", sa.Column("turn", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table("commit_slot",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_commit_slot"),
        if_not_exists=True,
    )


def _controllers() -> None:
    _add("cluster_controller", sa.Column("api", sa.String(length=255), nullable=False, server_default=""))
    op.create_table("image_copy",
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("controller", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", "controller", "kind", name="pk_image_copy"),
        if_not_exists=True,
    )
    op.create_index("ix_image_copy_controller", "image_copy", ["controller"], unique=False, if_not_exists=True)
    _add(
        "identity_endpoint",
        sa.Column("owner", sa.String(length=255), nullable=False, server_default=""),
        sa.Column("explicit", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


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


def _moves() -> None:
    """Servers that move between nodes."""
    _add(
        "compute_migration",
        sa.Column("purpose", sa.String(length=16), nullable=False, server_default=""),
        sa.Column("wanted", sa.String(length=16), nullable=False, server_default=""),
        sa.Column("sends", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("to_clean", sa.String(length=255), nullable=True),
        sa.Column("reason", LONG_TEXT, nullable=True),
    )
    op.create_index(
        "ix_compute_migration_to_clean", "compute_migration", ["to_clean"], unique=False, if_not_exists=True
    )
    op.create_table("compute_outage",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("noticed", sa.Double(), nullable=False),
        sa.Column("checked", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.PrimaryKeyConstraint("node", name="pk_compute_outage"),
        if_not_exists=True,
    )


def _scheduling() -> None:
    """What is free of an inventory, indexed; builds that failed, by node; why the scheduler chose as it did."""
    # SQLite cannot add a stored column to a table; PostgreSQL had only stored ones for long.
    stored = None if op.get_bind().dialect.name == "sqlite" else True
    _add("placement_inventory", sa.Column(
        "free", sa.Double(), sa.Computed("(total - reserved) * allocation_ratio - used", persisted=stored)
    ))
    op.create_index(
        "ix_placement_inventory_free", "placement_inventory", ["resource_class", "free", "provider_id"], unique=False,
        if_not_exists=True,
    )
    op.drop_index("ix_placement_inventory_class", "placement_inventory", if_exists=True)
    _add("compute_node", sa.Column("build_failures", sa.Integer(), server_default="0", nullable=False))
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table("compute_decision",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("server_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("record", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compute_decision"),
        if_not_exists=True,
    )
    op.create_index("ix_compute_decision_server_id", "compute_decision", ["server_id"], unique=False,
                    if_not_exists=True)


def _network() -> None:
    for name in ("network_network", "network_router"):
        _add(name, sa.Column("detached", sa.Boolean(), server_default=sa.false(), nullable=False))
        op.create_index(f"ix_{name}_node", name, ["node"], unique=False, if_not_exists=True)
    _add("network_port", sa.Column("moving_to", sa.String(length=255), nullable=True))
    op.create_index(
        "ix_network_port_moving", "network_port", ["moving_to", "network_id"], unique=False, if_not_exists=True
    )
    _add(
        "network_agent",
        sa.Column("lease", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("physical_networks", LONG_TEXT, nullable=True),
    )
