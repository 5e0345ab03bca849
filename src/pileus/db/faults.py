"""What a database's errors mean: run the transaction again, wait for the database, or give up."""

from __future__ import annotations

import enum

import sqlalchemy as sa

_POSTGRES_CONFLICT = {"40001", "40P01"}
_POSTGRES_AWAY = {
    "25006",  # read only: this server is a standby now
    "53300",  # too many connections
    "55P03",  # a lock was not had in time: only the look after a commit's fate sets such a time
    "57P01", "57P02", "57P03", "57P05",  # it stops, has crashed, starts, or has closed an idle session
}
_POSTGRES_REFUSES = {"28000", "28P01", "3D000", "42501"}
_MYSQL_CONFLICT = {1205, 1213}
_MYSQL_AWAY = {
    0, 2002, 2003, 2005, 2006, 2013, 2014, 2055,  # the client: no connection, or none any more
    1040, 1203, 1226,  # too many connections
    1047, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927,  # Galera is not ready; it stops; killed
    1290, 1792, 1836,  # read only: this server is a replica now
}
_ELSEWHERE = {"25006", 1047, 1053, 1290, 1792, 1836}
_MYSQL_REFUSES = {1044, 1045, 1049, 1130, 1698}


class Kind(enum.Enum):
    """What to do about an error."""

    CONFLICT = enum.auto()  # another transaction was in the way, and this one has been undone: again, at once
    AWAY = enum.auto()  # the server or the connection to it is gone: again, when there is one
    OTHER = enum.auto()  # the statement's own fault


class Unreachable(ConnectionError):
    """The database cannot be reached, or gives no answer. Nothing of the transaction has happened."""


class OutcomeUnknown(Exception):
    """The connection was lost while a transaction was being committed: it may have happened or not.

    It is not run again, since that could do the work twice."""


def kind(error: sa.exc.DBAPIError) -> Kind:
    """What an error of a statement means."""
    state = getattr(error.orig, "sqlstate", None)
    number = _number(error)
    if state in _POSTGRES_CONFLICT or number in _MYSQL_CONFLICT:
        return Kind.CONFLICT
    if error.connection_invalidated or number in _MYSQL_AWAY:
        return Kind.AWAY
    if isinstance(state, str) and (state in _POSTGRES_AWAY or state.startswith("08")):
        return Kind.AWAY
    return Kind.OTHER


def elsewhere(error: sa.exc.DBAPIError) -> bool:
    """Whether the server lives and takes no work: another host has to be asked."""
    return getattr(error.orig, "sqlstate", None) in _ELSEWHERE or _number(error) in _ELSEWHERE


def refuses(error: sa.exc.DBAPIError) -> bool:
    """Whether a server answers but will not have us: a wrong password, no such database. Waiting does not help."""
    if getattr(error.orig, "sqlstate", None) in _POSTGRES_REFUSES or _number(error) in _MYSQL_REFUSES:
        return True
    # While a connection is made libpq says in words alone what the server answered.
    text = str(error.orig)
    return "authentication failed" in text or ('FATAL:  database "' in text and "does not exist" in text)


def _number(error: sa.exc.DBAPIError) -> int | None:
    """MariaDB's number of the error; SQLite's errors and PostgreSQL's have none."""
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code if isinstance(code, int) else None
