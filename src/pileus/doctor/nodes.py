"""The nodes that are elsewhere: asked through the controller of this machine what they show."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from pileus.cluster import control
from pileus.doctor import database
from pileus.doctor.findings import Finding, Host
from pileus.network import tables as network
from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.settings import Settings

_AT_ONCE = 32


async def look_at(settings: Settings, names: Sequence[str]) -> tuple[list[Host], dict[str, str]]:
    """What each node shows, and of those that do not answer, why."""
    seen: list[Host] = []
    silent: dict[str, str] = {}
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        async with room:
            try:
                answer = await control.ask(settings, name, "inventory", {})
                seen.append(msgspec.convert(answer, Host))
            except Problem as problem:
                silent[name] = str(problem)

    await asyncio.gather(*(one(name) for name in names))
    return seen, silent


def silent(tx: Tx, names: Mapping[str, str]) -> Iterator[Finding]:
    """A node that does not answer was not judged, also when nothing is placed there: it may have what it shall not."""
    for name, why in names.items():
        servers = sum(1 for row in database.servers(tx) if row.host == name)
        routers = len(tx.scalars(sa.select(network.router.c.id).where(network.router.c.node == name)))
        yield Finding("nodes", f"node {name}", f"was not judged ({servers} servers, {routers} routers): {why}")
