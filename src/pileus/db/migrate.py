"""Brings a database to the newest schema: at every start, and cheap when there is nothing to do."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.db.migrations import HEAD

MOVING = "moving:"
"""How a schema's version begins while a cloud's rows are being moved there."""
_LOCK = 7_453_287  # any number that no one else locks by
_TABLES = ("pileus.db.locks", "pileus.db.fate", "pileus.work.tables", "pileus.cluster.tables")


class HalfMoved(OSError):
    """A database into which a cloud is being moved."""


class TooNew(OSError):
    """A database that a newer program has written."""


def load_tables() -> None:
    """Import every module that declares tables, so that the metadata is whole."""
    from pileus.cloud import ROOMS, has_module

    for name in (*_TABLES, *(f"pileus.{room}.tables" for room in ROOMS)):
        if has_module(name):
            importlib.import_module(name)


def current(database: Database) -> str | None:
    """The schema's version; None for an empty database. Waits for a server, and raises Unreachable."""
    if not database.embedded:
        database.run_sync(lambda tx: tx.scalar(sa.select(sa.literal(1))), write=False)
    try:
        with database.engine.connect() as conn:
            version: str | None = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            conn.rollback()
            return version
    except (sa.exc.OperationalError, sa.exc.ProgrammingError):
        return None


def upgrade(database: Database) -> None:
    """Run the migrations that are missing. Of several controllers that start at once, one does it."""
    version = current(database)
    if version == HEAD:
        return
    if version is not None and version.startswith(MOVING):
        raise HalfMoved(
            f"{database.shown} holds a cloud's half-finished move: run `pileus db migrate --to` there again, to its end"
        )
    if version is not None and version > HEAD:
        raise TooNew(
            f"{database.shown} has schema version {version}; this program knows up to {HEAD}: install the newer one"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.apart() as engine, engine.connect() as conn, _alone(conn, database.dialect):
        if version is None:
            compare_exactly(conn)
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        conn.commit()


def compare_exactly(conn: sa.Connection) -> None:
    """Make MariaDB keep any text and compare it exactly, in tables made from now on.

    Its defaults fold case, and ignore spaces at the end; new tables take this from the database."""
    if conn.dialect.name == "mysql":
        collation = "utf8mb4_nopad_bin" if getattr(conn.dialect, "is_mariadb", False) else "utf8mb4_bin"
        conn.exec_driver_sql(f"ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {collation}")


@contextlib.contextmanager
def _alone(conn: sa.Connection, dialect: str) -> Iterator[None]:
    """No other controller migrates the database meanwhile."""
    if dialect == "mysql":
        # A lock of the connection's: there every CREATE TABLE commits.
        if not conn.exec_driver_sql(f"SELECT GET_LOCK('pileus.migrate.{_LOCK}', 600)").scalar():
            raise TimeoutError("another controller has been migrating this database for ten minutes")
        try:
            yield
        finally:
            with contextlib.suppress(sa.exc.DBAPIError):  # a lost connection has lost its lock too
                conn.exec_driver_sql(f"SELECT RELEASE_LOCK('pileus.migrate.{_LOCK}')")
        return
    conn.exec_driver_sql("BEGIN IMMEDIATE" if dialect == "sqlite" else f"SELECT pg_advisory_xact_lock({_LOCK})")
    yield
