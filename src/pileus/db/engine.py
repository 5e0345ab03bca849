"""The database: SQLite in this process by default, PostgreSQL or MariaDB by URL; the same statements.

Where the database is embedded, a transaction runs inline on the event loop's thread: one indexed select
costs 20-40 microseconds, a hop to a thread costs more. Where it is across a network, transactions run
in a thread pool. `run` hides which. A function given to `run` may be called again when the
database asks for it (deadlock, serialization failure, Galera certification), so it must have no effect
outside the transaction but through `Tx.after_commit`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Engine, Row

from pileus.db.prepared import Statements

T = TypeVar("T")

_ATTEMPTS = 8
_POSTGRES_RETRY = {"40001", "40P01"}
_MYSQL_RETRY = {1205, 1213, 1047, 2006, 2013}
_LOST = {1047, 2006, 2013}
_STRICT = "SET SESSION sql_mode='STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"


_NESTED = "a transaction was opened inside another: pass the Tx on instead"


class OutcomeUnknown(Exception):
    """The connection was lost while a transaction was being committed: it may have happened or not.

    It is not run again, since that could do the work twice."""


class Retry(Exception):
    """Raised by domain code that lost a race: the whole transaction is run again."""


class Tx:
    """A transaction. Thin over SQLAlchemy's connection; statements are Core."""

    __slots__ = ("_after", "_prepared", "conn", "memo", "write")

    def __init__(self, conn: Connection, write: bool, prepared: Statements | None = None) -> None:
        self.conn = conn
        self.write = write
        self._prepared = prepared
        self.memo: dict[str, Any] = {}
        """What was read once and holds to the end of this transaction."""
        self._after: list[Callable[[], None]] = []

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        if self._prepared is not None:
            result: CursorResult[Any] = self._prepared.change(statement, parameters)
            return result
        return self.conn.execute(statement, parameters)

    def first(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Row[Any] | None:
        if self._prepared is not None:
            return self._prepared.first(statement, parameters)
        return self.conn.execute(statement, parameters).first()

    def all(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        if self._prepared is not None:
            return self._prepared.all(statement, parameters)
        return self.conn.execute(statement, parameters).all()

    def scalar(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Any:
        row = self.first(statement, parameters)
        return None if row is None else row[0]

    def scalars(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        return [row[0] for row in self.all(statement, parameters)]

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once this transaction is durable; never if it is rolled back. Must not raise or block."""
        self._after.append(call)

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part that may fail by itself, as an insert that may meet a duplicate."""
        nested = self.conn.begin_nested()
        try:
            yield
        except BaseException as error:
            # After a deadlock MariaDB has rolled all back, savepoints too; the deadlock is what `run` must see.
            if isinstance(error, sa.exc.DBAPIError) and _may_pass(error):
                with contextlib.suppress(sa.exc.DBAPIError):
                    nested.rollback()
            else:
                nested.rollback()
            raise
        nested.commit()

    def serialize(self, name: str) -> None:
        """From here to the commit, no other transaction holds `name`. For checks over many rows (quotas).

        On SQLite there is one writer anyway."""
        if self.conn.dialect.name == "sqlite":
            return
        from pileus.db.locks import hold

        hold(self, name)

    def committed(self) -> None:
        for call in self._after:
            call()


class Database:
    """One database, by URL: `sqlite:///PATH`, `postgresql://…` or `mysql://…`."""

    def __init__(self, url: str, *, pool_size: int = 10, synchronous: str = "FULL") -> None:
        self.url = _driver(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self._lock = threading.RLock()
        self._here = threading.local()
        if self.embedded:
            self._engine = _sqlite(self.url, synchronous)
            self._conn: Connection | None = None
            self._prepared: Statements | None = None
            self._pool: ThreadPoolExecutor | None = None
        else:
            options: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
            if self.url.get_backend_name() == "mysql":
                # What does not fit is refused, not cut, whatever the server's own default is.
                options["connect_args"] = {"init_command": _STRICT}
            self._engine = sa.create_engine(
                self.url, pool_size=pool_size, max_overflow=0, pool_recycle=300, pool_pre_ping=True, **options
            )
            self._conn = None
            self._pool = ThreadPoolExecutor(pool_size, "db")

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def dialect(self) -> str:
        return self._engine.dialect.name

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True)
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = self._prepared = None
            self._engine.dispose()

    async def run(self, work: Callable[[Tx], T], *, write: bool = True) -> T:
        """`work` in a transaction of its own; from async code. Raises what `work` raises, after a rollback."""
        if self._pool is None:
            return self.run_sync(work, write=write)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, functools.partial(self._attempts, work, write))
        # A caller that goes away does not stop the transaction, so what follows the commit must not hang on it.
        future.add_done_callback(_committed)
        result, _ = await asyncio.shield(future)
        return result

    def run_sync(self, work: Callable[[Tx], T], *, write: bool = True) -> T:
        """The same from plain code that is allowed to block (start-up, the command line, tests)."""
        result, tx = self._attempts(work, write)
        tx.committed()
        return result

    def _attempts(self, work: Callable[[Tx], T], write: bool) -> tuple[T, Tx]:
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(work, write)
            except (sa.exc.DBAPIError, Retry) as error:
                if attempt == _ATTEMPTS - 1 or not (isinstance(error, Retry) or _may_pass(error)):
                    raise
                time.sleep(0.002 * 2**attempt if not self.embedded else 0)
        raise AssertionError("unreachable")

    def _once(self, work: Callable[[Tx], T], write: bool) -> tuple[T, Tx]:
        if self.embedded:
            with self._lock:
                return self._inline(work, write)
        if getattr(self._here, "inside", False):
            raise RuntimeError(_NESTED)
        self._here.inside = True
        try:
            with self._engine.connect() as conn:
                tx = Tx(conn, write)
                with conn.begin() as transaction:
                    result = work(tx)
                    _commit(transaction)
                return result, tx
        finally:
            self._here.inside = False

    def _inline(self, work: Callable[[Tx], T], write: bool) -> tuple[T, Tx]:
        # Begin and commit go straight to the driver: through SQLAlchemy each costs as much as a select. Its own
        # idea of the transaction begins at the first statement ever and does not end before `close`.
        if self._conn is None:
            self._conn = self._engine.connect()
            self._prepared = Statements(self._conn)
        raw: Any = self._conn.connection.dbapi_connection
        if raw.in_transaction:
            raise RuntimeError(_NESTED)
        raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            tx = Tx(self._conn, write, self._prepared)
            result = work(tx)
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        return result, tx


def _commit(transaction: sa.RootTransaction) -> None:
    """Raises OutcomeUnknown when the connection is lost on the way."""
    try:
        transaction.commit()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or _code(error) in _LOST:
            raise OutcomeUnknown("the database connection was lost at commit") from error
        raise


def _committed(future: asyncio.Future[tuple[Any, Tx]]) -> None:
    """Runs what waits for a transaction's commit, on the loop's thread."""
    if not future.cancelled() and future.exception() is None:
        future.result()[1].committed()


def _driver(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    names = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql",
             "mariadb": "mysql+pymysql"}
    if parsed.drivername in names:
        parsed = parsed.set(drivername=names[parsed.drivername])
    if parsed.get_backend_name() == "mysql" and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def _sqlite(url: sa.URL, synchronous: str) -> Engine:
    engine = sa.create_engine(
        url, poolclass=sa.pool.StaticPool,
        connect_args={"check_same_thread": False, "timeout": 30, "cached_statements": 1024},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(dbapi: sqlite3.Connection, _record: object) -> None:
        # The driver must not open transactions by itself: reads BEGIN, writes BEGIN IMMEDIATE, above.
        dbapi.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "cache_size=-8000",
            "temp_store=MEMORY",
            "busy_timeout=30000",
            "journal_size_limit=67108864",
        ):
            dbapi.execute(f"PRAGMA {pragma}")

    return engine


def _may_pass(error: sa.exc.DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) in _POSTGRES_RETRY:
        return True
    code = _code(error)
    return code in _MYSQL_RETRY if code is not None else bool(error.connection_invalidated)


def _code(error: sa.exc.DBAPIError) -> int | None:
    """MariaDB's number of the error."""
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code if isinstance(code, int) else None
