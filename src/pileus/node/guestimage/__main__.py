"""`python -m pileus.node.guestimage TARGET [CACHE]` builds the guest image."""

import sys
from pathlib import Path

from pileus.node.guestimage import BuildError, build


def main(arguments: list[str]) -> int:
    """Builds to the first argument, keeping packages in the second; returns the exit status."""
    if len(arguments) not in (1, 2):
        print("usage: python -m pileus.node.guestimage TARGET [CACHE]", file=sys.stderr)
        return 2
    target = Path(arguments[0])
    cache = Path(arguments[1]) if len(arguments) == 2 else Path.home() / ".cache" / "pileus"
    try:
        build(target, cache, lambda step, number, count: print(f"[{number}/{count}] {step}", flush=True))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")
    return 0


sys.exit(main(sys.argv[1:]))
