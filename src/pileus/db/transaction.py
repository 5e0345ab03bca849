"""A transaction, as the work that is done in it sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Row

from pileus.db import faults
from pileus.db.prepared import Statements


class Retry(Exception):
    """Raised by domain code that lost a race: the whole transaction is run again."""


class Tx:
    """A transaction. Thin over SQLAlchemy's connection; statements are Core."""

    __slots__ = ("_after", "_last", "_prepared", "changed", "conn", "memo", "write")

    def __init__(self, conn: Connection, write: bool, prepared: Statements | None = None) -> None:
        self.conn = conn
        self.write = write
        self.changed = False
        """Whether a row may have been changed."""
        self._prepared = prepared
        self.memo: dict[str, Any] = {}
        """What was read once and holds to the end of this transaction."""
        self._after: list[Callable[[], None]] = []
        self._last: dict[str, Callable[[], None]] = {}

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        if self._prepared is not None:
            result: CursorResult[Any] = self._prepared.change(statement, parameters)
            return result
        if not statement.is_select:
            self.changed = True
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

    def at_end(self, key: str, call: Callable[[], None]) -> None:
        """Run `call` last in this transaction; once per key, and in the order of keys.

        For rows that many transactions change: each holds them for a moment only, and all take them in one order,
        after everything else, so that none waits for another that waits for it. What `call` changes beside them must
        be its transaction's already."""
        self._last.setdefault(key, call)

    def end(self) -> None:
        """Do what was put off to the end. Nothing may be asked after that but the commit."""
        while self._last:
            self._last.pop(min(self._last))()

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
            if isinstance(error, sa.exc.DBAPIError) and faults.kind(error) is not faults.Kind.OTHER:
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
