"""Errors that cross a cluster connection, by name: they are raised on the other side as what they were."""

from __future__ import annotations

import logging
import struct

import msgspec

from pileus.cluster.frames import Broken, Failure
from pileus.node.contract import GuestGone, NodeFault
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound, Problem, Unavailable

_LOG = logging.getLogger("pileus.cluster")

_KINDS: dict[str, type[Exception]] = {
    "fault": NodeFault, "gone": GuestGone, "conflict": Conflict, "unavailable": Unavailable, "forbidden": Forbidden,
    "not-found": NotFound, "bad-request": BadRequest,
}


def as_failure(number: int, what: str, error: Exception) -> Failure:
    """An error on its way. What it is about is told, but not the inside of an error that nobody foresaw."""
    for name, kind in _KINDS.items():
        if isinstance(error, kind):
            return Failure(number, name, str(error))
    if isinstance(error, Broken):
        return Failure(number, "unavailable", str(error))
    if isinstance(error, ConnectionError | TimeoutError):
        # As when the database is away. The text names it: that is for the log here.
        _LOG.warning("'%s' cannot be done now: %s", what, error)
        return Failure(number, "unavailable", f"'{what}' cannot be done now ({type(error).__name__}); try again.")
    if isinstance(error, msgspec.MsgspecError | UnicodeDecodeError | struct.error):
        _LOG.warning("'%s' was not understood: %s", what, error)
        return Failure(number, "bad-request", f"'{what}' was not understood: {error}")
    if isinstance(error, Problem):
        return Failure(number, "conflict", str(error))
    _LOG.error("'%s' failed", what, exc_info=error)
    return Failure(number, "error", f"'{what}' failed: {type(error).__name__}; the log there tells more")


def from_failure(failure: Failure) -> Exception:
    """The error that a frame tells of."""
    kind = _KINDS.get(failure.kind)
    return NodeFault(failure.text) if kind is None else kind(failure.text)
