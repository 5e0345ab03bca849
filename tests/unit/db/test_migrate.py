"""Migrations: from nothing to the newest, on each database, repeatable, cheap when there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import pileus.db
from pileus.db.engine import Database
from pileus.db.locks import named_lock
from pileus.db.migrate import current, load_tables, upgrade
from pileus.db.migrations import HEAD
from pileus.db.tables import metadata
from tests.conftest import Servers


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        yield from servers.get(request.param).empty()


def test_the_constant_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(pileus.db.__path__[0]) / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_an_empty_database_gets_every_table_with_its_columns_and_keys(url: str) -> None:
    database = Database(url)
    try:
        assert current(database) is None
        upgrade(database)
        assert current(database) == HEAD
        load_tables()
        found = sa.inspect(database.engine)
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        for name, table in metadata.tables.items():
            assert {c["name"] for c in found.get_columns(name)} == {c.name for c in table.columns}, name
        database.run_sync(
            lambda tx: [tx.execute(named_lock.insert().values(name=n)) for n in ("a", "A", "a ", "á", "a\u0301")]
        )
        upgrade(database)
    finally:
        database.close()


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    database = Database(url)
    try:
        upgrade(database)
        load_tables()
        with database.engine.connect() as conn:
            # Types are not compared: what MariaDB calls LONGTEXT is our Json.
            context = MigrationContext.configure(conn, opts={"compare_type": False})
            assert compare_metadata(context, metadata) == []
    finally:
        database.close()


def test_two_controllers_may_start_at_once(url: str) -> None:
    code = (
        "import sys; from pileus.db.engine import Database; from pileus.db.migrate import current, upgrade;"
        f"database = Database({url!r}); sys.stdin.readline(); upgrade(database); print(current(database))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0].strip() for process in both] == [HEAD, HEAD]


def test_a_migration_that_was_cut_off_is_done_again(url: str) -> None:
    database = Database(url)
    try:
        if database.dialect == "mysql":  # the others roll such tables back
            load_tables()
            some = [metadata.tables[name] for name in [*sorted(metadata.tables)[:1], "task", "lease"]]
            metadata.create_all(database.engine, tables=some)
        upgrade(database)
        assert set(sa.inspect(database.engine).get_table_names()) >= set(metadata.tables)
    finally:
        database.close()


def test_a_start_with_nothing_to_do_loads_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    database = Database(url)
    upgrade(database)
    database.close()
    code = (
        "import sys; from pileus.db.engine import Database; from pileus.db.migrate import upgrade;"
        f"upgrade(Database({url!r})); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
