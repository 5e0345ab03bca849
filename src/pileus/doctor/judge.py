"""All checks together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.engine import Tx
from pileus.doctor import database, host, network
from pileus.doctor.findings import Finding, Guest, Host
from pileus.node.contract import NodeFault
from pileus.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNS = {"active": True, "paused": True, "rescued": True, "stopped": False, "suspended": False, "resized": None}
"""Whether a server's guest runs, by vm_state; None: either. States that are missing say nothing of a guest."""
_AGAIN = 0.25


class NoCloud(Exception):
    """There is nothing to judge; says why."""


def judge(settings: Settings) -> list[Finding]:
    """Everything that disagrees now; empty when all is well. Raises NoCloud.

    Of a cloud that works meanwhile only what is found twice counts: host and database are not read at one moment."""
    found = _once(settings)
    if all(finding.check == "unsettled" for finding in found):
        return found
    again = set(_once(settings))
    return [finding for finding in found if finding in again]


def settled(settings: Settings, seconds: float) -> list[Finding]:
    """The findings once nothing is being done any more, or after `seconds`, whichever comes first. Raises NoCloud."""
    until = time.monotonic() + seconds
    while True:
        found = judge(settings)
        if not found or time.monotonic() > until:
            return found
        time.sleep(_AGAIN)


def _once(settings: Settings) -> list[Finding]:
    # The host first: what is made after that is not judged.
    try:
        seen = host.look(settings)
    except (OSError, NodeFault) as error:
        raise NoCloud(f"this host cannot be looked at: {error}; where guests are real that takes root") from None
    return _read(settings, lambda tx: list(_all(tx, seen)))


def _read(settings: Settings, work: Callable[[Tx], list[Finding]]) -> list[Finding]:
    """`work` on the database as it is at one moment, opened so that nothing can be changed."""
    url = sa.make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        from pileus.db.engine import Database

        remote = Database(settings.database_url, pool_size=1)
        try:
            return remote.run_sync(work, write=False)
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


def _all(tx: Tx, seen: Host) -> Iterator[Finding]:
    yield from database.unsettled(tx)
    yield from database.tasks(tx)
    yield from database.states(tx)
    yield from database.allocations(tx)
    yield from network.ports(tx)
    yield from network.floating_ips(tx)
    yield from network.security_groups(tx)
    yield from database.images(tx, seen.images, seen.staged)
    yield from _guests(tx, seen.nodes, seen.guests)
    if seen.cache is not None:
        yield from database.cache(tx, seen.nodes, set(seen.guests), seen.cache)
    if seen.carried is not None:
        yield from network.carried(tx, seen, seen.carried)


def _guests(tx: Tx, nodes: tuple[str, ...], guests: dict[str, Guest]) -> Iterator[Finding]:
    rows = {row.id: row for row in database.servers(tx)}
    for server in guests.keys() - rows.keys():
        yield Finding("guests", f"guest {server}", f"is on {guests[server].node}, and there is no such server")
    for server, row in rows.items():
        guest = guests.get(server)
        if guest is not None and guest.processes > 1:
            yield Finding("guests", f"server {server}", f"has {guest.processes} processes")
        elif guest is not None and guest.node != row.host:
            yield Finding("guests", f"server {server}", f"is on {row.host}, its guest on {guest.node}")
        elif row.host not in nodes or row.vm_state not in _RUNS:
            continue
        elif guest is None:
            yield Finding("guests", f"server {server}", f"is {row.vm_state} on {row.host}, which has no such guest")
        elif _RUNS[row.vm_state] is not None and guest.running != _RUNS[row.vm_state]:
            does = "runs" if guest.running else "does not run"
            yield Finding("guests", f"server {server}", f"is {row.vm_state}, and its guest {does}")
