"""`pileus haproxy`: the configuration of a load balancer in front of all controllers."""

from __future__ import annotations

import argparse
import sys
from urllib.parse import urlsplit

from pileus.cli import controlling, running
from pileus.cli.main import read_settings, settings_arguments


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--bind", default="*", metavar="ADDRESS", help="address on which HAProxy listens (default: all)")
    sub.add_argument("--port", type=int, metavar="PORT", help="of all APIs (default: as public_url says, else 8080)")
    sub.add_argument("--cluster-port", type=int, default=8443, metavar="PORT", help="to which nodes connect")
    sub.add_argument("--certificate", default="", metavar="FILE", help="PEM of certificate and key: APIs over TLS")


def run(options: argparse.Namespace) -> int:
    """Print it; 1 when no controller lives."""
    from pileus.cluster import controllers
    from pileus.cluster.balancer import Controller, Front, render

    settings = running.as_started(read_settings(options))
    with controlling.opened(settings) as cloud:
        now = cloud.world.now()
        rows = cloud.db.run_sync(controllers.listing, write=False)
    live = [row for row in rows if row.seen > now - controllers.DEAD_AFTER]
    if not live:
        print("pileus haproxy: no controller lives (`pileus server` starts one)", file=sys.stderr)
        return 1
    for row in rows:
        if row not in live:
            print(f"pileus haproxy: controller {row.name} does not live and is left out", file=sys.stderr)
    for row in live:
        if row.api.startswith(("127.", "[::1]", "localhost:")):
            print(f"pileus haproxy: the APIs of {row.name} listen on {row.api} only: set its `listen` to an address "
                  "that HAProxy reaches", file=sys.stderr)
    public = urlsplit(settings.public_url)
    front = Front(
        bind=options.bind, port=options.port or public.port or {"https": 443, "http": 80}.get(public.scheme, 8080),
        cluster_port=options.cluster_port, certificate=options.certificate, classic=settings.classic_ports,
    )
    print(render([
        Controller(name=row.name, api=row.api, cluster=row.address, services=tuple(row.services)) for row in live
    ], front))
    return 0
