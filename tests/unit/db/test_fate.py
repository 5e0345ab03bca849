"""A connection that is lost at the commit: the work is done once, whatever became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.db import fate
from pileus.db.engine import Database, OutcomeUnknown, Tx
from tests.unit.db.conftest import item

Commit = Callable[[Any], None]


@pytest.fixture
def lossy(remote: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Commit, Any], None]], None]:
    """Has the next commit done by the given function, and its answer lost."""
    dialect, real = remote.engine.dialect, remote.engine.dialect.do_commit

    def arrange(what: Callable[[Commit, Any], None]) -> None:
        def lose(conn: Any) -> None:
            monkeypatch.setattr(dialect, "do_commit", real)
            what(real, conn)
            errors = dialect.loaded_dbapi
            if dialect.name == "mysql":
                raise errors.OperationalError(2013, "Lost connection to MySQL server during query")
            raise errors.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(dialect, "do_commit", lose)

    return arrange


class Work:
    """Adds a row, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.tried = 0
        self.told = 0

    def __call__(self, tx: Tx) -> str:
        self.tried += 1
        tx.execute(item.insert().values(id=self.tried, name=None))
        tx.after_commit(self._tell)
        return "done"

    def _tell(self) -> None:
        self.told += 1


def _rows(database: Database) -> list[int]:
    return database.run_sync(lambda tx: tx.scalars(sa.select(item.c.id).order_by(item.c.id)), write=False)


@pytest.mark.parametrize("first_of_thread", [True, False])
def test_what_was_committed_is_not_run_again(remote: Database, lossy: Any, first_of_thread: bool) -> None:
    if not first_of_thread:
        remote.run_sync(lambda tx: tx.execute(item.insert().values(id=100)))
    work = Work()
    lossy(lambda commit, conn: commit(conn))
    assert remote.run_sync(work) == "done"
    assert (work.tried, work.told) == (1, 1)
    assert _rows(remote)[:1] == [1]


def test_what_was_not_committed_is_run_again(remote: Database, lossy: Any) -> None:
    work = Work()
    lossy(lambda commit, conn: conn.rollback())
    assert remote.run_sync(work) == "done"
    assert (work.tried, work.told) == (2, 1)
    assert _rows(remote) == [2]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("first_of_thread", [True, False])
def test_a_commit_that_is_still_on_its_way_is_waited_for(
    remote: Database, lossy: Any, monkeypatch: pytest.MonkeyPatch, ends: str, first_of_thread: bool
) -> None:
    if not first_of_thread:
        remote.run_sync(lambda tx: tx.execute(item.insert().values(id=100)))
    work = Work()
    held: list[Any] = []
    ending: list[threading.Timer] = []

    def later(commit: Commit, conn: Any) -> None:
        # The pool closes the connection here; at the server it lives on, until its packets come.
        driver = conn.dbapi_connection
        held.append(driver)
        for name in ("do_close", "do_terminate", "do_rollback"):
            end = getattr(remote.engine.dialect, name)
            monkeypatch.setattr(
                remote.engine.dialect, name, lambda other, end=end: None if other is driver else end(other)
            )
        ending.append(threading.Timer(0.4, driver.commit if ends == "commit" else driver.rollback))
        ending[0].start()

    lossy(later)
    began = time.monotonic()
    remote.run_sync(work)
    assert time.monotonic() - began > 0.3
    assert work.tried == (1 if ends == "commit" else 2)
    assert work.told == 1
    ending[0].join()  # what the server has done is seen before its answer is here
    held[0].close()


def test_what_cannot_be_found_out_is_said_so(
    remote: Database, lossy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    monkeypatch.setattr(remote, "patience", 0.1)
    monkeypatch.setattr("pileus.db.engine._SETTLE", 0.1)

    def unanswered(self: fate.Slot, engine: sa.Engine, token: str) -> bool:
        raise sa.exc.OperationalError("SELECT", {}, Exception("no answer"))

    monkeypatch.setattr(fate.Slot, "committed", unanswered)
    lossy(lambda commit, conn: commit(conn))
    with pytest.raises(OutcomeUnknown, match="whether it was cannot be found out"):
        remote.run_sync(work)
    assert (work.tried, work.told) == (1, 0)


def test_a_lost_answer_to_a_read_is_read_again(remote: Database, lossy: Any) -> None:
    tried: list[Any] = []

    def read(tx: Tx) -> Any:
        tried.append(tx.scalar(sa.select(sa.literal(7))))
        return tried[-1]

    lossy(lambda commit, conn: commit(conn))
    assert remote.run_sync(read) == 7
    assert tried == [7, 7]


def test_a_conflict_at_the_commit_is_run_again(remote: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    dialect, real = remote.engine.dialect, remote.engine.dialect.do_commit

    def conflict(conn: Any) -> None:
        monkeypatch.setattr(dialect, "do_commit", real)
        conn.rollback()
        if dialect.name == "mysql":  # what Galera's certification says
            raise dialect.loaded_dbapi.OperationalError(1213, "Deadlock found when trying to get lock")
        import psycopg

        raise psycopg.errors.SerializationFailure("could not serialize access")

    monkeypatch.setattr(dialect, "do_commit", conflict)
    assert remote.run_sync(work) == "done"
    assert (work.tried, work.told) == (2, 1)


def test_old_slots_are_forgotten(remote: Database) -> None:
    remote.run_sync(lambda tx: tx.execute(fate.slot.insert().values(name="old", token="t", at=1.0)))

    class _Cloud:
        world = type("World", (), {"now": staticmethod(time.time)})

    remote.run_sync(lambda tx: fate.forget(tx, _Cloud()))  # type: ignore[arg-type]
    left = remote.run_sync(lambda tx: tx.scalars(sa.select(fate.slot.c.name)))
    assert "old" not in left
    assert left  # this thread's
