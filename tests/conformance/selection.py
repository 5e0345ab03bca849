"""Which tests to run: from a file of test ids or a regular expression, out of the list that Tempest gives."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class SelectionError(ValueError):
    """What was asked for names no test."""


@dataclass(frozen=True)
class Selection:
    """The tests to run, by the full ids that Tempest lists, and the names asked for that it does not know."""

    tests: tuple[str, ...]
    missing: tuple[str, ...]


def name_of(test_id: str) -> str:
    """Return the id without its tags: `a.b.Class.test[id-1,smoke]` is `a.b.Class.test`."""
    return test_id.partition("[")[0].strip()


def select(wanted: str, listed: Sequence[str]) -> Selection:
    """Choose from `listed` what `wanted` asks for.

    `wanted` is the path of a file with one test id a line (`#` starts a comment; tags are ignored, because
    they change from release to release), or a regular expression that is searched for in the full ids, tags
    included. Raises SelectionError when it is neither or matches nothing.
    """
    # A long expression is no possible file name, which Path.is_file raises for.
    if os.path.isfile(wanted):
        return _from_file(Path(wanted), listed)
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        raise SelectionError(
            f"TESTS='{wanted}' is neither a file nor a regular expression: {error}"
        ) from error
    tests = tuple(test for test in listed if pattern.search(test))
    if not tests:
        raise SelectionError(
            f"TESTS='{wanted}' is no file, and as an expression matches none of {len(listed)} tests"
        )
    return Selection(tests, ())


def _from_file(path: Path, listed: Sequence[str]) -> Selection:
    by_name = {name_of(test): test for test in listed}
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    names = dict.fromkeys(name_of(line) for line in lines if line)
    if not names:
        raise SelectionError(f"{path} names no test")
    return Selection(
        tests=tuple(by_name[name] for name in names if name in by_name),
        missing=tuple(name for name in names if name not in by_name),
    )
