"""Brings a database to the newest schema: at every start, and cheap when there is nothing to do."""

from __future__ import annotations

import importlib
from pathlib import Path

import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.db.migrations import HEAD

_TABLES = ("pileus.db.locks", "pileus.work.tables")


def load_tables() -> None:
    """Import every module that declares tables, so that the metadata is whole."""
    from pileus.cloud import ROOMS, has_module

    for name in (*_TABLES, *(f"pileus.{room}.tables" for room in ROOMS)):
        if has_module(name):
            importlib.import_module(name)


def current(database: Database) -> str | None:
    """The schema's version; None for an empty database."""
    try:
        with database.engine.connect() as conn:
            version: str | None = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            conn.rollback()
            return version
    except (sa.exc.OperationalError, sa.exc.ProgrammingError):
        return None


def upgrade(database: Database) -> None:
    """Run the migrations that are missing."""
    if current(database) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.engine.connect() as conn:
        if database.embedded:
            conn.exec_driver_sql("BEGIN IMMEDIATE")
        elif database.dialect == "mysql" and current(database) is None:
            # New tables take it from the database; MariaDB's own default folds case.
            conn.exec_driver_sql("ALTER DATABASE CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        conn.commit()
