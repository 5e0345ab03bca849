"""Filters' wildcards, pages, and their tokens."""

from __future__ import annotations

import pytest

from pileus.ec2.filters import _same, page, select
from pileus.ec2.schemas import Filter, Paged
from pileus.web.errors import BadRequest


@pytest.mark.parametrize(("pattern", "text", "same"), [
    ("a", "a", True), ("a", "A", False), ("", "", True), ("*", "", True), ("*", "abc", True), ("?", "", False),
    ("a*c", "abbc", True), ("a*c", "abcd", False), ("a?c", "abc", True), ("a?c", "ac", False), ("**a", "xa", True),
    (r"\*", "*", True), (r"\*", "a", False), (r"\?", "?", True), ("\\", "\\", True), (r"a\\*", r"a\b", True),
    ("*a*b*", "xxaxxbxx", True), ("=a", "=a", True), ("a.c", "abc", False), ("[a]", "a", False),
])
def test_wildcards(pattern: str, text: str, same: bool) -> None:
    assert _same(text, pattern) is same


def test_a_pattern_takes_no_time_that_explodes() -> None:
    assert not _same("a" * 255, "*a" * 120 + "b")  # 2**120 ways to go: who tries them all never ends


def test_filters_are_or_within_and_and_between() -> None:
    items = ["ab", "ac", "bc"]
    known = {"first": lambda item: [item[0]], "last": lambda item: [item[1]], "flag": lambda item: [item == "bc"]}
    assert select(items, [Filter(name="first", value=["a"])], known) == ["ab", "ac"]
    assert select(items, [Filter(name="first", value=["a", "b"]), Filter(name="last", value=["c"])], known) == [
        "ac", "bc"
    ]
    assert select(items, [Filter(name="flag", value=["true"])], known) == ["bc"]
    for wrong in (Filter(name="other", value=["x"]), Filter(name="tag:a", value=["x"]), Filter(name="first")):
        with pytest.raises(BadRequest):
            select(items, [wrong], known)


def test_every_item_is_on_one_page() -> None:
    items = [f"{number:02}" for number in range(12, 0, -1)]
    seen: list[str] = []
    token: str | None = None
    for size in (5, 5, 1):
        found, token = page(items, str, Paged(max_results=5, next_token=token))
        assert len(found) == size
        seen += found
        items = [item for item in items if item != "07"]  # what goes meanwhile moves nothing
    assert token is None
    assert seen == [f"{number:02}" for number in range(1, 13) if number != 7]
