"""Alembic's environment: the connection comes from `pileus.db.migrate`."""

from alembic import context

from pileus.db.migrate import load_tables
from pileus.db.tables import metadata

load_tables()
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
