"""How loud the program's loggers are."""

from __future__ import annotations

import logging

from pileus.web import log

for _name in ("pileus", "pileus.testing", "pileus.testing.below", "pileus.testing2", "pileusother", "library.pileus"):
    logging.getLogger(_name)


def test_a_level_counts_for_what_begins_so_and_for_what_is_below_it() -> None:
    log.set_levels("", "ERROR")
    log.set_levels("pileus.testing.", "DEBUG")
    found = log.levels("pileus.test")
    assert found == {"pileus.testing": "ERROR", "pileus.testing.below": "DEBUG", "pileus.testing2": "ERROR"}
    log.set_levels("pileus.testing", "INFO")
    assert set(log.levels("pileus.testing").values()) == {"INFO"}
    assert logging.getLogger("pileus.testing.later").isEnabledFor(logging.INFO)
    assert log.levels("pileus.testing.later") == {"pileus.testing.later": "INFO"}


def test_the_logs_of_libraries_are_not_touched() -> None:
    before = {name: logging.getLogger(name).level for name in ("pileusother", "library.pileus")}
    log.set_levels("", "CRITICAL")
    assert {name: logging.getLogger(name).level for name in before} == before
    assert not {"pileusother", "library.pileus"} & log.levels().keys()
    assert log.levels("library") == {}
