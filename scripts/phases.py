"""Lint beside the tests, and the tests in phases; the last lines are what failed in any of them, and one closing line
for all, like pytest's.

What runs in process and on databases comes first, on two workers with database servers of their own. Guests, labs and
namespaces come then, on two workers with networks of their own: they wait more than they work, but have deadlines. What
pytest says of a phase is seen as it says it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30
_ROOT = Path(__file__).resolve().parent.parent
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-ra", "--durations=10", "--database=all"]
_SPLIT = ["-n", "2", "--dist", "loadfile"]
_LONGEST_FIRST = "--no-loadscope-reorder"  # xdist would begin with the files of most tests
_COUNT = re.compile(r"(\d+) (failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?)\b")
_CLOSING = re.compile(rf"^=*\s*{_COUNT.pattern}(, {_COUNT.pattern})* in [\d.]+s\b")
_FAILED = ("FAILED ", "ERROR ")
_ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")


def counts(line: str) -> Counter[str] | None:
    """How many passed, failed and so on, of pytest's closing line; None when it is no such line."""
    if not _CLOSING.match(line):
        return None
    return Counter({what.removesuffix("s") if what in ("errors", "warnings") else what: int(number)
                    for number, what in _COUNT.findall(line)})


def closing(total: Counter[str], seconds: float) -> str:
    """One closing line for all."""
    said = [f"{total[what]} {what}{'s' if what in ('error', 'warning') and total[what] > 1 else ''}"
            for what in _ORDER if total[what]]
    minutes = time.strftime("%H:%M:%S", time.gmtime(seconds))
    return f"{', '.join(said) or 'no tests ran'} in {seconds:.2f}s ({minutes})"


def phase(
    words: Sequence[str], environment: dict[str, str] | None = None, failed: list[str] | None = None
) -> tuple[int, Counter[str]]:
    """Run one pytest and pass on what it says, but for its closing line; its status and its counts. One that ends
    without a closing line has died: that counts as an error. The lines of what failed are added to `failed`."""
    found, failed = None, [] if failed is None else failed
    with subprocess.Popen(
        words, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            found = counts(line) or found
            if line.startswith(_FAILED):
                failed.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
    if found is None:
        died = f"pytest ended with status {running.returncode} and without a closing line: {' '.join(words)}"
        print(died)
        failed.append(died + "\n")
        return running.returncode or 1, Counter(error=1)
    return running.returncode, found


@contextmanager
def memory() -> Iterator[Path | None]:
    """A folder in memory, where files cost no disk; None where there is too little, or programs may not run in it."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ENOUGH:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="t", dir=_MEMORY, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o1777)
        trial = folder / "trial"
        trial.write_text("#!/bin/sh\n")
        trial.chmod(0o755)
        try:
            subprocess.run([trial], check=True)
        except (OSError, subprocess.CalledProcessError):
            yield None
        else:
            yield folder


def main() -> int:
    """All of it; the status is 0 when all is well."""
    began = time.monotonic()
    status, total, failed = 0, Counter[str](), list[str]()
    with tempfile.TemporaryFile("w+") as said, memory() as folder:
        lint = subprocess.Popen([_ROOT / "scripts/lint"], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            for words, environment in _phases(folder):
                result, found = phase(words, environment, failed)
                status, total = status or result, total + found
        except BaseException:
            lint.terminate()
            raise
        finally:
            ended = lint.wait()
        said.seek(0)
        print(said.read(), end="")
        if ended:
            failed.append(f"scripts/lint ended with status {ended}\n")
            status, total = status or 1, total + Counter(error=1)
    print("".join(failed), end="")
    print(closing(total, time.monotonic() - began), flush=True)
    return status


def _phases(folder: Path | None) -> Iterator[tuple[list[str], dict[str, str] | None]]:
    environment = {**os.environ, "TMPDIR": str(folder)} if folder else None
    # Sockets are made in tests' folders, and the path of one is 107 characters at most.
    short = [f"--basetemp={folder}/b"] if folder else []
    yield [*_PYTEST, *_SPLIT, *short, "tests", "--ignore=tests/system"], environment
    yield [*_PYTEST, *_SPLIT, _LONGEST_FIRST, "tests/system"], None


if __name__ == "__main__":
    sys.exit(main())
