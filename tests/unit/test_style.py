"""The house style, where a machine can see it: short files, short functions, names that say something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pileus

SOURCE = Path(pileus.__file__).parent
LONGEST_FILE = 500
LONGEST_FUNCTION = 70
LONG_FILES: set[str] = set()
"""Files over the limit, each with a reason. Shorten instead."""
LONG_FUNCTIONS: set[str] = set()
"""`file:function` over the limit, each with a reason. Shorten instead."""
SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}

HISTORY = SOURCE / "db" / "migrations" / "versions"
"""What a released schema was: written by Alembic, as long as it is."""

FILES = sorted(path for path in SOURCE.rglob("*.py") if HISTORY not in path.parents)


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_are_short() -> None:
    long = {str(f.relative_to(SOURCE)) for f in FILES if len(f.read_text().splitlines()) > LONGEST_FILE}
    assert long == LONG_FILES


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(SOURCE)}:{node.name}"
        for path in FILES
        for node in _functions(path)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == LONG_FUNCTIONS


def test_names_say_what_is_inside() -> None:
    for path in FILES:
        words = set(path.stem.split("_")) | set(path.relative_to(SOURCE).parent.parts)
        assert not words & SAY_NOTHING, path


def test_modules_and_public_functions_have_docstrings() -> None:
    missing = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            missing.append(str(path.relative_to(SOURCE)))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                missing.append(f"{path.relative_to(SOURCE)}:{node.name}")
    assert not missing
