"""What became of a commit whose answer was lost.

Every thread that changes rows of a database server has a slot: one row of its own, in which each of its transactions
writes its token last of all. When the connection is lost at the commit, another connection takes the slot's row. It
waits there for a transaction that still holds it, so that what it reads is final: our token, and the transaction was
committed; another, and it was not. In the second case it writes a token of its own before anything is run again: where
the lost transaction is still on its way on another node of a Galera cluster, the two changes of one row conflict, and
the late one fails there. So work is never done twice and never taken as done when it was not.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pileus.db.tables import Id, Time, table

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_STALE = 86400.0
_LOCK_SECONDS = 5

slot = table(
    "commit_slot",
    sa.Column("name", Id, primary_key=True),
    sa.Column("token", Id, nullable=False),
    sa.Column("at", Time, nullable=False),
)

_WRITE = (
    slot.update().where(slot.c.name == sa.bindparam("n")).values(token=sa.bindparam("t"), at=sa.bindparam("now"))
)
_TOKEN = sa.select(slot.c.token).where(slot.c.name == sa.bindparam("n")).with_for_update()
_OLD = sa.select(slot.c.name).where(slot.c.at < sa.bindparam("old")).order_by(slot.c.name).limit(1000)
_FORGET = slot.delete().where(slot.c.name == sa.bindparam("n"), slot.c.at < sa.bindparam("old"))


def forget(tx: Tx, cloud: Cloud) -> None:
    """Remove the slots of processes that are long gone. Runs periodically.

    One by one: a delete that looks at every row would wait for those of the transactions that are under way."""
    old = cloud.world.now() - _STALE
    for name in tx.scalars(_OLD, {"old": old}):
        tx.execute(_FORGET, {"n": name, "old": old})


class Slot:
    """One thread's slot. Not for two threads at once."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self._start = uuid.uuid4().hex[:16]
        self._count = 0

    def mark(self, conn: Connection) -> str:
        """Write a new token into the slot as the last change of a transaction; the token."""
        self._count += 1
        token = f"{self._start}-{self._count}"
        self._write(conn, token)
        return token

    def _write(self, conn: Connection, token: str) -> None:
        now = time.time()
        if not conn.execute(_WRITE, {"n": self.name, "t": token, "now": now}).rowcount:
            conn.execute(slot.insert(), {"name": self.name, "token": token, "at": now})

    def committed(self, engine: sa.Engine, token: str) -> bool:
        """Whether the transaction with `token` was committed; if not, it never will be.

        Raises SQLAlchemy's errors when that cannot be found out now, also one that says that the slot's first row
        has just been made by the other."""
        with engine.connect() as conn:
            if conn.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            else:
                conn.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_SECONDS}")
            try:
                if conn.execute(_TOKEN, {"n": self.name}).scalar() == token:
                    return True
                self._write(conn, f"{self._start}-no-{uuid.uuid4().hex[:16]}")
                conn.commit()
            finally:
                if conn.dialect.name == "mysql" and not conn.invalidated:
                    conn.invalidate()  # its session was changed
        return False
