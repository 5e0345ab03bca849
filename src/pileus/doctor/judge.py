"""All checks together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.doctor import database, host
from pileus.doctor.findings import Finding, Guest
from pileus.image import tables as image
from pileus.node.assemble import node_names
from pileus.settings import Settings

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_RUNS = {"active": True, "paused": True, "rescued": True, "stopped": False, "suspended": False, "resized": None}
"""Whether a server's guest runs, by vm_state; None: either. States that are missing say nothing of a guest."""


def judge(settings: Settings) -> list[Finding]:
    """Everything that disagrees now; empty when all is well."""
    opened = Database(settings.database_url)
    try:
        # The host first: what is made after that is not judged; what goes meanwhile is looked at again.
        guests = host.guests(settings)
        carried = asyncio.run(host.network(settings))
        files = host.image_files(settings)
        return opened.run_sync(lambda tx: list(_all(tx, settings, guests, carried, files)), write=False)
    finally:
        opened.close()


def _all(
    tx: Tx, settings: Settings, guests: dict[str, Guest], carried: dict[str, set[str]], files: dict[str, int]
) -> Iterator[Finding]:
    yield from database.unsettled(tx)
    yield from database.allocations(tx)
    yield from database.ports(tx)
    yield from _guests(tx, settings, guests)
    yield from _images(tx, files)
    if carried:
        yield from _network(tx, settings, carried)


def _guests(tx: Tx, settings: Settings, guests: dict[str, Guest]) -> Iterator[Finding]:
    rows = {row.id: row for row in database.servers(tx)}
    for server in guests.keys() - rows.keys():
        yield Finding("guests", f"guest {server}", f"is on {guests[server].node}, and there is no such server")
    local = set(node_names(settings))
    for server, row in rows.items():
        guest = guests.get(server)
        if row.host not in local or row.vm_state not in _RUNS:
            continue
        if guest is None:
            yield Finding("guests", f"server {server}", f"is {row.vm_state} on {row.host}, which has no such guest")
        elif guest.node != row.host:
            yield Finding("guests", f"server {server}", f"is on {row.host}, its guest on {guest.node}")
        elif guest.processes > 1:
            yield Finding("guests", f"server {server}", f"has {guest.processes} processes")
        elif _RUNS[row.vm_state] is not None and guest.running != _RUNS[row.vm_state]:
            does = "runs" if guest.running else "does not run"
            yield Finding("guests", f"server {server}", f"is {row.vm_state}, and its guest {does}")


def _images(tx: Tx, files: dict[str, int]) -> Iterator[Finding]:
    rows = {row.id: row for row in tx.all(sa.select(image.image).where(image.image.c.status != "deleted"))}
    for name in files.keys() - rows.keys():
        yield Finding("images", f"file {name}", "belongs to no image")
    for image_id, row in rows.items():
        if row.status in ("active", "deactivated") and row.size and files.get(image_id) != row.size:
            yield Finding("images", f"image {image_id}", f"has {row.size} bytes, its file {files.get(image_id)}")


def _network(tx: Tx, settings: Settings, carried: dict[str, set[str]]) -> Iterator[Finding]:
    from pileus.cloud import Cloud
    from pileus.network import wiring

    cloud = Cloud(settings)
    try:
        state = wiring.node_state(tx, cloud, node_names(settings)[0])
    finally:
        cloud.close()
    wanted = {
        "networks": {network.id for network in state.networks},
        "routers": {router.id for router in state.routers},
        "ports": {port.id for port in state.ports},
    }
    for kind, ids in wanted.items():
        there = carried.get(kind, set())
        for thing in there - ids:
            yield Finding("network", f"{kind[:-1]} {thing}", "is on the host, and nothing asks for it")
        if kind != "ports":  # a port's tap is there only while its guest runs
            for thing in ids - there:
                yield Finding("network", f"{kind[:-1]} {thing}", "should be on the host, and is not")


def settled(settings: Settings, seconds: float) -> list[Finding]:
    """The findings once nothing is being done any more, or after `seconds`, whichever comes first."""
    until = time.monotonic() + seconds
    while True:
        found = judge(settings)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.25)
