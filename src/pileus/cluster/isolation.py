"""A controller that has lost its database, while another has it, sends its nodes there.

Nobody would hear of them from here: they would count as down after half a minute, and be fenced, though all is well
with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pileus.cluster import peers
from pileus.cluster.channel import Channel
from pileus.cluster.frames import Hello

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.cluster.session import NodeSession

_LOG = logging.getLogger("pileus.cluster")
AFTER = 6.0
"""Seconds without the database after which the others are asked: a restart or a failover takes no longer, mostly."""
_ANSWER = 3.0
"""Seconds that another controller has for its answer, in which it asks the database itself."""
OWN_ANSWER = 2.0
"""Seconds that the database has for its own."""
HAS_IT = b"yes"


class Isolation:
    """Told by each look at the database whether it was `there` or `away`. `sessions` are the nodes connected here."""

    def __init__(self, cloud: Cloud, sessions: Mapping[str, NodeSession]) -> None:
        self.cloud, self._sessions = cloud, sessions
        self._others: dict[str, str] = {}
        self._there = cloud.world.monotonic()

    def there(self) -> None:
        """The database has answered."""
        self._there = self.cloud.world.monotonic()

    def remember(self, controllers: Mapping[str, str]) -> None:
        """Where the cluster ports are of the controllers that live: it cannot be looked up when it is needed."""
        self._others = {name: address for name, address in controllers.items() if name != self.cloud.controller}

    async def away(self) -> None:
        """The database has not answered."""
        if self.cloud.world.monotonic() - self._there < AFTER or not self._sessions:
            return
        if await self.cloud.db.answers(OWN_ANSWER):  # it is there, and all our connections are busy
            return
        for name, answer in zip(self._others, await self._ask(), strict=True):
            if answer:
                _LOG.warning(
                    "controller %s has a database and this one has none: the %d nodes connected here have to go",
                    name, len(self._sessions),
                )
                for session in list(self._sessions.values()):
                    session.close()
                return

    async def _ask(self) -> list[bool]:
        return await asyncio.gather(*(self._has_it(address) for address in self._others.values()))

    async def _has_it(self, address: str) -> bool:
        """Whether another controller has a database; no, when it cannot be asked or does not know the question."""
        try:
            async with asyncio.timeout(_ANSWER):
                line = Channel(*await peers.greet(self.cloud, address, Hello("peer")), peers.answer_nothing, _deaf)
                running = asyncio.create_task(line.run())
                try:
                    return await line.call("database") == HAS_IT
                finally:
                    line.close()
                    await running
        except Exception as error:
            _LOG.debug("controller at %s cannot be asked for its database: %s", address, error)
            return False


def _deaf(topic: str, body: bytes) -> None:
    pass
