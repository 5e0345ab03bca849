"""The runner of all tests: how it counts, and that nothing it runs can fail unseen."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

_PLACE = Path(__file__).resolve().parents[2] / "scripts" / "phases.py"


@pytest.fixture
def phases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("phases", _PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("line", "counted"), [
    ("1896 passed, 1 skipped in 274.33s (0:04:34)\n", {"passed": 1896, "skipped": 1}),
    ("== 1 failed, 2 passed, 3 warnings, 2 errors in 0.10s ==\n",
     {"failed": 1, "passed": 2, "warning": 3, "error": 2}),
    ("1 passed, 5 deselected in 0.33s\n", {"passed": 1, "deselected": 5}),
    ("1 error in 0.33s\n", {"error": 1}),
])
def test_closing_lines_are_read(phases: ModuleType, line: str, counted: dict[str, int]) -> None:
    assert phases.counts(line) == counted


@pytest.mark.parametrize("line", ["12 passed\n", "the rest: 1 failed in 3.0s\n", "no tests ran in 0.02s\n", "\n"])
def test_other_lines_are_none(phases: ModuleType, line: str) -> None:
    assert phases.counts(line) is None


def test_the_sum_is_a_closing_line_itself(phases: ModuleType) -> None:
    said = phases.closing(Counter(passed=5100, failed=2, skipped=1, error=2), 901.5)
    assert said == "2 failed, 5100 passed, 1 skipped, 2 errors in 901.50s (00:15:01)"
    assert phases.counts(said) == {"passed": 5100, "failed": 2, "skipped": 1, "error": 2}


@pytest.mark.parametrize(("program", "status", "counted"), [
    ("print('F [100%]'); print('1 failed, 2 passed in 0.1s'); exit(1)", 1, {"failed": 1, "passed": 2}),
    ("print('.. [ 9%]'); exit(3)", 3, {"error": 1}),
    ("print('no tests ran in 0.1s')", 1, {"error": 1}),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, {"error": 1}),
])
def test_a_phase_that_fails_or_dies_is_counted(
    phases: ModuleType, program: str, status: int, counted: dict[str, int]
) -> None:
    assert phases.phase([sys.executable, "-c", program]) == (status, counted)


def test_what_failed_is_kept_for_the_end(phases: ModuleType) -> None:
    program = (
        "print('ERROR tests/a.py::b - OSError: gone'); print('FAILED tests/a.py::c');"
        "print('1 failed, 1 error in 0.1s')"
    )
    failed: list[str] = []
    phases.phase([sys.executable, "-c", program], None, failed)
    assert failed == ["ERROR tests/a.py::b - OSError: gone\n", "FAILED tests/a.py::c\n"]


def test_a_phase_that_dies_is_kept_too(phases: ModuleType) -> None:
    failed: list[str] = []
    phases.phase([sys.executable, "-c", "exit(3)"], None, failed)
    assert len(failed) == 1
    assert failed[0].startswith("pytest ended with status 3 and without a closing line: ")
