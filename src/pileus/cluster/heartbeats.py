"""Nodes' heartbeats, written together: a thousand nodes cost one transaction every few seconds."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.cluster")
EVERY = 2.0
_AT_ONCE = 500


class Heartbeats:
    """Collects who was heard of."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.own: set[str] = set()
        """The nodes of this very process, which need not have joined."""
        self._names: set[str] = set()

    def heard(self, node: str) -> None:
        """A node lives."""
        self._names.add(node)

    async def run(self) -> None:
        """Write what was collected, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Write now. What cannot be written is forgotten: who lives is heard again in time, and who died meanwhile
        would count as alive by a word of long ago."""
        names, self._names = sorted(self._names), set()
        try:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                await self.cloud.db.run(lambda tx, some=some: self._write(tx, some))  # type: ignore[misc]
        except Exception as error:
            _LOG.warning("heartbeats of %d nodes cannot be written now: %s", len(names), error)

    def _write(self, tx: Tx, names: list[str]) -> None:
        from pileus.cluster import nodes as members
        from pileus.compute import nodes
        from pileus.network import wiring
        from pileus.volume import backends

        # None of these was heard before that: a node is down 30 s after its last word, not later.
        now = self.cloud.world.now() - EVERY
        joined = set(members.seen(tx, names, now))
        # One that was removed must not be made again by its last sign of life.
        there = [name for name in names if name in joined or name in self.own]
        nodes.heartbeats(tx, there, now)
        backends.heartbeats(tx, there, now)
        wiring.heartbeats(tx, self.cloud, there)
