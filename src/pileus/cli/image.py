"""`pileus image build-guest FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    below = sub.add_subparsers(dest="what", metavar="WHAT", required=True)
    build = below.add_parser("build-guest", help="build the small guest image of demo and tests from Debian packages")
    build.add_argument("file", help="where the qcow2 file goes")
    build.add_argument("--cache", metavar="DIR", default="/var/cache/pileus", help="where downloaded packages are kept")


def run(options: argparse.Namespace) -> int:
    """0 when the file is there."""
    from pileus.cli.progress import Steps
    from pileus.node.guestimage import build
    from pileus.node.guestimage.faults import BuildError

    try:
        with Steps() as steps:
            path = build(Path(options.file), Path(options.cache), progress=steps.show)
    except BuildError as error:
        print(f"pileus image: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
