"""Moves a stopped cloud's database from its SQLite file to a server, every row of it.

While it is under way the target's schema version is `moving:` and where it comes from: no cloud starts on it, and a
move that was killed is begun again from nothing. The source is only read. At the end each table is read on both
sides and compared; then a note beside the source says where the cloud is now, so that no cloud starts on the old file.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.db.migrate import MOVING, current, load_tables, upgrade
from pileus.db.migrations import HEAD
from pileus.db.moved import write_note
from pileus.db.tables import Json, LongText, metadata

Show = Callable[[str, int, int], None]

_BATCH = 500
_BATCH_BYTES = 4 << 20


class MoveRefused(Exception):
    """The move cannot be made; says why and what to do."""


class Moved(msgspec.Struct, frozen=True):
    """What was moved."""

    tables: int
    rows: int


def move(source: Path, url: str, show: Show) -> Moved:
    """Move all rows of the SQLite file into the empty database at `url`; `show` is told table, done and total rows.

    The cloud must not run. Raises MoveRefused, Unreachable, and what the target refuses a row with."""
    load_tables()
    target = Database(url, pool_size=1, patience=2.0)  # a server that is away is for whoever waits here to see
    try:
        if target.embedded:
            raise MoveRefused("clouds move to PostgreSQL or MariaDB: write --to postgresql://… or mysql://…")
        with _reading(source) as old, target.apart() as engine:
            mark = MOVING + hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
            _prepare(target, engine, mark)
            counts = {table.name: _count(old, table) for table in metadata.sorted_tables}
            for table in metadata.sorted_tables:
                _copy(old, engine, table, counts[table.name], show)
            _set_counters(old, engine)
            for table in metadata.sorted_tables:
                _compare(old, engine, table, counts[table.name], show)
        write_note(source, target.shown)
        with engine.begin() as conn:
            conn.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": HEAD})
    finally:
        target.close()
    return Moved(len(counts), sum(counts.values()))


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[sa.Connection]:
    """The source as it is at one moment, opened so that nothing can be changed."""
    if not source.is_file():
        raise MoveRefused(f"there is no SQLite database at {source}")
    # Without a write-ahead log nobody has the database open, and reading it as usual would make one.
    mode = "mode=ro" if Path(f"{source}-wal").exists() else "mode=ro&immutable=1"
    engine = sa.create_engine(
        f"sqlite:///file:{source}?{mode}&uri=true", poolclass=sa.pool.NullPool, connect_args={"timeout": 30}
    )
    try:
        with engine.connect() as conn:
            version = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            if version != HEAD:
                raise MoveRefused(
                    f"{source} has schema version {version}, this program {HEAD}: run `pileus db upgrade` first"
                )
            yield conn
    except sa.exc.DatabaseError as error:
        if error.statement is not None and "alembic_version" in error.statement:
            raise MoveRefused(f"{source} is not a cloud's database: {error.orig}") from None
        raise
    finally:
        engine.dispose()


def _prepare(target: Database, engine: sa.Engine, mark: str) -> None:
    """Empty tables in the target, and the mark in its version. Raises MoveRefused when anything else is there."""
    version = current(target)
    if version is not None and version.startswith(MOVING):
        if version != mark:
            raise MoveRefused(
                f"{target.shown} has the half-finished move of another cloud; drop and create that database, or choose "
                "another"
            )
        with engine.begin() as conn:
            metadata.drop_all(conn)
            conn.execute(sa.text("DROP TABLE alembic_version"))
    there = set(sa.inspect(engine).get_table_names())
    if foreign := sorted(there - set(metadata.tables) - {"alembic_version"}):
        raise MoveRefused(
            f"{target.shown} is not empty: it has the table {foreign[0]}; create a database for the cloud alone"
        )
    with engine.connect() as conn:
        for table in metadata.sorted_tables:
            if table.name in there and conn.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise MoveRefused(
                    f"{target.shown} is not empty: {table.name} has rows; create another database for this cloud"
                )
    upgrade(target)
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": mark})


def _stored(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns that are written; what a database computes by itself is not."""
    return [column for column in table.columns if column.computed is None]


def _columns(table: sa.Table) -> list[Any]:
    """The columns as they are copied: JSON as the text that it is stored as."""
    return [
        sa.type_coerce(column, LongText).label(column.name) if isinstance(column.type, Json) else column
        for column in _stored(table)
    ]


def _count(conn: sa.Connection, table: sa.Table) -> int:
    return conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def _rows(conn: sa.Connection, table: sa.Table) -> Iterable[Sequence[Any]]:
    return conn.execute(sa.select(*_columns(table)), execution_options={"yield_per": _BATCH})


def _parents_first(table: sa.Table, rows: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    """The rows in an order in which each comes after the one it refers to in the same table."""
    own = next((key for key in table.foreign_keys if key.column.table is table), None)
    if own is None:
        return rows
    names = [column.name for column in _stored(table)]
    child, parent = names.index(own.parent.name), names.index(own.column.name)
    waiting, done, ordered = list(rows), {None}, []
    while waiting:
        ready = [row for row in waiting if row[child] in done]
        if not ready:
            raise MoveRefused(f"table {table.name} has rows that refer to each other in a circle")
        ordered += ready
        done |= {row[parent] for row in ready}
        waiting = [row for row in waiting if row[parent] not in done]
    return ordered


def _copy(old: sa.Connection, engine: sa.Engine, table: sa.Table, total: int, show: Show) -> None:
    names = [column.name for column in _stored(table)]
    plain = sa.table(
        table.name,
        *(sa.column(c.name, LongText if isinstance(c.type, Json) else c.type) for c in _stored(table)),
    )
    show(f"copy {table.name}", 0, total)
    done = 0
    with engine.connect() as conn:
        for batch in _batches(_parents_first(table, _rows(old, table))):
            given = [dict(zip(names, row, strict=True)) for row in batch]
            try:
                conn.execute(plain.insert(), given)
            except sa.exc.DBAPIError as error:
                conn.rollback()
                which = _refused(conn, plain, given, [column.name for column in table.primary_key])
                raise MoveRefused(f"the target refuses {which}table {table.name}: {error.orig}") from error
            conn.commit()
            done += len(batch)
            show(f"copy {table.name}", done, total)


def _refused(conn: sa.Connection, plain: Any, rows: list[dict[str, Any]], key: list[str]) -> str:
    """Which of the rows the target does not take, by its key; the connection is of no use afterwards."""
    for row in rows:
        try:
            conn.execute(plain.insert(), row)
        except sa.exc.DBAPIError:
            return "the row " + ", ".join(f"{name}={row[name]!r}" for name in key) + " of "
    return ""


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    batch: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _set_counters(old: sa.Connection, engine: sa.Engine) -> None:
    """The next number of each serial is after the last that was given; MariaDB has seen to that by itself."""
    if engine.dialect.name != "postgresql":
        return
    with engine.begin() as conn:
        for table in metadata.sorted_tables:
            column = table.autoincrement_column
            last = None if column is None else old.execute(sa.select(sa.func.max(column))).scalar()
            if column is not None and last is not None:
                conn.execute(
                    sa.text("SELECT setval(pg_get_serial_sequence(:t, :c), :n)"),
                    {"t": table.name, "c": column.name, "n": last},
                )


def digest(conn: sa.Connection, table: sa.Table, seen: Callable[[int], None] = lambda done: None) -> tuple[int, int]:
    """How many rows a table has, and a sum over their contents in which their order does not matter."""
    count = total = 0
    encode = msgspec.msgpack.Encoder().encode
    for row in _rows(conn, table):
        total += int.from_bytes(hashlib.blake2b(encode(tuple(row)), digest_size=16).digest(), "big")
        count += 1
        if count % _BATCH == 0:
            seen(count)
    return count, total % (1 << 128)


def _compare(old: sa.Connection, engine: sa.Engine, table: sa.Table, total: int, show: Show) -> None:
    show(f"compare {table.name}", 0, total)
    before = digest(old, table)
    with engine.connect() as conn:
        after = digest(conn, table, lambda done: show(f"compare {table.name}", done, total))
    if before != after:
        what = "has another number of rows" if before[0] != after[0] else "has other contents"
        raise MoveRefused(f"table {table.name} of the target {what} than the source; nothing was switched over")
    show(f"compare {table.name}", total, total)
