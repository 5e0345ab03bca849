"""`pileus manage`: what operators know from nova-manage, keystone-manage and their like, in today's words.

Some of it happens by itself here; then the command says so and shows what there is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pileus.cli import controlling, running
from pileus.cli import db as database
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings
from pileus.world import iso_z

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Verb:
    """A sub-command: its words, what it is, and what it shows of the cloud; without `show` it is the schema's."""

    words: str
    help: str
    show: Callable[[Tx, Cloud], Rows] | None = None
    note: str = ""


def _services(tx: Tx, cloud: Cloud) -> Rows:
    from pileus.cluster import controllers
    from pileus.cluster.liveness import moment
    from pileus.compute import availability_zones, nodes
    from pileus.network import agents, placing

    now = moment(cloud)
    zones = availability_zones.by_host(tx)
    rows: Rows = [("Binary", "Host", "Zone", "Status", "State", "Updated At")]
    for row in controllers.listing(tx):
        up = row.seen > now - controllers.DEAD_AFTER
        rows.append(("pileus-server", row.name, "internal", "enabled", _state(up), iso_z(row.seen)))
    for row in nodes.listing(tx):
        zone = zones.get(row.name, cloud.settings.availability_zone)
        status = "disabled" if row.disabled else "enabled"
        rows.append(("nova-compute", row.name, zone, status, _state(nodes.is_up(row, now)), iso_z(row.seen)))
    for row in agents.listing(tx):
        status = "enabled" if row.admin_state_up else "disabled"
        up = placing.is_alive(row, now)
        rows.append((row.kind, row.node, "internal", status, _state(up), iso_z(row.heartbeat)))
    return rows


def _state(up: bool) -> str:
    return ":-)" if up else "XXX"


def _hosts(tx: Tx, cloud: Cloud) -> Rows:
    from pileus.compute import availability_zones, nodes

    zones = availability_zones.by_host(tx)
    rows: Rows = [("Cell", "Host", "Zone")]
    for row in nodes.listing(tx):
        rows.append(("cell1", row.name, zones.get(row.name, cloud.settings.availability_zone)))
    return rows


def _cells(tx: Tx, cloud: Cloud) -> Rows:
    return [("Name", "Bus", "Database"), ("cell1", _bus(cloud.settings), cloud.db.shown)]


def _bus(settings: Settings) -> str:
    return "RabbitMQ" if settings.bus else "the controllers' own links"


VERBS = (
    Verb("service list", "services on every host, and whether they are up", _services),
    Verb("host list", "hosts that take guests, and their zones", _hosts),
    Verb("cell_v2 discover_hosts", "hosts are found by themselves; shows them", _hosts,
         "Nothing to do: a host is part of the cloud as soon as its agent has joined."),
    Verb("cell_v2 list_hosts", "the same", _hosts),
    Verb("cell_v2 list_cells", "the one cell: where its database and its bus are", _cells),
    Verb("cell_v2 simple_cell_setup", "there is one cell, and it needs no setting up", _cells,
         "Nothing to do: there is one cell."),
    Verb("db sync", "bring the schema to the newest version; every start does it too"),
    Verb("db_sync", "the same, as keystone-manage and glance-manage write it"),
    Verb("api_db sync", "the same: there is one database for all services"),
    Verb("db version", "the schema's version"),
)

_ELSEWHERE = {
    "user": "openstack user create, openstack role add", "project": "openstack project create|list",
    "network": "openstack network create, openstack subnet create", "flavor": "openstack flavor create",
    "floating": "openstack floating ip create|list", "fixed": "openstack subnet create --allocation-pool",
    "image": "openstack image create", "logs": "pileus.log in the state folder; pileus doctor",
}
"""What is done through the APIs today."""


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--verbose", action="store_true", help="taken, and changes nothing: all is shown")
    sub.add_argument(
        "words", nargs="*", metavar="COMMAND",
        help="one of: " + "; ".join(f"{verb.words} ({verb.help})" for verb in VERBS),
    )


def run(options: argparse.Namespace) -> int:
    """0 when it was done, 2 for what there is not."""
    words = " ".join(options.words)
    verb = next((verb for verb in VERBS if verb.words == words), None)
    if verb is None and options.words and options.words[0] in _ELSEWHERE:
        print(f"pileus manage: '{words}' is done through the APIs: {_ELSEWHERE[options.words[0]]}", file=sys.stderr)
        return 2
    if verb is None:
        print(f"pileus manage: there is no '{words}'; there are:" if words else "pileus manage:", file=sys.stderr)
        for each in VERBS:
            print(f"  {each.words:26}{each.help}", file=sys.stderr)
        return 2
    settings = running.as_started(read_settings(options))
    if verb.show is None:
        return database.schema(settings, "sync" in words)
    with controlling.opened(settings) as cloud:
        show = verb.show
        rows = cloud.db.run_sync(lambda tx: show(tx, cloud), write=False)
    print(_table(rows))
    if verb.note:
        print(verb.note)
    return 0


def _table(rows: Rows) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
