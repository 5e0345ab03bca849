"""Named locks and counters as rows, for what must be one at a time across controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.tables import metadata, table

if TYPE_CHECKING:
    from pileus.db.engine import Tx

named_lock = table("named_lock", sa.Column("name", sa.String(191), primary_key=True))

revision = table(
    "revision",
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

assert metadata is not None

_READ = sa.select(revision.c.value).where(revision.c.name == sa.bindparam("n"))
_BUMP = (
    revision.update().where(revision.c.name == sa.bindparam("n")).values(value=revision.c.value + 1)
)


def hold(tx: Tx, name: str) -> None:
    """Take the named lock until this transaction ends; waits for whoever holds it."""
    lock = sa.select(named_lock.c.name).where(named_lock.c.name == name).with_for_update()
    if tx.first(lock) is None:
        try:
            with tx.savepoint():
                tx.execute(named_lock.insert().values(name=name))
        except sa.exc.IntegrityError:
            tx.first(lock)


def read_revision(tx: Tx, name: str) -> int:
    """The counter's value; 0 when nothing was ever counted."""
    known = tx.memo.get(name)
    if known is None:
        known = tx.memo[name] = tx.scalar(_READ, {"n": name}) or 0
    value: int = known
    return value


def bump_revision(tx: Tx, name: str) -> None:
    """Count one change, in the same transaction as the change. Caches compare the counter."""
    tx.memo.pop(name, None)
    if not tx.execute(_BUMP, {"n": name}).rowcount:
        tx.execute(revision.insert().values(name=name, value=1))
