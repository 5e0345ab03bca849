"""The ledger of the scheduler: why each server came to its node, or to none. `pileus explain` reads it.

A choice is written with it, in its transaction: which of the nodes that were looked at would not do, and how the best
of the others weighed. Where no node would do, all nodes are asked why (`diagnosis`), which is done for failures only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute.tables import decision

if TYPE_CHECKING:
    from pileus.db.engine import Tx

KEPT = 5
"""How many decisions are remembered of each server, the newest ones."""

EXAMPLES = 3
NAMED = 20
"""As many nodes are all named; of more only examples are kept."""


class Refused(msgspec.Struct, array_like=True):
    """Nodes that one filter refused. `summary` says it of many; `examples` are nodes, each with why."""

    by: str
    summary: str
    count: int
    examples: list[tuple[str, str]]


class Weighed(msgspec.Struct, array_like=True):
    """A node that would do: its weight, and what of it comes from which weigher."""

    node: str
    weight: float
    parts: dict[str, float]


class Record(msgspec.Struct, omit_defaults=True):
    """One decision. `looked_at` counts the nodes that were asked; not `complete`: those with the most free, of more."""

    action: str
    wanted: str
    looked_at: int = 0
    complete: bool = False
    refused: list[Refused] = []
    fitting: int = 0
    weighed: list[Weighed] = []
    note: str = ""


class Decision(msgspec.Struct):
    """A decision as it is remembered. `host` is None where no node would do."""

    host: str | None
    created: float
    record: Record


class Tally:
    """Refusals, counted as they come."""

    def __init__(self, nodes: int) -> None:
        self._most = nodes if nodes <= NAMED else EXAMPLES
        self._found: dict[str, Refused] = {}

    def add(self, by: str, summary: str, node: str, why: str) -> None:
        """One node that will not do."""
        one = self._found.get(summary)
        if one is None:
            one = self._found[summary] = Refused(by, summary, 0, [])
        one.count += 1
        if len(one.examples) < self._most:
            one.examples.append((node, why))

    def all(self) -> list[Refused]:
        """The commonest first."""
        return sorted(self._found.values(), key=lambda one: -one.count)


_OF_SERVER = sa.select(decision).where(decision.c.server_id == sa.bindparam("s")).order_by(decision.c.id.desc())
_IDS = (
    sa.select(decision.c.id, decision.c.host, decision.c.action).where(decision.c.server_id == sa.bindparam("s"))
    .order_by(decision.c.id.desc())
)
_DROP = decision.delete().where(decision.c.id.in_(sa.bindparam("ids", expanding=True)))
_NEW = decision.insert()


def write(tx: Tx, server_id: str, host: str | None, record: Record, now: float) -> None:
    """Remember one more decision of a server; only the last few are kept, and of the same failure only the last."""
    if record.action != "create":
        there = tx.all(_IDS, {"s": server_id})
        old = [row.id for row in there[KEPT - 1 :]]
        if host is None and there and there[0].host is None and there[0].action == record.action:
            old.append(there[0].id)
        if old:
            tx.execute(_DROP, {"ids": old})
    values: dict[str, Any] = {
        "server_id": server_id, "action": record.action, "host": host, "record": record, "created": now,
    }
    tx.execute(_NEW, values)


def of(tx: Tx, server_id: str) -> list[Decision]:
    """What is remembered of a server, the newest first."""
    return [
        Decision(row.host, row.created, msgspec.convert(row.record, Record))
        for row in tx.all(_OF_SERVER, {"s": server_id})
    ]
