"""How many statements something takes: as many for a thousand rows as for one, if no row costs a round trip."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from pileus.db.engine import Database

NOW_AND_THEN = 5
"""Statements by which two countings of the same may differ: what is cached is read again after some seconds."""


@contextlib.contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are sent to the database in a `with` block, in their order."""
    sent: list[str] = []

    def note(*said: object) -> None:
        sent.append(str(said[2]))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
