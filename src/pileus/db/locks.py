"""Named locks and counters as rows, for what must be one at a time across controllers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.db.tables import table

if TYPE_CHECKING:
    from pileus.db.engine import Tx

named_lock = table(
    "named_lock",
    sa.Column("name", sa.String(191), primary_key=True),
    sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"),
)

revision = table(
    "revision",
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

_READ = sa.select(revision.c.value).where(revision.c.name == sa.bindparam("n"))
_BUMP = (
    revision.update().where(revision.c.name == sa.bindparam("n")).values(value=revision.c.value + 1)
)


_TAKE = (
    named_lock.update().where(named_lock.c.name == sa.bindparam("n")).values(turn=named_lock.c.turn + 1)
)


def hold(tx: Tx, name: str) -> None:
    """Take the named lock until this transaction ends; waits for whoever holds it.

    The row is changed and not only locked: the nodes of a Galera cluster know nothing of each other's locks, but of
    two transactions that change one row they let only one commit."""
    _change(tx, _TAKE, named_lock, {"name": name, "turn": 1})


def read_revision(tx: Tx, name: str) -> int:
    """The counter's value; 0 when nothing was ever counted."""
    known = tx.memo.get(name)
    if known is None:
        known = tx.memo[name] = tx.scalar(_READ, {"n": name}) or 0
    value: int = known
    return value


def bump_revision(tx: Tx, name: str, then: Callable[[int], None] | None = None) -> None:
    """Count this transaction's change, at its end and once. Caches compare the counter.

    `then` is told the new count, at the end too; only one for each counter is. To the rest of this transaction the
    counter reads as a number that no other ever sees: what it caches may be rolled back, and the next transaction
    would count to the same value."""
    tx.memo[name] = -(uuid.uuid4().int >> 65)

    def count() -> None:
        _change(tx, _BUMP, revision, {"name": name, "value": 1})
        if then is not None:
            then(tx.scalar(_READ, {"n": name}))

    tx.at_end(f"revision:{name}", count)


def _change(tx: Tx, statement: sa.Update, table: sa.Table, first: dict[str, Any]) -> None:
    """Change the row of this name, which is made as `first` if there is none yet."""
    name = {"n": first["name"]}
    if tx.execute(statement, name).rowcount:
        return
    try:
        with tx.savepoint():
            tx.execute(table.insert().values(first))
    except sa.exc.IntegrityError:  # another transaction was first, and has committed
        tx.execute(statement, name)
