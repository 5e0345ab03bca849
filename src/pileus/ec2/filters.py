"""Filters and pages of all Describe actions, as EC2 has them: OR within a filter, AND between them, `*` and `?`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pileus.ec2.faults import refused
from pileus.ec2.schemas import Filter, Paged

T = TypeVar("T")
Values = Iterable[str | bool | int | None]
Known = Mapping[str, Callable[[T], Values]]
"""What a filter of this name looks at: the item matches when one of these is one of the filter's values."""

_MOST = 1000
_TOKEN = "after:"


def select(
    items: Iterable[T], asked: Sequence[Filter], known: Known[T],
    tags_of: Callable[[T], Mapping[str, str]] | None = None,
) -> list[T]:
    """The items that every filter matches. Raises BadRequest for one that is not known, or has no value."""
    found = list(items)
    for one in asked:
        get = _getter(one.name, known, tags_of)
        if not one.value:
            raise refused("InvalidParameterValue", f"The filter '{one.name[:80]}' has no value")
        found = [item for item in found if any(_same(_text(v), p) for v in get(item) if v is not None
                                               for p in one.value)]
    return found


def _getter(
    name: str, known: Known[T], tags_of: Callable[[T], Mapping[str, str]] | None
) -> Callable[[T], Values]:
    if name in known:
        return known[name]
    if tags_of is not None and name == "tag-key":
        return lambda item: tags_of(item)
    if tags_of is not None and name.startswith("tag:"):
        key = name[4:]
        return lambda item: [value for tag, value in tags_of(item).items() if tag == key]
    raise refused("InvalidParameterValue", f"The filter '{name[:80]}' is invalid")


def _text(value: str | bool | int | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same(text: str, pattern: str) -> bool:
    """Whether a text is a pattern's, in time that grows with both lengths only: patterns come from outside."""
    marks = _marks(pattern)
    at = here = 0
    star, behind = -1, 0
    while at < len(text):
        if here < len(marks) and marks[here] == "*":
            star, behind = here, at
            here += 1
        elif here < len(marks) and marks[here] in ("?", "=" + text[at]):
            at, here = at + 1, here + 1
        elif star >= 0:
            behind += 1
            at, here = behind, star + 1
        else:
            return False
    return all(mark == "*" for mark in marks[here:])


def _marks(pattern: str) -> list[str]:
    r"""`*`, `?`, or `=` and the character that is meant; `\*` is a star."""
    marks, plain = [], False
    for char in pattern:
        if char == "\\" and not plain:
            plain = True
            continue
        marks.append(char if char in "*?" and not plain else "=" + char)
        plain = False
    return [*marks, "=\\"] if plain else marks


def page(items: Sequence[T], key: Callable[[T], str], asked: Paged, named: bool = False) -> tuple[list[T], str | None]:
    """One page of items and the token of the next one. `named`: the caller has said which he wants, by id.

    Raises BadRequest for a token that is none, and for pages of named ones."""
    if named and (asked.max_results is not None or asked.next_token is not None):
        raise refused("InvalidParameterCombination", "The parameters MaxResults and NextToken are not for requests "
                                                     "that name ids")
    after = _after(asked.next_token)
    found = sorted((item for item in items if key(item) > after), key=key)
    size = asked.max_results or (_MOST if asked.next_token is not None else len(found))
    rest = len(found) > size
    token = base64.urlsafe_b64encode((_TOKEN + key(found[size - 1])).encode()).decode() if rest else None
    return found[:size], token


def _after(token: str | None) -> str:
    if token is None:
        return ""
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_TOKEN):
        raise refused("InvalidNextToken", "The NextToken is not one that was given out")
    return text.removeprefix(_TOKEN)
