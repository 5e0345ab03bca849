"""All checks together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from pileus.cli import running
from pileus.cluster import nodes as members
from pileus.db.engine import Tx
from pileus.doctor import block_devices, database, host, kept, network, nodes
from pileus.doctor.findings import Finding, Guest, Host
from pileus.node.contract import NodeFault
from pileus.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNS = {"active": True, "paused": True, "rescued": True, "stopped": False, "suspended": False, "resized": None}
"""Whether a server's guest runs, by vm_state; None: either. States that are missing say nothing of a guest."""
_AGAIN = 0.25


T = TypeVar("T")


class NoCloud(Exception):
    """There is nothing to judge; says why."""


def judge(settings: Settings, without: frozenset[str] = frozenset()) -> list[Finding]:
    """Everything that disagrees now; empty when all is well. Nodes that are elsewhere are asked, but for those in
    `without`. Raises NoCloud.

    Of a cloud that works meanwhile only what is found twice counts: host and database are not read at one moment."""
    found = _once(settings, without)
    if all(finding.check == "unsettled" for finding in found):
        return found
    before = set(found)
    again = _once(settings, without)
    # What is still done counts as it is now: it may have come a step further, and is not at its end.
    return [finding for finding in again if finding in before or finding.check == "unsettled"]


def settled(settings: Settings, seconds: float, without: frozenset[str] = frozenset()) -> list[Finding]:
    """The findings once nothing is being done any more, or after `seconds`, whichever comes first. Raises NoCloud."""
    until = time.monotonic() + seconds
    while True:
        found = judge(settings, without)
        if not found or time.monotonic() > until:
            return found
        time.sleep(_AGAIN)


def _once(settings: Settings, without: frozenset[str] = frozenset()) -> list[Finding]:
    # The hosts first: what is made after that is not judged.
    far = _read(settings, lambda tx: [row.name for row in members.listing(tx) if row.key_digest])
    try:
        here = _here(settings, bool(far))
    except (OSError, NodeFault) as error:
        raise NoCloud(f"this host cannot be looked at: {error}; where guests are real that takes root") from None
    seen, silent = asyncio.run(nodes.look_at(settings, [name for name in far if name not in without]))
    return _read(settings, lambda tx: list(_all(tx, here, seen, silent, without)))


def _here(settings: Settings, many: bool) -> Host:
    """This host: a node and its controller, or, with nodes elsewhere and none here, the controller alone."""
    alone = many and not running.has_nodes(settings)
    return host.store(settings) if alone else host.look(settings)


def _read(settings: Settings, work: Callable[[Tx], list[T]]) -> list[T]:
    """`work` on the database as it is at one moment, opened so that nothing can be changed."""
    url = sa.make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        from pileus.db.engine import Database
        from pileus.db.faults import Unreachable

        remote = Database(settings.database_url, pool_size=1)
        try:
            return remote.run_sync(work, write=False)
        except Unreachable as error:
            raise NoCloud(f"the database cannot be read: {error}") from None
        except sa.exc.OperationalError as error:
            raise NoCloud(f"the database cannot be read: {error.orig}") from None
        finally:
            remote.close()
    # Without a write-ahead log nobody has the database open, and reading it as usual would make one.
    mode = "mode=ro" if Path(f"{url.database}-wal").exists() else "mode=ro&immutable=1"
    engine = sa.create_engine(
        f"sqlite:///file:{url.database}?{mode}&uri=true", poolclass=sa.pool.NullPool, connect_args={"timeout": 30}
    )
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql("BEGIN")
            return work(Tx(conn, write=False))
    except sa.exc.OperationalError as error:
        raise NoCloud(f"the database {url.database} cannot be read: {error.orig}; has a cloud ever run here?") from None
    finally:
        engine.dispose()


def _all(
    tx: Tx, here: Host, others: Sequence[Host] = (), silent: Mapping[str, str] = MappingProxyType({}),
    without: frozenset[str] = frozenset(),
) -> Iterator[Finding]:
    hosts = [here, *others]
    yield from database.unsettled(tx, without)
    yield from database.tasks(tx, without)
    yield from database.states(tx)
    yield from database.allocations(tx)
    yield from block_devices.unsettled(tx)
    yield from block_devices.agree(tx)
    yield from kept.agree(tx, hosts)
    yield from network.ports(tx)
    yield from network.floating_ips(tx)
    yield from network.security_groups(tx)
    yield from database.images(tx, here.images, here.staged, here.controller)
    yield from nodes.silent(tx, silent)
    yield from _guests(tx, hosts)
    for seen in hosts:
        if seen.cache is not None:
            yield from database.cache(tx, seen.nodes, set(seen.guests), seen.cache)
        if seen.carried is not None:
            yield from network.carried(tx, seen, seen.carried)


def _guests(tx: Tx, hosts: list[Host]) -> Iterator[Finding]:
    rows = {row.id: row for row in database.servers(tx)}
    kept = database.kept_at_sources(tx)
    looked_at = {name for seen in hosts for name in seen.nodes}
    found: dict[str, Guest] = {}
    for server, guest in ((server, guest) for seen in hosts for server, guest in (*seen.guests.items(), *seen.others)):
        row = rows.get(server)
        if row is None:
            yield Finding("guests", f"guest {server}", f"is on {guest.node}, and there is no such server")
        elif guest.processes > 1:
            yield Finding("guests", f"server {server}", f"has {guest.processes} processes on {guest.node}")
        elif guest.node == row.host:
            found[server] = guest
        elif guest.running or (server, guest.node) not in kept:
            yield Finding("guests", f"server {server}", f"is on {row.host}, its guest on {guest.node}")
    for server, row in rows.items():
        guest_there = found.get(server)
        if row.host not in looked_at or row.vm_state not in _RUNS:
            continue
        if guest_there is None:
            yield Finding("guests", f"server {server}", f"is {row.vm_state} on {row.host}, which has no such guest")
        elif _RUNS[row.vm_state] is not None and guest_there.running != _RUNS[row.vm_state]:
            does = "runs" if guest_there.running else "does not run"
            yield Finding("guests", f"server {server}", f"is {row.vm_state}, and its guest {does}")
