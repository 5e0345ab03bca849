"""`pileus status`."""

from __future__ import annotations

import argparse

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)


def run(options: argparse.Namespace) -> int:
    """0: it runs and is well; 1: it runs and is not; 3: it does not run."""
    settings = running.as_started(read_settings(options))
    pid = running.pid_of(settings)
    if pid is None:
        print(f"The cloud of {settings.state} does not run. Start it: pileus up --state-dir {settings.state}")
        return 3
    health = running.healthy(f"http://{settings.listen}")
    print(f"The cloud of {settings.state} runs: pid {pid}, {settings.endpoint}, hypervisor {settings.hypervisor}")
    print(f"Health: {health}")
    return 0 if health == "ok" else 1
