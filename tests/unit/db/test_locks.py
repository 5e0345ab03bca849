"""Named locks and counters, with others at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database, Tx
from pileus.db.locks import bump_revision, hold, read_revision, revision
from pileus.work.periodic import take_lease


def _at_once(database: Database, count: int, work: Callable[[Tx], object]) -> list[object]:
    """The results of `count` transactions that all begin their work at the same moment."""
    gate = threading.Barrier(count)

    def one() -> object:
        waited: list[bool] = []

        def all_together(tx: Tx) -> object:
            tx.execute(sa.select(1))
            if not waited:
                waited.append(True)
                gate.wait(10)
            return work(tx)

        return database.run_sync(all_together)

    with ThreadPoolExecutor(count) as pool:
        return [end.result(30) for end in [pool.submit(one) for _ in range(count)]]


def test_an_unknown_counter_is_zero(database: Database) -> None:
    assert database.run_sync(lambda tx: read_revision(tx, "r"), write=False) == 0


def test_first_bumps_at_once_all_count(remote: Database) -> None:
    _at_once(remote, 6, lambda tx: bump_revision(tx, "r"))
    assert remote.run_sync(lambda tx: read_revision(tx, "r")) == 6


def test_a_transaction_that_bumped_reads_a_number_of_its_own(database: Database) -> None:
    def change(tx: Tx) -> int:
        bump_revision(tx, "r")
        return read_revision(tx, "r")

    seen = {database.run_sync(change) for _ in range(3)}
    assert len(seen) == 3
    assert all(number < 0 for number in seen)
    assert database.run_sync(lambda tx: read_revision(tx, "r")) == 3


def test_two_bumps_in_one_transaction_count_once_at_its_end(database: Database) -> None:
    told: list[int] = []

    def change(tx: Tx) -> tuple[int, int, Any]:
        bump_revision(tx, "r", told.append)
        first = read_revision(tx, "r")
        bump_revision(tx, "r", told.append)
        return first, read_revision(tx, "r"), tx.scalar(sa.select(revision.c.value))

    first, second, there = database.run_sync(change)
    assert first != second  # what was cached between the two is not good any more
    assert (there, told) == (None, [1])
    assert database.run_sync(lambda tx: tx.scalar(sa.select(revision.c.value))) == 1


def test_a_counter_is_held_last_so_that_nobody_waits_in_a_circle(remote: Database) -> None:
    """One counts first and takes a lock then, another the other way round: the database would have to end one."""
    runs: list[str] = []

    def one(tx: Tx) -> None:
        runs.append("one")
        bump_revision(tx, "r")
        threading.Event().wait(0.05)
        hold(tx, "lock")

    def two(tx: Tx) -> None:
        runs.append("two")
        hold(tx, "lock")
        threading.Event().wait(0.05)
        bump_revision(tx, "r")

    remote.run_sync(lambda tx: (hold(tx, "lock"), bump_revision(tx, "r")))
    with ThreadPoolExecutor(2) as pool:
        for end in [pool.submit(remote.run_sync, work) for work in (one, two)]:
            end.result(30)
    assert sorted(runs) == ["one", "two"]
    assert remote.run_sync(lambda tx: read_revision(tx, "r"), write=False) == 3


def test_a_transaction_that_fails_at_its_end_has_changed_nothing(database: Database) -> None:
    def fail(count: int) -> None:
        raise RuntimeError("at the end")

    with pytest.raises(RuntimeError, match="at the end"):
        database.run_sync(lambda tx: (take_lease(tx, "job", "me", 100.0, 10.0), bump_revision(tx, "r", fail)))
    assert database.run_sync(lambda tx: read_revision(tx, "r"), write=False) == 0
    assert database.run_sync(lambda tx: take_lease(tx, "job", "another", 100.0, 10.0))


def test_a_lock_nobody_held_before_lets_one_in_at_a_time(remote: Database) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(tx: Tx) -> None:
        hold(tx, "new lock")
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.005)
        inside.pop()

    _at_once(remote, 6, work)
    assert len(most) >= 6
    assert max(most) == 1


def test_a_lease_has_one_owner(remote: Database) -> None:
    names = iter("abcdef")
    taken = _at_once(remote, 6, lambda tx: take_lease(tx, "job", next(names), 100.0, 10.0))
    assert sum(map(bool, taken)) == 1


def test_a_lease_is_kept_refused_and_taken_over(database: Database) -> None:
    def take(owner: str, now: float) -> bool:
        return database.run_sync(lambda tx: take_lease(tx, "job", owner, now, 10.0))

    assert take("a", 100.0)
    assert not take("b", 105.0)
    assert take("a", 105.0)
    assert not take("b", 114.9)
    assert take("b", 115.0)
    assert not take("a", 115.1)
