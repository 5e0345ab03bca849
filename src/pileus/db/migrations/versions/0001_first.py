"""The first schema."""

from alembic import op

from pileus.db.migrate import load_tables
from pileus.db.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    load_tables()
    metadata.create_all(op.get_bind(), checkfirst=False)
