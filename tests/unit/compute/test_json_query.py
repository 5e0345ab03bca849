"""The hint `query`."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.compute import json_query
from pileus.web.errors import BadRequest

FACTS = {"free_ram_mb": 2048, "host": "a", "cpu_info:model": "EPYC", "vcpus": 8}


@pytest.mark.parametrize(("query", "expected"), [
    ([">=", "$free_ram_mb", 1024], True), ([">=", "$free_ram_mb", 4096], False), (["=", "$host", "a"], True),
    (["in", "$host", "b", "a"], True), (["in", "$host", "b"], False), (["not", ["=", "$host", "b"]], True),
    (["and", ["<", "$vcpus", 9], [">", "$vcpus", 7]], True), (["or", ["=", "$host", "x"], ["=", "$vcpus", 8]], True),
    (["=", "$cpu_info.model", "EPYC"], True), (["<", "$host", 5], False), (["=", "$nothing", 1], False),
    (["=", "$host"], False), (["<=", 1, 2, 3], True),
])
def test_it_holds(query: list[Any], expected: bool) -> None:
    assert json_query.holds(json_query.read(query), FACTS.get) is expected


@pytest.mark.parametrize("text", ["{", "[]", '["rm", 1]', '{"a": 1}', "5", '["and", []]', '["="' + ', "x"' * 300 + "]",
                                  '["not", ' * 12 + '["=", 1, 1]' + "]" * 12])
def test_what_is_no_query(text: str) -> None:
    with pytest.raises(BadRequest, match="hint query"):
        json_query.read(text)
