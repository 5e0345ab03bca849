"""`pileus node`: the nodes of the cloud."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING

from pileus.cli import controlling, running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings
from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    below = sub.add_subparsers(dest="action", required=True)
    parsers = [below.add_parser("list", help="show nodes and controllers, and how they are")]
    drain = below.add_parser("drain", help="move every guest, router and DHCP server away, and let nothing new in")
    drain.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait until it is empty")
    enable = below.add_parser("enable", help="let the node have guests, routers and DHCP servers again")
    remove = below.add_parser("remove", help="make the node's certificate worthless and forget the node")
    remove.add_argument("--force", action="store_true", help="even if servers are on it; evacuate or delete them then")
    for each in (drain, enable, remove):
        each.add_argument("name", help="as `pileus node list` shows it")
        parsers.append(each)
    for each in parsers:
        settings_arguments(each)


def run(options: argparse.Namespace) -> int:
    """0 when it was done, 1 when not."""
    settings = running.as_started(read_settings(options))
    with controlling.opened(settings) as cloud:
        try:
            if options.action == "list":
                return _list(cloud)
            if options.action == "remove":
                return _remove(cloud, settings, options.name, options.force)
            return _drain(cloud, options.name, options.action == "drain", getattr(options, "wait", 0.0))
        except Problem as problem:
            print(f"pileus node: {problem}", file=sys.stderr)
            return 1


def _list(cloud: Cloud) -> int:
    from pileus.cluster import controllers, nodes
    from pileus.compute.nodes import DEAD_AFTER

    members = cloud.db.run_sync(nodes.listing, write=False)
    heads = cloud.db.run_sync(controllers.listing, write=False)
    now = cloud.world.now()
    print(f"{'NAME':24}{'ROLES':26}{'STATE':10}{'ADDRESS':18}{'CONTROLLER':18}SEEN")
    for head in heads:
        state = "up" if now - head.seen < controllers.DEAD_AFTER else "down"
        address = head.address.rpartition(":")[0]
        print(f"{head.name:24}{'controller':26}{state:10}{address:18}{'':18}{_ago(now - head.seen)}")
    for row in members:
        state = "up" if now - row.seen < DEAD_AFTER else "down"
        state = f"{state},drain" if row.draining else state
        roles = ",".join(row.roles)
        print(f"{row.name:24}{roles:26}{state:10}{row.address:18}{row.controller:18}{_ago(now - row.seen)}")
    return 0


def _ago(seconds: float) -> str:
    return "never" if seconds > 1e8 else f"{max(0.0, seconds):.0f} s ago"


def _drain(cloud: Cloud, name: str, wanted: bool, wait: float) -> int:
    from pileus.cluster import nodes
    from pileus.compute import drain
    from pileus.network import wiring

    def change(tx: Tx) -> None:
        nodes.set_draining(tx, name, wanted)
        (drain.begin if wanted else drain.end)(tx, cloud, name)
        wiring.node_drained(tx, cloud)

    cloud.db.run_sync(change)
    if not wanted:
        print(f"Node {name} takes guests again.")
        return 0
    until = time.monotonic() + wait
    while True:
        said = cloud.db.run_sync(lambda tx: drain.status(tx, cloud, name), write=False)
        if said.done:
            print(f"Node {name} is empty; nothing new gets there.")
            return 0
        if time.monotonic() >= until:
            print(f"Node {name} is being emptied; {len(said.left)} servers are still there:")
            print("\n".join(f"  {each.id} {each.name}: {each.why or each.vm_state}" for each in said.left[:20]))
            return 1 if wait else 0
        time.sleep(0.5)


def _remove(cloud: Cloud, settings: Settings, name: str, force: bool) -> int:
    from pileus.cluster import control, nodes
    from pileus.compute import services
    from pileus.network import wiring

    def remove(tx: Tx) -> None:
        nodes.remove(tx, name)
        services.forget(tx, name, force=force)
        wiring.node_left(tx, cloud, name)

    cloud.db.run_sync(remove)
    # Controllers look once a second; the one of this machine is told.
    asyncio.run(control.tell(settings, "check"))
    print(f"Node {name} is no part of the cloud any more. On it: pileus destroy")
    return 0
