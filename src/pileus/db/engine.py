"""The database: SQLite in this process by default, PostgreSQL or MariaDB by URL; the same statements.

Where the database is embedded, a transaction runs inline on the event loop's thread: one indexed select
costs 20-40 microseconds, a hop to a thread costs more. Where it is across a network, transactions run
in a thread pool. `run` hides which.

A function given to `run` may be called again when the database asks for it (deadlock, serialization failure, Galera
certification) or was lost on the way, so it must have no effect outside the transaction but through `Tx.after_commit`.
It is never run again when it may have been committed: `pileus.db.fate` finds that out.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pileus.db import faults, hosts, moved
from pileus.db.fate import Slot
from pileus.db.faults import Kind, OutcomeUnknown, Unreachable
from pileus.db.prepared import Statements
from pileus.db.transaction import Retry, Tx

T = TypeVar("T")

_ATTEMPTS = 8
_PATIENCE = 15.0
_SLACK = 15.0
"""Seconds beyond its patience after which a caller is told that the database does not answer."""
_ECHO = 30.0
"""Seconds after an outage in which connections of before it may still be found dead."""
_SETTLE = 5.0
"""Seconds that the look after a lost commit has, whatever time was left."""
_NESTED = "a transaction was opened inside another: pass the Tx on instead"


class _InDoubt(Exception):
    """The connection was lost at the commit of `tx`."""

    def __init__(self, slot: Slot, token: str, end: tuple[Any, Tx]) -> None:
        super().__init__()
        self.slot, self.token, self.end = slot, token, end


class _Away(Exception):
    """The database was not reached, or was lost before the commit. `lost`: there was a connection."""

    def __init__(self, lost: bool) -> None:
        super().__init__()
        self.lost = lost


class Database:
    """One database, by URL: `sqlite:///PATH`, `postgresql://…` or `mysql://…`, with one or several hosts.

    `patience`: seconds for which a transaction waits for a database that is away. Raises DatabaseUrlError."""

    def __init__(
        self, url: str, *, pool_size: int = 10, synchronous: str = "FULL", patience: float = _PATIENCE
    ) -> None:
        self.url, places = hosts.parse(url)
        self.shown = hosts.shown(url)
        """The URL without its password."""
        self.embedded = self.url.get_backend_name() == "sqlite"
        self.patience = patience
        self._lock = threading.RLock()
        self._here = threading.local()
        self._away_since: float | None = None
        self._outage = (-math.inf, 0.0)  # when the last one ended, and the seconds it took
        self._connector = hosts.Connector(self.url, places)
        self._conn: Connection | None = None
        self._prepared: Statements | None = None
        self._pool: ThreadPoolExecutor | None = None
        if self.embedded:
            if self.url.database:
                moved.check(Path(self.url.database))
                _private(Path(self.url.database))
            self._engine = _sqlite(self.url, synchronous)
        else:
            self._engine = self._server(hurried=True, pool_size=pool_size, max_overflow=0, pool_recycle=300,
                                        pool_timeout=10)
            self._pool = ThreadPoolExecutor(pool_size, "db")

    def _server(self, *, hurried: bool, **options: Any) -> Engine:
        # Connections are not tried before use: one that is gone fails at the first statement, which is run again.
        # Parameters stay out of errors: they are passwords' digests, keys and users' data.
        engine = sa.create_engine(
            self.url, isolation_level="READ COMMITTED", hide_parameters=True,
            connect_args=hosts.connect_arguments(self.url, self._connector.order(), hurried), **options,
        )
        (self._connector if hurried else hosts.Connector(self.url, self._connector.order(), False)).listen(engine)
        return engine

    @contextlib.contextmanager
    def apart(self) -> Iterator[Engine]:
        """An engine whose statements may take as long as they need, as those of migrations."""
        if self.embedded:
            yield self._engine
            return
        engine = self._server(hurried=False, poolclass=sa.pool.NullPool)
        try:
            yield engine
        finally:
            engine.dispose()

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

    async def run(self, work: Callable[[Tx], T], *, write: bool = True, patience: float | None = None) -> T:
        """`work` in a transaction of its own; from async code. Raises what `work` raises, after a rollback.

        Raises Unreachable when the database is away for longer than `patience` seconds (default: the database's own),
        and OutcomeUnknown when it was lost at the commit and what became of it cannot be found out."""
        if self._pool is None:
            return self.run_sync(work, write=write)
        wait = self.patience if patience is None else patience
        job = self._pool.submit(self._attempts, work, write, wait)
        future = asyncio.wrap_future(job)
        # A caller that goes away does not stop the transaction, so what follows the commit must not hang on it.
        future.add_done_callback(_committed)
        limit = wait + (_SLACK if patience is None else 1.0)
        await asyncio.wait({future}, timeout=limit)
        if not future.done():
            if job.cancel() or not write:
                raise Unreachable(f"the database {self.shown} has not answered for {limit:.0f} s")
            raise OutcomeUnknown(
                f"the database {self.shown} has not answered for {limit:.0f} s; the change may still be made"
            )
        result, _ = future.result()
        return result

    async def ping(self) -> None:
        """Whether a transaction would be done now, within two seconds. Raises Unreachable where it would not."""
        await self.run(lambda tx: tx.conn.exec_driver_sql("SELECT 1").scalar(), write=False, patience=1.0)

    async def answers(self, seconds: float) -> bool:
        """Whether the database answers within so many seconds to a connection of its own: those that are kept may all
        be busy, though it is well."""
        if self.embedded:
            return True
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(self._ask_once)
        except TimeoutError:
            return False

    def _ask_once(self) -> bool:
        engine = self._server(hurried=True, poolclass=sa.pool.NullPool)
        try:
            with engine.connect() as conn:
                return bool(conn.exec_driver_sql("SELECT 1").scalar() == 1)
        except sa.exc.SQLAlchemyError:
            return False
        finally:
            engine.dispose()

    def run_sync(self, work: Callable[[Tx], T], *, write: bool = True) -> T:
        """The same from plain code that is allowed to block (start-up, the command line, tests)."""
        result, tx = self._attempts(work, write, self.patience)
        tx.committed()
        return result

    def _attempts(self, work: Callable[[Tx], T], write: bool, patience: float) -> tuple[T, Tx]:
        until = time.monotonic() + patience
        conflicts = losses = 0
        while True:
            try:
                end = self._once(work, write)
                if self._away_since is not None:
                    self._back()
                return end
            except (sa.exc.DBAPIError, Retry) as error:
                conflicts += 1
                again = isinstance(error, Retry) or faults.kind(error) is Kind.CONFLICT
                if not again or conflicts == _ATTEMPTS:
                    raise
                if not self.embedded:  # not all at the same moment: those who met would meet again
                    time.sleep(0.002 * 2**conflicts * random.uniform(0.5, 1.0))
            except _Away as away:
                losses += 1
                self._wait(losses, until, away)
            except _InDoubt as doubt:
                if self._settle(doubt, max(until, time.monotonic() + _SETTLE)):
                    end = doubt.end
                    return end

    def _back(self) -> None:
        since, self._away_since = self._away_since, None
        if since is not None:  # else another thread has seen it
            now = time.monotonic()
            # Connections of before the outage fail one by one after its end: that is no outage of its own.
            self._outage = now, max(now - since, self.missed(_ECHO))

    def missed(self, within: float) -> float:
        """The seconds of an outage that ended not longer ago than `within` seconds; 0.0 where there was none.

        Silence in the database may be that long because nobody could write there."""
        ended, took = self._outage
        return took if time.monotonic() - ended < within else 0.0

    def _wait(self, losses: int, until: float, away: _Away) -> None:
        """Pause before another try. Raises Unreachable when there is no time for one."""
        now = time.monotonic()
        since = self._away_since = self._away_since or now
        if losses == 1 and away.lost:
            return  # connections of before a restart: a new one is made at once
        # One that has been away for long is asked once by each request, so that they do not pile up.
        pause = min(0.05 * 2 ** min(losses, 5), 1.0)
        if now + pause > min(until, since + self.patience):
            cause = away.__cause__
            reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()
            raise Unreachable(
                f"the database {self.shown} cannot be reached since {now - since:.0f} s: {' '.join(reason[:1])}"
            ) from cause
        time.sleep(pause)

    def _settle(self, doubt: _InDoubt, until: float) -> bool:
        """Whether the transaction was committed; if not, it is certain that it never will be. Raises OutcomeUnknown."""
        while True:
            try:
                return doubt.slot.committed(self._engine, doubt.token)
            except sa.exc.DBAPIError as error:
                if time.monotonic() > until:
                    raise OutcomeUnknown(
                        f"the connection to the database {self.shown} was lost while a change was committed, and "
                        "whether it was cannot be found out yet"
                    ) from error
                time.sleep(0.2)

    def _once(self, work: Callable[[Tx], T], write: bool) -> tuple[T, Tx]:
        if self.embedded:
            with self._lock:
                return self._inline(work, write)
        if getattr(self._here, "inside", False):
            raise RuntimeError(_NESTED)
        self._here.inside = True
        try:
            with self._connection() as conn:
                return self._remote(conn, work, write)
        finally:
            self._here.inside = False

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Raises _Away when there is none to be had."""
        try:
            conn = self._engine.connect()
        except sa.exc.DBAPIError as error:
            if faults.refuses(error):
                raise Unreachable(f"the database {self.shown} does not let us in: {error.orig}") from error
            raise _Away(False) from error
        except sa.exc.TimeoutError as error:  # all connections are taken
            raise _Away(False) from error
        with conn:
            yield conn

    def _remote(self, conn: Connection, work: Callable[[Tx], T], write: bool) -> tuple[T, Tx]:
        tx = Tx(conn, write)
        slot, token = self._slot(), ""
        host = conn.info.get("host")
        transaction = conn.begin()
        try:
            result = work(tx)
            tx.end()
            if tx.changed:
                token = slot.mark(conn)
        except BaseException as error:
            if isinstance(error, sa.exc.DBAPIError) and faults.kind(error) is Kind.AWAY:
                self._drop(conn, host, error)
                raise _Away(True) from error
            with contextlib.suppress(sa.exc.DBAPIError):  # what failed first is told
                transaction.rollback()
            raise
        try:
            transaction.commit()
        except sa.exc.DBAPIError as error:
            if faults.kind(error) is Kind.CONFLICT or isinstance(error, sa.exc.IntegrityError):
                raise
            self._drop(conn, host, error)
            if not token:
                raise _Away(True) from error
            raise _InDoubt(slot, token, (result, tx)) from error
        return result, tx

    def _slot(self) -> Slot:
        found: Slot | None = getattr(self._here, "slot", None)
        if found is None:
            found = self._here.slot = Slot()
        return found

    def _drop(self, conn: Connection, host: hosts.Host | None, error: sa.exc.DBAPIError) -> None:
        """Throw away a connection that is lost, or whose server is of no use any more."""
        if faults.elsewhere(error):
            self._connector.avoid(host)
        if not conn.invalidated:  # SQLAlchemy has not taken it for lost, and the others of its pool neither
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                conn.invalidate()
            self._engine.dispose()

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
            tx.end()
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        return result, tx


def _committed(future: asyncio.Future[tuple[Any, Tx]]) -> None:
    """Runs what waits for a transaction's commit, on the loop's thread."""
    if not future.cancelled() and future.exception() is None:
        future.result()[1].committed()


def _private(file: Path) -> None:
    """The file has keys and digests of passwords in it; SQLite's other files take its mode."""
    if str(file) != ":memory:" and file.parent.is_dir():
        with contextlib.suppress(FileExistsError, PermissionError):
            # Never opened but to make it: closing any descriptor of a file drops all of the process's locks on it, also
            # those by which SQLite keeps other processes from taking the write-ahead log away.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.suppress(OSError):  # who only reads it may not change that
            if file.stat().st_mode & 0o007:
                file.chmod(file.stat().st_mode & 0o770)


def _sqlite(url: sa.URL, synchronous: str) -> Engine:
    engine = sa.create_engine(
        url, poolclass=sa.pool.StaticPool, hide_parameters=True,
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


__all__ = ["Database", "OutcomeUnknown", "Retry", "Tx", "Unreachable"]
