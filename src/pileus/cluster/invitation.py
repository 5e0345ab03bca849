"""The text of a join token: `pileus1.FINGERPRINT.ID.SECRET`.

The fingerprint is of the authority's certificate: who joins sends the secret only to a controller that this
authority has vouched for, so that a man in the middle gets nothing.
"""

from __future__ import annotations

import re

import msgspec

ROLES = ("compute", "network", "storage")
"""What a node can be; one with none of them cannot join."""

_MARK = "pileus1"
_SHAPE = re.compile(rf"{_MARK}\.([0-9a-f]{{64}})\.([0-9a-z]{{1,64}})\.([0-9A-Za-z_-]{{1,200}})", re.ASCII)


class Parts(msgspec.Struct, frozen=True):
    """A token taken apart."""

    fingerprint: str
    id: str
    secret: str


class BadToken(ValueError):
    """This is no join token."""


def parse(text: str) -> Parts:
    """Raises BadToken."""
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        raise BadToken(
            f"this is no join token: one begins with {_MARK}. and has four parts; `pileus token create` on a "
            "controller prints one"
        )
    return Parts(*found.groups())


def text(parts: Parts) -> str:
    """The token as an operator gets it."""
    return f"{_MARK}.{parts.fingerprint}.{parts.id}.{parts.secret}"
