"""`pileus doctor`."""

from __future__ import annotations

import argparse
import json
import sys

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="give what is being done time to end")
    sub.add_argument(
        "--without", action="append", default=[], metavar="NODE", help="do not ask this node; may be repeated"
    )
    sub.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """0: all agrees; 1: something does not; 3: there is no cloud to judge."""
    from pileus.doctor.judge import NoCloud, settled

    settings = running.as_started(read_settings(options))
    try:
        found = settled(settings, options.wait, frozenset(options.without))
    except NoCloud as error:
        print(f"pileus doctor: {error}", file=sys.stderr)
        return 3
    if options.json:
        print(json.dumps([{"check": f.check, "thing": f.thing, "wrong": f.wrong} for f in found]))
    else:
        print("\n".join(map(str, found)) or "All agrees: database, guests, network, placement and images.")
    return 1 if found else 0
