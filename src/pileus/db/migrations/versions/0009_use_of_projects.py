"""An index that answers what a project's servers use, without their rows."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make it. `if_not_exists`: it may have been stopped in the middle."""
    op.create_index(
        "ix_compute_server_use", "compute_server", ["project_id", "deleted", "user_id", "vcpus", "ram"], unique=False,
        if_not_exists=True,
    )
