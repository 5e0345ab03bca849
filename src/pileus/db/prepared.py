"""Statements that are run again and again, straight on the embedded database's driver.

SQLAlchemy takes 70-90 µs of Python for each execution, ten times what SQLite takes for an indexed select. A statement
object that comes a second time (those built once at module level) is compiled once here; from then on its parameters
go to the driver, and the rows come back as SQLAlchemy's own, made by the getter of its own result. What cannot be
done so goes SQLAlchemy's way, as does everything while someone listens to the engine's events.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult

_EXPANDING = re.compile(r"__\[POSTCOMPILE_(\w+)\]")

_MOST_SIZED = 64

Parameters = Mapping[str, Any] | None
Processor = Callable[[Any], Any] | None


class Unfit(Exception):
    """These parameters need SQLAlchemy."""


class Prepared:
    """One compiled statement. `rows` and `row` make SQLAlchemy's rows of the driver's tuples."""

    __slots__ = ("_binds", "_list", "_names", "_plain", "_sized", "_texts", "row", "rows")

    def __init__(self, statement: Any, dialect: sa.Dialect, names: Sequence[str], result: CursorResult[Any]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names) if statement.is_dml else None)
        self._texts = _EXPANDING.split(compiled.string)  # text, name, text, name, …, text
        processors: Mapping[str, Processor] = compiled._bind_processors
        expanding = set(self._texts[1::2])
        if expanding != {b.key for b in compiled.post_compile_params | compiled.literal_execute_params}:
            raise Unfit
        self._binds: list[tuple[str, bool, Processor, bool, Any]] = []
        for name in compiled.positiontup:
            required = compiled.binds[name].required
            default = None if required else compiled.params[name]
            self._binds.append((name, name in expanding, processors.get(name), required, default))
        self._names = frozenset(compiled.positiontup)
        # Most statements have one parameter, in one place or several; those of a list have one text for each length.
        simple = len(self._names) == 1 and all(required and not process for _, _, process, required, _ in self._binds)
        self._plain = self._binds[0][0] if simple and not expanding else ""
        self._list = self._binds[0][0] if simple and len(self._texts) == 2 * len(self._binds) + 1 else ""
        self._sized: dict[int, str] = {}
        if not result.returns_rows:
            self.row = self.rows = None
            return
        getters = result._row_getter
        if not isinstance(getters, tuple) or None in getters[:2]:
            raise Unfit
        self.row, self.rows = getters[:2]

    def bound(self, parameters: Parameters) -> tuple[str, list[Any]]:
        """The text and the values in the order of their places. Raises Unfit."""
        given = parameters or {}
        if self._plain and len(given) == 1 and self._plain in given:
            return self._texts[0], [given[self._plain]] * len(self._binds)
        if self._list and len(given) == 1:
            several = given.get(self._list)
            if type(several) is list and (known := self._sized.get(len(several))):
                return known, several * len(self._binds)
        if self.row is None and not given.keys() <= self._names:
            raise Unfit  # it sets other columns this time
        values: list[Any] = []
        sizes: list[int] = []
        for name, expands, processor, required, default in self._binds:
            if name in given:
                value = given[name]
            elif required:
                raise Unfit
            else:
                value = default
            if not expands:
                values.append(value if processor is None else processor(value))
                continue
            if type(value) not in (list, tuple) or not value or processor is not None:
                raise Unfit
            values += value
            sizes.append(len(value))
        if not sizes:
            return self._texts[0], values
        text = list(self._texts)
        for at, size in enumerate(sizes):
            text[2 * at + 1] = "?" + ", ?" * (size - 1)
        made = "".join(text)
        if self._list and sizes[0] <= _MOST_SIZED:
            self._sized[sizes[0]] = made
        return made, values


class Done:
    """What is left of a change: how many rows it met."""

    __slots__ = ("rowcount",)

    def __init__(self, rowcount: int) -> None:
        self.rowcount = rowcount


class Statements:
    """The prepared statements of one embedded database."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._raw: sqlite3.Connection = conn.connection.dbapi_connection  # type: ignore[assignment]
        self._events = conn.engine.dispatch
        self._known: WeakKeyDictionary[Any, Prepared | int] = WeakKeyDictionary()

    def all(self, statement: Any, parameters: Parameters) -> Sequence[sa.Row[Any]]:
        """Every row."""
        cursor, prepared = self._run(statement, parameters)
        if prepared is None:
            rows: Sequence[sa.Row[Any]] = cursor.all()
            return rows
        return prepared.rows(cursor.fetchall())  # type: ignore[misc]

    def first(self, statement: Any, parameters: Parameters) -> sa.Row[Any] | None:
        """The first row, or None."""
        cursor, prepared = self._run(statement, parameters)
        if prepared is None:
            row: sa.Row[Any] | None = cursor.first()
            return row
        found = cursor.fetchone()
        cursor.close()
        return None if found is None else prepared.row(found)  # type: ignore[misc]

    def change(self, statement: Any, parameters: Any) -> Any:
        """An update or a delete, with only its `rowcount`; any other statement's whole result."""
        if not (statement.is_update or statement.is_delete) or not isinstance(parameters, Mapping | None):
            return self._conn.execute(statement, parameters)
        cursor, prepared = self._run(statement, parameters)
        return cursor if prepared is None else Done(cursor.rowcount)

    def _run(self, statement: Any, parameters: Parameters) -> tuple[Any, Prepared | None]:
        """The driver's cursor and how to read it, or SQLAlchemy's result and None."""
        known = self._known.get(statement)
        if isinstance(known, Prepared) and not self._events.before_cursor_execute:
            try:
                text, values = known.bound(parameters)
                return self._raw.execute(text, values), known
            except (Unfit, sqlite3.Error):  # what the driver refuses is refused again, as SQLAlchemy's error
                return self._conn.execute(statement, parameters), None
        result = self._conn.execute(statement, parameters)
        if known is None:
            self._known[statement] = 1
        elif known == 1:
            self._known[statement] = self._prepare(statement, parameters, result)
        return result, None

    def _prepare(self, statement: Any, parameters: Parameters, result: CursorResult[Any]) -> Prepared | int:
        try:
            return Prepared(statement, self._conn.dialect, list(parameters or ()), result)
        except (Unfit, AttributeError, KeyError, sa.exc.SQLAlchemyError):
            return 2
