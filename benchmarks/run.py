"""Measures every number that SPECIFICATION.md promises: `make bench`, or `benchmarks/run.py NAME …` for some.

The table goes to standard output and to `.cache/bench/DATE.md`. The exit status is 1 when a promise is broken.
"""

from __future__ import annotations

import asyncio
import importlib
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

NAMES = ("start", "identity", "compute", "network", "placement", "scheduling", "wiring", "volume", "image", "guest",
         "scale", "controllers")
_HEAD = "| promise | measured | limit | kept | note |\n| --- | --- | --- | --- | --- |"


def main(names: list[str]) -> int:
    """0 when every promise was kept, 1 when one was not, 2 when there is no such benchmark."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    path = _ROOT / ".cache" / "bench" / time.strftime("%Y-%m-%dT%H%M%SZ.md", time.gmtime())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=file, flush=True)

        say(f"{platform.platform()}, Python {platform.python_version()}\n\n{_HEAD}")
        results = [_one(name, say) for name in names or NAMES]
    kept = all(results)
    print(f"\n{'Every promise was kept.' if kept else 'A promise was BROKEN.'} The table is in {path}.")
    return 0 if kept else 1


def _one(name: str, say: Callable[[str], None]) -> bool:
    """One benchmark's rows; whether all were kept."""
    module = importlib.import_module(f"benchmarks.{name}")
    rows = asyncio.run(module.measure())
    for measured in rows:
        say(measured.row())
    return all(measured.kept for measured in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
