"""Statements that come again run on the driver itself, and nobody can tell but by the time they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.db.engine import Database, Tx
from pileus.db.prepared import Prepared, Statements
from pileus.db.tables import Json

_ITEM = sa.Table(
    "thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(9), unique=True),
    sa.Column("facts", Json), sa.Column("live", sa.Boolean),
)
_AMONG = (
    sa.select(_ITEM).where(_ITEM.c.id.in_(sa.bindparam("ids", expanding=True)), _ITEM.c.live.is_(sa.bindparam("l")))
    .order_by(_ITEM.c.id)
)


@pytest.fixture
def tx(tmp_path: Path) -> Any:
    """A transaction on three things."""
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    with database.engine.connect() as conn:
        _ITEM.create(conn)
        rows = [{"id": n, "name": f"n{n}", "facts": {"n": n}, "live": n != 2} for n in (1, 2, 3)]
        conn.execute(_ITEM.insert(), rows)
        conn.commit()
        yield Tx(conn, True, Statements(conn))
    database.close()


def _prepared(tx: Tx, statement: Any) -> bool:
    assert tx._prepared is not None
    return isinstance(tx._prepared._known.get(statement), Prepared)


def test_the_third_run_gives_what_the_first_gave(tx: Tx) -> None:
    first, *rest = [tx.all(_AMONG, {"ids": [1, 2, 3], "l": True}) for _ in range(3)]
    assert _prepared(tx, _AMONG)
    assert rest == [first, first]
    assert [(r.id, r.name, r.facts, r.live) for r in rest[1]] == [(1, "n1", {"n": 1}, True), (3, "n3", {"n": 3}, True)]
    assert rest[1][0]._mapping[_ITEM.c.facts] == {"n": 1}


@pytest.mark.parametrize("ids", [[], [3], [3, 1], list(range(2000))], ids=["none", "one", "two", "many"])
def test_a_list_may_have_any_length(tx: Tx, ids: list[int]) -> None:
    for _ in range(3):
        tx.all(_AMONG, {"ids": [1], "l": True})
    assert [r.id for r in tx.all(_AMONG, {"ids": ids, "l": True})] == [i for i in (1, 3) if i in ids]


def test_statements_made_of_a_prepared_one_are_their_own(tx: Tx) -> None:
    for _ in range(3):
        tx.all(_AMONG, {"ids": [1, 3], "l": True})
    narrowed = _AMONG.where(_ITEM.c.name == "n3")
    for _ in range(3):
        assert tx.scalars(narrowed, {"ids": [1, 3], "l": True}) == [3]


def test_values_written_into_a_statement_hold(tx: Tx) -> None:
    one, two = (sa.select(_ITEM.c.name).where(_ITEM.c.id == n) for n in (1, 2))
    assert [tx.scalar(s) for s in (one, two) * 3] == ["n1", "n2"] * 3


def test_a_change_counts_its_rows(tx: Tx) -> None:
    change = _ITEM.update().where(_ITEM.c.id == sa.bindparam("i")).values(facts=sa.bindparam("f"))
    counts = [tx.execute(change, {"i": i, "f": {"new": i}}).rowcount for i in (1, 9, 3, 1)]
    assert _prepared(tx, change)
    assert counts == [1, 0, 1, 1]
    assert tx.scalar(sa.select(_ITEM.c.facts).where(_ITEM.c.id == 3)) == {"new": 3}


def test_a_change_may_set_other_columns_each_time(tx: Tx) -> None:
    change = _ITEM.update().where(_ITEM.c.id == sa.bindparam("i"))
    for name in ("a", "b", "c"):
        tx.execute(change, {"i": 1, "name": name})
    tx.execute(change, {"i": 1, "live": False})
    tx.execute(change, {"i": 1, "live": False, "name": "d"})
    row = tx.first(sa.select(_ITEM).where(_ITEM.c.id == 1))
    assert row is not None
    assert (row.name, row.live) == ("d", False)


def test_what_the_database_refuses_is_refused_as_before(tx: Tx) -> None:
    change = _ITEM.update().where(_ITEM.c.id == sa.bindparam("i")).values(name=sa.bindparam("n"))
    for _ in range(3):
        tx.execute(change, {"i": 1, "n": "free"})
    with pytest.raises(sa.exc.IntegrityError):
        tx.execute(change, {"i": 1, "n": "n2"})


def test_a_parameter_left_out_is_refused(tx: Tx) -> None:
    for _ in range(3):
        tx.all(_AMONG, {"ids": [1], "l": True})
    with pytest.raises(sa.exc.StatementError, match="required"):
        tx.all(_AMONG, {"ids": [1]})


def test_who_listens_to_statements_hears_them_all(tx: Tx) -> None:
    heard: list[str] = []
    for _ in range(3):
        tx.all(_AMONG, {"ids": [1], "l": True})
    sa.event.listen(tx.conn.engine, "before_cursor_execute", lambda *given: heard.append(given[2]))
    tx.all(_AMONG, {"ids": [1], "l": True})
    assert len(heard) == 1
