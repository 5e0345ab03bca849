"""Renders the reference pages that come from the program itself: settings, CLI and metrics.

`scripts/docs.py` writes them; `scripts/docs.py --check` writes nothing and fails when one is out of date.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("settings", "cli", "metrics")


def render(page: str) -> str:
    """Return the page as `pileus docs PAGE` prints it. Raises CalledProcessError when it fails."""
    program = Path(sys.executable).with_name("pileus")
    done = subprocess.run([program, "docs", page], check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    return done.stdout


def main(arguments: list[str]) -> int:
    """Write every page, or with `--check` name those that differ. Returns the exit code."""
    check = arguments == ["--check"]
    if arguments and not check:
        print(f"docs.py: unknown arguments {arguments}; there is only --check", file=sys.stderr)
        return 2
    stale = []
    for page in PAGES:
        path = ROOT / "docs" / f"{page}.md"
        text = render(page)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(path.relative_to(ROOT))
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    for path in stale:
        print(f"docs.py: {path} is out of date; run 'make docs'", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
