"""The controller's end of a node's connection, for a node in this same process.

What arrives here is all that a node may say or ask; each is one call to a room's public function. A node is only
given what is placed on it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.node.agent import Agent
from pileus.node.contract import (
    GuestGone,
    GuestReport,
    HypervisorFacts,
    NetworkReport,
    NodeFault,
    NodeNetwork,
    Task,
    TaskResult,
)
from pileus.web.errors import Conflict, Problem, Unavailable
from pileus.work import tasks

_LOG = logging.getLogger("pileus.controller")
_POLL = 5.0


class LocalLink:
    """A node in this process."""

    def __init__(self, cloud: Cloud, node: str) -> None:
        self.cloud = cloud
        self.node = node
        self._given: set[str] = set()

    async def register(self, facts: HypervisorFacts) -> None:
        """The node is there, with these resources."""
        from pileus.compute import nodes

        await self.cloud.db.run(lambda tx: nodes.register(tx, self.cloud, self.node, facts))

    async def heartbeat(self, facts: HypervisorFacts | None = None) -> None:
        """The node still lives."""
        from pileus.compute import nodes
        from pileus.network import wiring

        def beat(tx: Tx) -> None:
            nodes.heartbeat(tx, self.cloud, self.node, facts)
            wiring.heartbeat(tx, self.cloud, self.node)

        await self.cloud.db.run(beat)

    async def tasks(self) -> AsyncIterator[Task]:
        """The node's tasks, each given once per connection unless it is to be tried again."""
        place = self.cloud.bus.subscribe(self.node)
        try:
            while True:
                now = self.cloud.world.now()
                due = await self.cloud.db.run(
                    lambda tx, now=now: tasks.open_tasks(tx, self.node, now),  # type: ignore[misc]
                    write=False,
                )
                for task in due:
                    if task.id not in self._given:
                        self._given.add(task.id)
                        yield task
                await place.wait(_POLL)
        finally:
            place.close()

    async def finish(self, result: TaskResult) -> None:
        """A task has ended."""
        await self.cloud.db.run(lambda tx: tasks.finish(tx, self.cloud, result))
        self._given.discard(result.task_id)

    async def guest_changed(self, report: GuestReport) -> bool:
        """A guest stopped, started or crashed by itself. True: to be told again, something is done to the server."""
        from pileus.compute import nodes

        return await self.cloud.db.run(lambda tx: nodes.guest_changed(tx, self.cloud, report))

    async def network_state(self) -> NodeNetwork:
        """The network as this node shall have it."""
        from pileus.network import wiring

        return await self.cloud.db.run(lambda tx: wiring.node_state(tx, self.cloud, self.node), write=False)

    async def network_changes(self) -> AsyncIterator[None]:
        """Yields when the node's network may have changed, and once a minute in case a wake was lost."""
        place = self.cloud.bus.subscribe(f"net:{self.node}")
        try:
            while True:
                await place.wait(60.0)
                yield
        finally:
            place.close()

    async def network_report(self, report: NetworkReport) -> None:
        """What came of the last state."""
        from pileus.network import wiring

        await self.cloud.db.run(lambda tx: wiring.report(tx, self.cloud, self.node, report))

    async def image_bytes(self, image_id: str) -> AsyncIterator[bytes]:
        """An image's data."""
        from pileus.image import data

        async for chunk in data.read(self.cloud, image_id):
            yield chunk

    async def image_store(self, image_id: str, file: Path) -> None:
        """A snapshot's data. Told twice it is stored once: a process may be killed before it says so.

        Raises NodeFault when the image does not take it, as one that was deleted meanwhile."""
        from pileus.image import data, images

        found = await self.cloud.db.run(lambda tx: images.info(tx, image_id), write=False)
        if found is not None and found.status == "active":
            return
        try:
            await data.store_file(self.cloud, image_id, file)
        except Problem as problem:
            raise NodeFault(f"the snapshot cannot be stored: {problem}") from None

    async def metadata(
        self, network_id: str, address: str, method: str, path: str, body: bytes
    ) -> tuple[int, str, bytes]:
        """A guest's own view of itself."""
        from pileus.compute import metadata
        from pileus.network import wiring

        def answer(tx: Tx) -> tuple[int, str, bytes]:
            port = wiring.port_for_address(tx, network_id, address)
            if port is None or not port.device_id:
                return 404, "text/plain", b"404 Not Found: no server has this address here.\n"
            if method == "POST":
                return metadata.post(tx, self.cloud, port.device_id, path, body)
            return metadata.answer(tx, self.cloud, port.device_id, port, path)

        return await self.cloud.db.run(answer, write=method == "POST")


class LocalNodes:
    """The nodes of this process, and how to ask them something."""

    def __init__(self, cloud: Cloud) -> None:
        self.agents: dict[str, Agent] = {}
        cloud.ask = self.ask

    async def ask(self, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """The node's answer. Raises Unavailable when it is not here, Conflict when it cannot answer."""
        agent = self.agents.get(node)
        if agent is None:
            raise Unavailable(f"Node {node} is not connected to this controller; is its agent running?")
        try:
            return await agent.answer(question, arguments)
        except GuestGone:
            raise Conflict(f"Server {arguments.get('server_id')} has no guest on node {node} now.") from None
        except NodeFault as fault:
            raise Conflict(str(fault)) from None
