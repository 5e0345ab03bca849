"""How loud the controllers' logs are, and are to be."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)


def upgrade() -> None:
    """Make the table. `if_not_exists`: MariaDB commits by itself, and may have been stopped before it was noted."""
    op.create_table("cluster_controller_log",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("wishes", LONG_TEXT, nullable=False),
        sa.Column("levels", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cluster_controller_log"),
        if_not_exists=True,
    )
