"""A cloud moves from its file to a server: every value exactly, refused where it must be, begun again when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.db.migrate import MOVING, HalfMoved, current, load_tables, upgrade
from pileus.db.migrations import HEAD
from pileus.db.move import MoveRefused, digest, move
from pileus.db.moved import CloudMoved, note_of
from pileus.db.tables import Json, metadata
from tests.conftest import Servers

_EACH = 7


def _value(column: sa.Column[Any], number: int) -> Any:
    """A value that is hard to carry over, another one for each number."""
    kind = column.type
    if column.nullable and number % 3 == 2:
        return None
    if isinstance(kind, sa.Boolean):
        return number % 2 == 0
    if isinstance(kind, Json):
        return {"n": number, "text": "ä \U0001f300 '\"\\ \n\t", "deep": [1, 2.5, None, True, 2**60, 1e-9]}
    if isinstance(kind, sa.BigInteger):
        return (2**62 + number) * (-1) ** number
    if isinstance(kind, sa.Integer):
        return (2**31 - 1 - number) * (-1) ** number
    if isinstance(kind, sa.Float):
        return 1_767_225_600.123457 + number / 3
    text = f"{number} ä\U0001f300'\"\\% "
    limit = getattr(kind, "length", None)
    return text * 3000 if limit is None or limit > 10_000 else text[:limit]


def _fill(database: Database) -> None:
    """Rows in every table; foreign keys lead to the rows of the same number, those within a table to the one before."""
    made: dict[str, list[dict[str, Any]]] = {}
    with database.engine.begin() as conn:
        for table in metadata.sorted_tables:
            rows: list[dict[str, Any]] = []
            for number in range(_EACH):
                computes = any(column.computed is not None for column in table.columns)
                row = {
                    column.name: number + 1 if computes and isinstance(column.type, sa.Integer) else
                    _value(column, number) for column in table.columns if column.computed is None
                }
                serial = table.autoincrement_column
                if serial is not None:
                    row[serial.name] = 10 + number * 1000
                for key in table.foreign_keys:
                    # From the last to the first, so that the file's order is not the one that the keys need.
                    own = key.column.table is table
                    parents = rows if own else made[key.column.table.name]
                    at = number - 1 if own else number
                    row[key.parent.name] = parents[at][key.column.name] if at >= 0 else None
                rows.append(row)
            made[table.name] = rows
            conn.exec_driver_sql("PRAGMA foreign_keys=OFF")
            conn.execute(table.insert(), list(reversed(rows)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cloud's file with rows in every table."""
    path = tmp_path_factory.mktemp("filled") / "pileus.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    load_tables()
    _fill(database)
    database.close()
    return path


@pytest.fixture
def file(filled: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    path = tmp_path / "pileus.db"
    path.write_bytes(filled.read_bytes())
    return path


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    yield from servers.get(request.param).empty()


def _quiet(step: str, done: int, total: int) -> None:
    pass


def _digests(url: str) -> dict[str, tuple[int, int]]:
    database = Database(url)
    try:
        with database.engine.connect() as conn:
            return {table.name: digest(conn, table) for table in metadata.sorted_tables}
    finally:
        database.close()


def test_every_row_of_every_table_is_there(file: Path, url: str) -> None:
    before, bytes_before = _digests(f"sqlite:///{file}"), file.read_bytes()
    shown: list[tuple[str, int, int]] = []
    moved = move(file, url, lambda *step: shown.append(step))
    assert moved.rows == _EACH * len(metadata.tables)
    assert _digests(url) == before
    assert all(count == _EACH for count, _ in before.values())
    assert ("copy compute_server", _EACH, _EACH) in shown
    assert file.read_bytes() == bytes_before

    target = Database(url)
    try:
        assert current(target) == HEAD
        task = metadata.tables["task"]
        row = {c.name: _value(c, 50) for c in task.columns if c.name != "seq"}
        target.run_sync(lambda tx: tx.execute(task.insert().values(**row)))
        last = target.run_sync(lambda tx: tx.scalar(sa.select(sa.func.max(task.c.seq))))
        assert last == 10 + (_EACH - 1) * 1000 + 1  # the serial goes on where it was
    finally:
        target.close()

    with pytest.raises(CloudMoved, match=r"was moved to (postgresql|mysql)://") as caught:
        Database(f"sqlite:///{file}")
    assert str(note_of(file)) in str(caught.value)
    note_of(file).unlink()
    Database(f"sqlite:///{file}").close()


def test_one_that_broke_off_is_begun_again(file: Path, url: str, tmp_path: Path) -> None:
    def break_off(step: str, done: int, total: int) -> None:
        if step == "compare compute_server":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(file, url, break_off)
    assert not note_of(file).exists()
    target = Database(url)
    assert (current(target) or "").startswith(MOVING)
    with pytest.raises(HalfMoved, match="half-finished"):
        upgrade(target)
    target.close()
    other = tmp_path / "other.db"
    other.write_bytes(file.read_bytes())
    with pytest.raises(MoveRefused, match="another cloud"):
        move(other, url, _quiet)
    move(file, url, _quiet)
    assert _digests(url) == _digests_of(file)


def _digests_of(file: Path) -> dict[str, tuple[int, int]]:
    note_of(file).unlink()
    return _digests(f"sqlite:///{file}")


def test_one_that_was_killed_is_begun_again(file: Path, url: str) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pileus.db.move import move;"
        "move(Path(sys.argv[1]), sys.argv[2], lambda *step: (print(*step, flush=True), time.sleep(0.02)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file), url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("copy compute_"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    time.sleep(0.1)
    move(file, url, _quiet)
    assert _digests(url) == _digests_of(file)


def test_a_target_that_is_not_empty_is_refused(file: Path, url: str, tmp_path: Path) -> None:
    target = Database(url)
    with target.engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE precious (id INTEGER)")
    with pytest.raises(MoveRefused, match="precious"):
        move(file, url, _quiet)
    with target.engine.begin() as conn:
        conn.exec_driver_sql("DROP TABLE precious")
    upgrade(target)  # a schema without rows is empty
    target.close()
    move(file, url, _quiet)
    note_of(file).unlink()
    with pytest.raises(MoveRefused, match="has rows"):
        move(file, url, _quiet)
    other = tmp_path / "other.db"
    other.write_bytes(file.read_bytes())
    with pytest.raises(MoveRefused, match="has rows"):
        move(other, url, _quiet)


def test_what_the_target_cannot_hold_names_the_row(file: Path, url: str) -> None:
    database = Database(f"sqlite:///{file}")
    with database.engine.begin() as conn:
        first = "(SELECT min(id) FROM image_image)"
        conn.exec_driver_sql(f"UPDATE image_image SET name = ? WHERE id = {first}", ("x" * 300,))
    database.close()
    with pytest.raises(MoveRefused, match=r"row id='.*' of table image_image"):
        move(file, url, _quiet)


def test_a_difference_is_found(file: Path, url: str) -> None:
    def spoil(step: str, done: int, total: int) -> None:
        if step == "compare task" and done == 0:
            target = Database(url)
            task = metadata.tables["task"]
            target.run_sync(lambda tx: tx.execute(task.update().where(task.c.seq == 10).values(error="spoilt")))
            target.close()

    with pytest.raises(MoveRefused, match="table task of the target has other contents"):
        move(file, url, spoil)
    assert not note_of(file).exists()


def test_only_a_clouds_file_is_moved(tmp_path: Path, url: str) -> None:
    with pytest.raises(MoveRefused, match="there is no SQLite database"):
        move(tmp_path / "none.db", url, _quiet)
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(MoveRefused, match="is not a cloud's database"):
        move(tmp_path / "text.db", url, _quiet)
