"""`pileus up`: the whole cloud on this machine."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TextIO

from pileus.cli import controlling, daemon, running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--hypervisor", choices=("qemu", "fake"), help="fake boots no guests (setting hypervisor)")
    sub.add_argument("-d", "--detach", action="store_true", help="go on in the background once all APIs answer")


def run(options: argparse.Namespace) -> int:
    """Start; 0 when it was stopped in order, 1 when it could not start."""
    started = time.monotonic()
    settings = read_settings(options)
    from pileus.node.assemble import Missing, check_host, prepare_host

    try:
        check_host(settings)
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = running.Lock(settings)
        prepare_host(settings)
    except (Missing, running.AlreadyRunning, OSError) as error:
        print(f"pileus up: {error}", file=sys.stderr)
        return 1
    return daemon.start(
        "pileus up", settings, lock, lambda ready: _serve(settings, sys.stderr, ready),
        lambda: summary(settings, time.monotonic() - started), detach=options.detach,
    )


def _serve(settings: Settings, log_to: TextIO, ready: Callable[[], None]) -> int:
    return controlling.serve("pileus up", settings, log_to, ready, agents=True)


def summary(settings: Settings, seconds: float) -> str:
    """What a user of DevStack expects at the end."""
    kind = "real guests (qemu)" if settings.hypervisor == "qemu" else "no real guests (fake)"
    return f"\nThe cloud is up after {seconds:.1f} s: {kind}.\n{where(settings)}"


def where(settings: Settings) -> str:
    """URL, accounts, and how to go on."""
    state = settings.state
    return "\n".join((
        f"  Identity:  {settings.endpoint}/identity/v3",
        f"  Accounts:  admin; its password is in {state}/clouds.yaml",
        f"  Use it:    export OS_CLIENT_CONFIG_FILE={state}/clouds.yaml OS_CLOUD=pileus-admin; openstack server list",
        f"             or: . {state}/openrc",
        "  Go on:     pileus status | doctor | down (state is kept) | destroy (all gone)",
    ))
