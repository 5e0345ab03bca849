"""A cloud without rooms, with the cluster's tables, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.cluster import tables
from pileus.db.engine import Database
from pileus.db.migrate import compare_exactly
from pileus.db.tables import metadata
from tests.conftest import Servers
from tests.unit.db.conftest import KERNEL
from tests.unit.kernel import bare_cloud

OWN = [tables.authority, tables.token, tables.node, tables.controller]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def _each(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == "sqlite":
        yield from _filled(f"sqlite:///{tmp_path_factory.mktemp('database') / 'test.db'}")
    else:
        for url in servers.get(request.param).empty():
            yield from _filled(url)


def _filled(url: str) -> Iterator[Database]:
    database = Database(url)
    with database.engine.begin() as conn:
        compare_exactly(conn)
    metadata.create_all(database.engine, tables=[*KERNEL, *OWN])
    yield database
    database.close()


@pytest.fixture
def cloud(_each: Database, tmp_path: Path) -> Iterator[Cloud]:
    """One controller, named c1, of an empty cluster."""
    yield bare_cloud(tmp_path, _each, node_name="c1")
    _each.run_sync(lambda tx: [tx.execute(table.delete()) for table in (*KERNEL, *OWN)])
