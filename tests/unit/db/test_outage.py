"""A database that is away: what is asked meanwhile waits a bounded time, and all goes on by itself after it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database, OutcomeUnknown, Tx, Unreachable
from tests.conftest import Servers
from tests.databases import Mariadb, Postgresql
from tests.unit.db.conftest import KERNEL, item, own
from tests.unit.db.proxy import Proxy


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[str, str, str]]:
    """Kind and name of a database with tables, and its server's socket."""
    running = servers.get(request.param)
    assert isinstance(running, Mariadb | Postgresql)
    for url in running.empty():
        name = sa.make_url(url).database or ""
        database = Database(url)
        KERNEL[0].metadata.create_all(database.engine, tables=KERNEL)
        own.create_all(database.engine)
        database.close()
        if request.param == "mariadb":
            running.do(
                "CREATE USER IF NOT EXISTS pileus@localhost IDENTIFIED BY 's3cret'",
                "GRANT ALL ON *.* TO pileus@localhost",
            )
        yield request.param, name, str(running.folder / running.socket)


def _url(place: tuple[str, str, str], *proxies: Proxy) -> str:
    kind, name, _ = place
    account = "postgres" if kind == "postgresql" else "pileus"
    return f"{kind}://{account}:s3cret@{','.join(f'127.0.0.1:{proxy.port}' for proxy in proxies)}/{name}"


def _add(tx: Tx, id: int) -> None:
    tx.execute(item.insert().values(id=id))


def _ids(database: Database) -> list[int]:
    return database.run_sync(lambda tx: tx.scalars(sa.select(item.c.id).order_by(item.c.id)), write=False)


def test_a_short_outage_is_waited_for(place: tuple[str, str, str]) -> None:
    with Proxy(place[2]) as proxy:
        database = Database(_url(place, proxy), patience=10)
        database.run_sync(lambda tx: _add(tx, 1))
        proxy.down()
        threading.Timer(0.5, proxy.up).start()
        assert database.missed(60.0) == 0.0
        database.run_sync(lambda tx: _add(tx, 2))
        assert _ids(database) == [1, 2]
        assert 0.3 < database.missed(60.0) < 5.0
        assert database.missed(0.0) == 0.0
        database.close()


def test_a_long_one_ends_in_an_error_that_names_no_password(place: tuple[str, str, str]) -> None:
    with Proxy(place[2]) as proxy:
        database = Database(_url(place, proxy), patience=2.0)
        database.run_sync(lambda tx: _add(tx, 1))
        proxy.down()
        began = time.monotonic()
        with pytest.raises(Unreachable, match=f"127.0.0.1:{proxy.port}.*cannot be reached") as caught:
            database.run_sync(lambda tx: _add(tx, 2))
        assert 0.5 < time.monotonic() - began < 10
        assert "s3cret" not in str(caught.value)
        began = time.monotonic()
        with pytest.raises(Unreachable):  # it is known now: nobody waits again
            database.run_sync(lambda tx: _add(tx, 2))
        assert time.monotonic() - began < 1.5
        proxy.up()
        database.run_sync(lambda tx: _add(tx, 3))
        assert _ids(database) == [1, 3]
        database.close()


def test_connections_of_before_a_restart_hurt_nobody(place: tuple[str, str, str]) -> None:
    async def main() -> None:
        with Proxy(place[2]) as proxy:
            database = Database(_url(place, proxy), pool_size=4, patience=0)

            def slow(tx: Tx) -> None:
                tx.execute(sa.select(1))
                time.sleep(0.02)

            await asyncio.gather(*(database.run(slow) for _ in range(4)))
            proxy.cut()
            for number in range(8):
                await database.run(lambda tx, number=number: _add(tx, number))  # type: ignore[misc]
            assert _ids(database) == list(range(8))
            database.close()

    asyncio.run(main())


def test_one_that_answers_nothing_holds_nobody_for_ever(
    place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.db.engine._SLACK", 0.2)

    async def main() -> None:
        with Proxy(place[2]) as proxy:
            database = Database(_url(place, proxy), pool_size=2, patience=0.3)
            await database.run(lambda tx: _add(tx, 1))
            proxy.freeze()
            began = time.monotonic()
            asked = [database.run(lambda tx, n=n: _add(tx, n)) for n in range(2, 6)]  # type: ignore[misc]
            ends = await asyncio.gather(*asked, return_exceptions=True)
            assert time.monotonic() - began < 2
            # The two that had a thread may yet happen; those that waited for one never will.
            assert sorted(type(end).__name__ for end in ends) == ["OutcomeUnknown"] * 2 + ["Unreachable"] * 2
            assert {type(end) for end in ends} == {OutcomeUnknown, Unreachable}
            proxy.thaw()
            for _ in range(100):
                if len(_ids(database)) == 3:
                    break
                await asyncio.sleep(0.05)
            assert _ids(database) == [1, 2, 3]
            database.close()

    asyncio.run(main())


def test_what_a_controller_that_vanished_had_locked_is_free_soon(
    place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.db.hosts.IDLE_SECONDS", 1)
    with Proxy(place[2]) as proxy, Proxy(place[2]) as other:
        vanished, here = Database(_url(place, proxy), patience=0.3), Database(_url(place, other))
        here.run_sync(lambda tx: _add(tx, 1))

        def lock_and_vanish(tx: Tx) -> None:
            tx.execute(item.update().values(value=1))
            proxy.freeze()
            tx.execute(item.update().values(value=2))

        held = threading.Thread(target=_ignoring, args=(vanished, lock_and_vanish))
        held.start()
        while proxy.flows:
            time.sleep(0.01)
        here.run_sync(lambda tx: tx.execute(item.update().values(value=3)))
        assert here.run_sync(lambda tx: tx.scalar(sa.select(item.c.value)), write=False) == 3
        proxy.down()
        held.join(10)
        assert not held.is_alive()
        assert here.run_sync(lambda tx: tx.scalar(sa.select(item.c.value)), write=False) == 3
        vanished.close()
        here.close()


def _ignoring(database: Database, work: Callable[[Tx], None]) -> None:
    with contextlib.suppress(Unreachable, OutcomeUnknown, sa.exc.DBAPIError):
        database.run_sync(work)


def test_whether_it_answers_is_asked_beside_the_connections_that_are_busy(place: tuple[str, str, str]) -> None:
    async def main() -> None:
        with Proxy(place[2]) as proxy:
            database = Database(_url(place, proxy), pool_size=2, patience=0)
            free = threading.Event()
            busy = [asyncio.ensure_future(database.run(lambda tx: free.wait(60))) for _ in range(3)]
            await asyncio.sleep(0.1)
            with pytest.raises(Unreachable):
                await database.ping()
            assert await database.answers(10.0)
            free.set()
            await asyncio.gather(*busy)
            await database.ping()
            proxy.freeze()
            began = time.monotonic()
            assert not await database.answers(0.5)
            assert time.monotonic() - began < 3.0
            proxy.down()
            assert not await database.answers(10.0)
            database.close()

    asyncio.run(main())


def test_migrations_may_take_their_time(place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileus.db.hosts.IDLE_SECONDS", 1)
    with Proxy(place[2]) as proxy:
        database = Database(_url(place, proxy))
        with database.apart() as engine, engine.begin() as conn:
            conn.execute(item.insert().values(id=1))
            time.sleep(1.5)
            conn.execute(item.insert().values(id=2))
        assert _ids(database) == [1, 2]
        database.close()


def test_a_wrong_password_is_told_at_once(place: tuple[str, str, str]) -> None:
    with Proxy(place[2]) as proxy:
        missing = (place[0], "no_such_database", place[2])
        database = Database(_url(missing, proxy), patience=10)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="does not let us in"):
            database.run_sync(lambda tx: tx.execute(sa.select(1)))
        assert time.monotonic() - began < 3
        database.close()


def test_the_next_host_is_used_when_the_first_is_away(place: tuple[str, str, str]) -> None:
    with Proxy(place[2]) as first, Proxy(place[2]) as second:
        database = Database(_url(place, first, second), patience=5)
        database.run_sync(lambda tx: _add(tx, 1))
        assert (first.made, second.made) == (1, 0)
        first.down()
        database.run_sync(lambda tx: _add(tx, 2))
        assert second.made == 1
        assert _ids(database) == [1, 2]
        second.down()
        first.up()
        database.run_sync(lambda tx: _add(tx, 3))
        assert _ids(database) == [1, 2, 3]
        database.close()


def test_a_file_has_no_outage(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    own.create_all(database.engine)
    assert database.shown == f"sqlite:///{tmp_path / 'test.db'}"
    database.run_sync(lambda tx: _add(tx, 1))
    assert _ids(database) == [1]
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0] * 3  # keys are in it
    database.close()
