"""What a caller is told when the database is away: 503, whether anything was changed, and when to come again."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from pileus.db import faults
from pileus.db.engine import OutcomeUnknown, Retry, Unreachable
from pileus.web.errors import Unavailable

_LOG = logging.getLogger("pileus.web")
_AWAY = "The database cannot be reached at the moment; nothing was changed. Send the request again in some seconds."
_UNKNOWN = (
    "The database was lost while the request was being completed: it may have been done or not. "
    "Look at what it was to change before you send it again."
)
_BUSY = "Too many requests change the same thing at the moment; nothing was changed. Send the request again."


def problem(error: Exception) -> Unavailable | None:
    """The problem to answer with; None for an error that is none of the database's absence."""
    if isinstance(error, Unreachable):
        _LOG.error("%s", error)
        return Unavailable(_AWAY, headers={"Retry-After": "5"})
    if isinstance(error, OutcomeUnknown):
        _LOG.error("%s", error)
        return Unavailable(_UNKNOWN, headers={"Retry-After": "15"})
    conflict = isinstance(error, sa.exc.DBAPIError) and faults.kind(error) is faults.Kind.CONFLICT
    if conflict or isinstance(error, Retry):
        return Unavailable(_BUSY, headers={"Retry-After": "1"})
    return None
