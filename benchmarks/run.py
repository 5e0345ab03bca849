"""Measures every number that SPECIFICATION.md promises: `make bench`, or `benchmarks/run.py NAME …` for some."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

NAMES = ("start", "identity", "compute", "network", "placement", "image", "guest")


def main(names: list[str]) -> int:
    """0 when every promise was kept."""
    kept = True
    print("| promise | measured | limit | kept | note |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        for measured in asyncio.run(module.measure()):
            print(measured.row(), flush=True)
            kept = kept and measured.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
