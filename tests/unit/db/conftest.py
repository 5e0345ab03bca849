"""Databases of the three kinds, with the kernel's own tables and one to play with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pileus.db import fate, locks
from pileus.db.engine import Database
from pileus.db.migrate import compare_exactly
from pileus.db.tables import Json, LongText, Name, Time, metadata
from pileus.work import tables as work
from tests.conftest import Servers

own = sa.MetaData()

item = sa.Table(
    "item", own,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", Name, unique=True),
    sa.Column("value", sa.Integer, nullable=False, default=0),
    sa.Column("at", Time),
    sa.Column("extra", Json),
    sa.Column("text", LongText),
)

KERNEL = [fate.slot, locks.named_lock, locks.revision, work.task, work.lease]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def _each(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == "sqlite":
        yield from _filled(f"sqlite:///{tmp_path_factory.mktemp('database') / 'test.db'}")
    else:
        for url in servers.get(request.param).empty():
            yield from _filled(url)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def _each_server(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    for url in servers.get(request.param).empty():
        yield from _filled(url)


def _filled(url: str) -> Iterator[Database]:
    database = Database(url)
    with database.engine.begin() as conn:
        compare_exactly(conn)
    metadata.create_all(database.engine, tables=KERNEL)
    own.create_all(database.engine)
    yield database
    database.close()


def _emptied(database: Database) -> Iterator[Database]:
    yield database
    database.run_sync(lambda tx: [tx.execute(table.delete()) for table in (*KERNEL, item)])


@pytest.fixture
def database(_each: Database) -> Iterator[Database]:
    """Each kind of database, empty."""
    yield from _emptied(_each)


@pytest.fixture
def remote(_each_server: Database) -> Iterator[Database]:
    """The kinds that have several writers at once, empty."""
    yield from _emptied(_each_server)
