"""The first schema."""

from alembic import op

from pileus.db.migrate import load_tables
from pileus.db.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table. MariaDB commits each by itself, so one that was killed half-way left some."""
    load_tables()
    bind = op.get_bind()
    metadata.create_all(bind, checkfirst=bind.dialect.name == "mysql")
