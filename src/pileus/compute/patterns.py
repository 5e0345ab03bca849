"""Regular expressions that users may send: only such as cannot keep the server busy.

Python's engine backtracks. Where no group is repeated and only few repeats are unbounded, the work grows only as a
small power of the text's length, and the texts are names of at most 255 characters.
"""

from __future__ import annotations

import re

from pileus.web.errors import BadRequest

_SPECIAL = frozenset(".^$*+?{}[]\\|()")
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[aiLmsux-]+\)|[*+?]\??|\{\d*,?\d*\}\??|.", re.DOTALL)
_MOST_REPEATS = 3
_MOST_LENGTH = 255


def is_plain(text: str) -> bool:
    """Whether the pattern is just a word to be found."""
    return not _SPECIAL.intersection(text)


def compile_bounded(text: str) -> re.Pattern[str]:
    """The pattern, case ignored. Raises BadRequest for one that is wrong or could take too long."""
    if len(text) > _MOST_LENGTH or not _is_bounded(text):
        raise BadRequest(
            f"The regular expression '{text[:64]}' is too costly: at most {_MOST_REPEATS} repeats are taken, and none "
            "of a group."
        )
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadRequest(f"'{text}' is not a regular expression: {error}.") from None


def _is_bounded(text: str) -> bool:
    repeats, before = 0, ""
    for token in _TOKEN.findall(text):
        if token[0] == "\\" and (token[1:].isdigit() or token in (r"\g", r"\k")):
            return False  # a reference back
        if token[0] in "*+?" or (token[0] == "{" and len(token) > 1):
            if before == ")":
                return False
            repeats += 1
        before = token
    return repeats <= _MOST_REPEATS
