"""`pileus down`: the process ends, everything else stays."""

from __future__ import annotations

import argparse
import sys

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)


def run(options: argparse.Namespace) -> int:
    """0 when it does not run any more."""
    settings = read_settings(options)
    try:
        was = running.stop(settings)
    except TimeoutError as error:
        print(f"pileus down: {error}", file=sys.stderr)
        return 1
    print("Stopped; state is kept, guests go on running." if was else "It was not running.")
    return 0
