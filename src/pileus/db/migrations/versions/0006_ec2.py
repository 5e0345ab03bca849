"""The EC2 API: tags of its resources, and what its client tokens have made."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

LONG_TEXT = (
    sa.Text()
    .with_variant(sa.Text(length=16777215), "mysql")
    .with_variant(sa.Text(length=16777215), "mariadb")
)


def upgrade() -> None:
    """Make both tables. `if_not_exists`: MariaDB commits each by itself, and may have been stopped in the middle."""
    op.create_table("ec2_tag",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=127), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "resource_id", "key", name="pk_ec2_tag"),
        if_not_exists=True,
    )
    op.create_index("ix_ec2_tag_resource", "ec2_tag", ["resource_id"], unique=False, if_not_exists=True)
    op.create_table("ec2_client_token",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("server_ids", LONG_TEXT, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "token", name="pk_ec2_client_token"),
        if_not_exists=True,
    )
    op.create_index("ix_ec2_client_token_created", "ec2_client_token", ["created"], unique=False, if_not_exists=True)
