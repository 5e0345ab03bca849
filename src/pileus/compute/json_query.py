"""The hint `query`: conditions on nodes as JSON, `["and", [">=", "$free_ram_mb", 1024], ["=", "$host", "a"]]`.

Nova has it as JsonFilter, which is off by default there too, as it lets users learn what nodes there are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pileus.web.errors import BadRequest

_DEPTH = 10
_MOST = 200
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}
_WORDS = {*_COMPARE, "in", "not", "or", "and"}

Query = list[Any]


def read(text: Any) -> Query:
    """The query of a hint, which is JSON as text or as it is. Raises BadRequest for one that cannot be understood."""
    try:
        found = msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError:
        raise BadRequest("Invalid input for the hint query: it is not JSON.") from None
    _check(found, 0)
    query: Query = found
    return query


def _check(query: Any, depth: int) -> int:
    if not isinstance(query, list) or not query or query[0] not in _WORDS or depth > _DEPTH:
        raise BadRequest(
            f"Invalid input for the hint query: write [operator, arguments …] with one of {' '.join(sorted(_WORDS))}, "
            f"at most {_DEPTH} deep."
        )
    size = len(query) + sum(_check(part, depth + 1) for part in query[1:] if isinstance(part, list))
    if size > _MOST:
        raise BadRequest(f"Invalid input for the hint query: it has more than {_MOST} parts.")
    return size


def holds(query: Query, fact: Callable[[str], Any]) -> bool:
    """Whether a node fulfils it; `fact` tells what the node is by name. What cannot be compared is not fulfilled."""
    word, *rest = query
    values = [_value(part, fact) for part in rest]
    if word == "not":
        return any(not value for value in values)
    if word in ("or", "and"):
        return any(values) if word == "or" else all(values)
    if len(values) < 2 or values[0] is None:
        return False
    if word == "in":
        return values[0] in values[1:]
    return _all(_COMPARE[word], values[0], values[1:])


def _all(compare: Callable[[Any, Any], bool], first: Any, others: Sequence[Any]) -> bool:
    try:
        return all(compare(first, other) for other in others)
    except TypeError:
        return False


def _value(part: Any, fact: Callable[[str], Any]) -> Any:
    if isinstance(part, list):
        return holds(part, fact)
    if isinstance(part, str) and part.startswith("$"):
        return fact(part[1:].replace(".", ":"))
    return part
