"""Transactions: atomic, retried where the database asks for it, the same on all three databases."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database, Retry, Tx
from tests.unit.db.conftest import item


def _add(tx: Tx, id: int, name: str | None = None) -> None:
    tx.execute(item.insert().values(id=id, name=name))


def _ids(database: Database) -> list[int]:
    query = sa.select(item.c.id).order_by(item.c.id)
    return database.run_sync(lambda tx: tx.scalars(query), write=False)


def test_a_failed_transaction_leaves_nothing_and_runs_nothing(database: Database) -> None:
    ran: list[int] = []

    def fail(tx: Tx) -> None:
        _add(tx, 1)
        tx.after_commit(lambda: ran.append(1))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.run_sync(fail)
    assert _ids(database) == []
    assert ran == []


def test_after_commit_runs_when_the_change_can_be_seen(database: Database) -> None:
    seen: list[list[int]] = []

    def work(tx: Tx) -> None:
        tx.after_commit(lambda: seen.append(_ids(database)))
        _add(tx, 1)

    database.run_sync(work)
    assert seen == [[1]]


def test_retry_runs_the_whole_again_and_after_commit_once(database: Database) -> None:
    attempts: list[int] = []
    ran: list[int] = []

    def work(tx: Tx) -> str:
        attempts.append(1)
        tx.after_commit(lambda: ran.append(1))
        _add(tx, len(attempts))
        if len(attempts) < 3:
            raise Retry
        return "done"

    assert database.run_sync(work) == "done"
    assert _ids(database) == [3]
    assert ran == [1]


def test_retry_ends(database: Database) -> None:
    attempts: list[int] = []

    def work(tx: Tx) -> None:
        attempts.append(1)
        raise Retry

    with pytest.raises(Retry):
        database.run_sync(work)
    assert len(attempts) == 8


def test_other_errors_are_not_retried(database: Database) -> None:
    attempts: list[int] = []
    database.run_sync(lambda tx: _add(tx, 1))

    def work(tx: Tx) -> None:
        attempts.append(1)
        _add(tx, 1)

    with pytest.raises(sa.exc.IntegrityError):
        database.run_sync(work)
    assert len(attempts) == 1


def test_a_transaction_inside_another_is_refused(database: Database) -> None:
    def outer(tx: Tx) -> None:
        database.run_sync(lambda inner: _add(inner, 1))

    with pytest.raises(RuntimeError, match="pass the Tx on"):
        database.run_sync(outer)
    database.run_sync(lambda tx: _add(tx, 2))
    assert _ids(database) == [2]


def test_a_savepoint_fails_by_itself(database: Database) -> None:
    def work(tx: Tx) -> None:
        _add(tx, 1, "one")
        with pytest.raises(sa.exc.IntegrityError), tx.savepoint():  # noqa: PT012 - the part is what fails
            _add(tx, 2, "two")
            _add(tx, 3, "one")
        with tx.savepoint():
            _add(tx, 4, "four")

    database.run_sync(work)
    assert _ids(database) == [1, 4]


def test_a_savepoint_may_fail_within_another(database: Database) -> None:
    def work(tx: Tx) -> None:
        with tx.savepoint():
            _add(tx, 1)
            with pytest.raises(sa.exc.IntegrityError), tx.savepoint():
                _add(tx, 1)
            _add(tx, 2)

    database.run_sync(work)
    assert _ids(database) == [1, 2]


def test_values_come_back_as_they_went_in(database: Database) -> None:
    text = "ä \U0001f300 '\"\\% \n end "
    extra = {"deep": [1, 2.5, None, True, {"k": text}]}
    at = 1_767_225_600.123456
    row = {"id": 1, "name": text, "at": at, "extra": extra, "text": "x" * 100_000, "value": -(2**31)}
    database.run_sync(lambda tx: tx.execute(item.insert().values(**row)))
    read = database.run_sync(lambda tx: tx.first(sa.select(item)))
    assert read is not None
    assert dict(read._mapping) == row


def test_what_does_not_fit_is_refused_by_servers(remote: Database) -> None:
    for values in ({"name": "x" * 256}, {"value": 2**31}, {"value": 10**30}):
        with pytest.raises(sa.exc.DataError):
            remote.run_sync(lambda tx, v=values: tx.execute(item.insert().values(id=1, **v)))  # type: ignore[misc]
    assert _ids(remote) == []


def test_run_hides_where_the_database_is(database: Database) -> None:
    async def main() -> None:
        await database.run(lambda tx: _add(tx, 1))
        query = sa.select(sa.func.count()).select_from(item)
        assert await database.run(lambda tx: tx.scalar(query), write=False) == 1
        with pytest.raises(ZeroDivisionError):
            await database.run(lambda tx: 1 // 0)

    asyncio.run(main())


def test_what_waits_for_a_commit_runs_though_the_caller_is_gone(remote: Database) -> None:
    ran: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(tx: Tx) -> None:
        _add(tx, 1)
        tx.after_commit(lambda: ran.append(1))
        begun.set()
        assert go_on.wait(5)

    async def main() -> None:
        running = asyncio.create_task(remote.run(work))
        assert await asyncio.to_thread(begun.wait, 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go_on.set()
        for _ in range(500):
            if ran:
                break
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert ran == [1]
    assert _ids(remote) == [1]


@pytest.mark.parametrize("within_savepoint", [False, True])
def test_a_deadlock_is_run_again(remote: Database, within_savepoint: bool) -> None:
    remote.run_sync(lambda tx: (_add(tx, 1), _add(tx, 2)))
    both_hold_one = threading.Barrier(2)
    attempts: list[int] = []

    def work(tx: Tx, first: int, second: int, start: list[threading.Barrier]) -> None:
        attempts.append(1)
        _plus_one(tx, first)
        if start:
            start.pop().wait(5)
        if within_savepoint:
            with tx.savepoint():
                _plus_one(tx, second)
        else:
            _plus_one(tx, second)

    with ThreadPoolExecutor(2) as pool:
        ends = [
            pool.submit(remote.run_sync, lambda tx, a=a, b=b, s=[both_hold_one]: work(tx, a, b, s))
            for a, b in ((1, 2), (2, 1))
        ]
        for end in ends:
            end.result(20)
    values = remote.run_sync(lambda tx: tx.scalars(sa.select(item.c.value)))
    assert values == [2, 2]
    assert len(attempts) == 3  # one of the two was the victim


def _plus_one(tx: Tx, id: int) -> None:
    tx.execute(item.update().where(item.c.id == id).values(value=item.c.value + 1))


def test_a_serialization_failure_is_run_again(remote: Database) -> None:
    if remote.dialect != "postgresql":
        pytest.skip("MariaDB has no such failure; it locks")
    remote.run_sync(lambda tx: _add(tx, 1))
    attempts: list[int] = []

    def work(tx: Tx) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            tx.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            value = tx.scalar(sa.select(item.c.value))
            with remote.engine.begin() as other:
                other.execute(item.update().values(value=10))
            tx.execute(item.update().values(value=value + 1))
        else:
            _plus_one(tx, 1)

    remote.run_sync(work)
    assert len(attempts) == 2
    assert remote.run_sync(lambda tx: tx.scalar(sa.select(item.c.value))) == 11


def _cut(database: Database, tx: Tx) -> None:
    """End the transaction's connection from another one, as a restart of the server would."""
    with database.engine.connect() as other:
        if database.dialect == "postgresql":
            own = tx.scalar(sa.text("SELECT pg_backend_pid()"))
            other.execute(sa.text(f"SELECT pg_terminate_backend({own}, 5000)"))
        else:
            own = tx.scalar(sa.text("SELECT CONNECTION_ID()"))
            other.exec_driver_sql(f"KILL {own}")
        other.rollback()


def test_a_connection_lost_before_the_commit_is_run_again(remote: Database) -> None:
    attempts: list[int] = []

    def work(tx: Tx) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            _cut(remote, tx)
        _add(tx, 1)

    remote.run_sync(work)
    assert len(attempts) == 2
    assert _ids(remote) == [1]


def test_serialize_lets_one_in_at_a_time(database: Database) -> None:
    database.run_sync(lambda tx: _add(tx, 1))

    def work(tx: Tx) -> None:
        tx.serialize("quota")
        value = tx.scalar(sa.select(item.c.value).where(item.c.id == 1))
        time.sleep(0.002)
        tx.execute(item.update().where(item.c.id == 1).values(value=value + 1))

    with ThreadPoolExecutor(6) as pool:
        for end in [pool.submit(database.run_sync, work) for _ in range(30)]:
            end.result(20)
    assert database.run_sync(lambda tx: tx.scalar(sa.select(item.c.value))) == 30


def test_readers_do_not_see_what_is_not_committed(remote: Database) -> None:
    def work(tx: Tx) -> None:
        _add(tx, 1)
        with remote.engine.connect() as other:
            assert other.execute(sa.select(item.c.id)).all() == []

    remote.run_sync(work)


