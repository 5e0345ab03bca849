"""How long something has run, in words."""

from __future__ import annotations

import re

import pytest

from pileus.node.hypervisor import uptime

LOAD = r"  load average: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d"


@pytest.mark.parametrize(("seconds", "words"), [
    (59.9, "0 min"), (60, "1 min"), (3599, "59 min"), (3600, " 1:00"), (86399, "23:59"), (86400, "1 day, 0 min"),
    (2 * 86400 + 36000 + 60, "2 days, 10:01"),
])
def test_words(seconds: float, words: str) -> None:
    assert re.fullmatch(rf" 00:01:40 up {words}," + LOAD, uptime.text(100, seconds))


def test_the_hosts_own() -> None:
    assert re.fullmatch(r" \d\d:\d\d:\d\d up .+," + LOAD, uptime.of_host())
