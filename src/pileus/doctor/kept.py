"""Whether the database says of volumes and backups what `storage` saw of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.doctor.findings import Finding, Host, Kept
from pileus.volume import states, tables, tables_rest

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_CHECK = "volumes"
_THERE = (*states.BY_ATTACHMENTS, states.MAINTENANCE, "awaiting-transfer")


def agree(tx: Tx, hosts: Sequence[Host]) -> Iterator[Finding]:
    """Each node that was looked at keeps the volumes and backups that are placed there, gives out those that are to
    be, and has nothing else."""
    nodes = {name for seen in hosts for name in seen.nodes}
    found = {(one.node, name): one for seen in hosts for name, one in seen.volumes.items()}
    rows = {(row.node, row.id): row for row in tx.all(sa.select(tables.volume)) if row.node in nodes}
    # While a migration is under way both of its volumes may be anywhere between the two nodes.
    moving = set(tx.scalars(sa.select(tables_rest.migration.c.volume_id)))
    moving |= {row.migration for row in rows.values()}
    for place, row in rows.items():
        if row.status in _THERE and row.id not in moving:
            yield from _one(row, found.get(place))
    left = {(row.node, row.id) for row in tx.all(sa.select(tables_rest.unmanaged))}
    for node, name in sorted(found.keys() - rows.keys() - left):
        if name not in moving:
            yield Finding(_CHECK, f"volume {name}", f"is kept on {node}, and there is no such volume there")
    kept = {(node, name) for seen in hosts for node, names in seen.backups.items() for name in names}
    yield from _backups(tx, nodes, kept)


def _one(row: sa.Row[tuple[object, ...]], kept: Kept | None) -> Iterator[Finding]:
    thing = f"volume {row.id}"
    if kept is None:
        yield Finding(_CHECK, thing, f"is placed on {row.node}, which does not have it")
    elif row.export is not None and row.export_key and kept.daemons != 1:
        yield Finding(_CHECK, thing, f"is to be given out by {row.node}, and {kept.daemons} daemons do it")
    elif not row.export_key and row.export is None and (kept.given_out or kept.daemons):
        yield Finding(_CHECK, thing, f"is given out by {row.node}, and nobody has it")


def _backups(tx: Tx, nodes: set[str], kept: set[tuple[str, str]]) -> Iterator[Finding]:
    rows = [row for row in tx.all(sa.select(tables_rest.backup)) if row.node in nodes]
    for row in rows:
        if row.status == "available" and (row.node, row.stored_as) not in kept:
            yield Finding(_CHECK, f"backup {row.id}", f"is placed on {row.node}, which does not have it")
    known = {(row.node, row.stored_as) for row in rows}
    for node, name in sorted(kept - known):
        yield Finding(_CHECK, f"backup {name}", f"is kept on {node}, and there is no such backup there")
