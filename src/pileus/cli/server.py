"""`pileus server`: a controller, which nodes join."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from pileus.cli import controlling, daemon, running, up
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_LISTEN = "0.0.0.0:8443"
_HOURS = 24.0


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("-d", "--detach", action="store_true", help="go on in the background once all APIs answer")


def run(options: argparse.Namespace) -> int:
    """Start; 0 when it was stopped in order, 1 when it could not start."""
    started = time.monotonic()
    settings = read_settings(options)
    if not settings.cluster_listen:
        settings = msgspec.structs.replace(settings, cluster_listen=_LISTEN)
    try:
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = running.Lock(settings)
        if options.detach:
            (settings.state / "pileus.log").touch(mode=0o600)
        controlling.give_to_server_user(settings)
    except (controlling.NoAccount, running.AlreadyRunning, OSError) as error:
        print(f"pileus server: {error}", file=sys.stderr)
        return 1

    def serve(ready: Callable[[], None]) -> int:
        controlling.become_owner(settings)
        return controlling.serve("pileus server", settings, sys.stderr, ready, agents=False)

    return daemon.start(
        "pileus server", settings, lock, serve, lambda: _summary(settings, time.monotonic() - started),
        detach=options.detach,
    )


def _summary(settings: Settings, seconds: float) -> str:
    """Where it is, and how nodes join. The first one to start makes a token for that."""
    from pileus.cluster import nodes, tokens

    with controlling.opened(settings) as cloud:
        def token(tx: Tx) -> str:
            if tokens.listing(tx) or nodes.listing(tx):
                return ""
            roles = ("compute", "network")
            return tokens.create(tx, cloud, roles=roles, hours=_HOURS, uses=None, description="made at the first start")

        made = cloud.db.run_sync(token)
        address = settings.cluster_address or _address(settings)
    how = (
        f"  Join:      pileus agent --server https://{address} --token {made}\n"
        f"             (good for {_HOURS:.0f} hours; others: pileus token create)"
        if made else f"  Join:      pileus agent --server https://{address} --token $(pileus token create)"
    )
    return f"\nThe controller is up after {seconds:.1f} s (pid {running.pid_of(settings) or os.getpid()}).\n" + (
        up.where(settings) + "\n" + how
    )


def _address(settings: Settings) -> str:
    import socket

    from pileus.cluster.membership import own_address

    host, _, port = settings.cluster_listen.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host.strip("[]"), 0))
        return own_address(probe).rpartition(":")[0] + ":" + port
