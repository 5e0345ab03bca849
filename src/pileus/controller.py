"""The controller's end of a node's connection, in this same process or at the other end of a cluster connection.

What arrives here is all that a node may say or ask; each is one call to a room's public function. A node is only
given what is placed on it, and believed only about itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pileus.cloud import Cloud
from pileus.cluster import nodes as members
from pileus.cluster import peers, rights
from pileus.cluster.frames import Broken
from pileus.cluster.streams import Streams
from pileus.db.engine import Tx
from pileus.node.agent import Agent
from pileus.node.contract import (
    FACTS_EVERY,
    GuestGone,
    GuestReport,
    HypervisorFacts,
    NetworkReport,
    NodeFault,
    NodeNetwork,
    Task,
    TaskResult,
)
from pileus.web.errors import Conflict, Forbidden, Problem, Unavailable
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cluster.port import ClusterPort

_LOG = logging.getLogger("pileus.controller")
_POLL = 30.0  # `cluster.watch` looks once a second

T = TypeVar("T")


class LocalLink:
    """One node's end here. `session` is of its cluster connection; "" for a node of this very process."""

    def __init__(
        self, cloud: Cloud, node: str, *, session: str = "",
        roles: Collection[str] = ("compute", "network", "storage"),
    ) -> None:
        self.cloud = cloud
        self.node = node
        self.session = session
        self.roles = frozenset(roles)
        self._given: set[tuple[str, int]] = set()
        self._facts: HypervisorFacts | None = None
        self._told = 0.0
        self._reported = False  # over this connection
        if not session:
            cloud.heartbeats.own.add(node)

    async def run(self, work: Callable[[Tx], T], *, write: bool = True) -> T:
        """A transaction in the node's name. Raises Forbidden when this is not the node's connection any more."""

        def checked(tx: Tx) -> T:
            if self.session and not members.holds(tx, self.node, self.session):
                raise Forbidden(f"Node {self.node} was removed from this cloud, or has another connection.")
            return work(tx)

        return await self.cloud.db.run(checked, write=write)

    async def register(self, facts: HypervisorFacts) -> None:
        """The node is there, with these resources."""
        await self._register(facts, True)

    async def _register(self, facts: HypervisorFacts, first: bool) -> None:
        from pileus.compute import nodes
        from pileus.network import wiring
        from pileus.volume import backends

        def write(tx: Tx) -> None:
            if "compute" in self.roles:
                (nodes.register if first else nodes.heartbeat)(tx, self.cloud, self.node, facts)
            if "storage" in self.roles and facts.storage is not None:
                (backends.register if first else backends.heartbeat)(tx, self.cloud, self.node, facts.storage)
            wiring.heartbeat(tx, self.cloud, self.node)

        await self.run(write)
        self._facts, self._told = facts, self.cloud.world.monotonic()

    async def heartbeat(self, facts: HypervisorFacts | None = None) -> None:
        """The node still lives. What it says of itself is looked at when it has changed, and now and then."""
        now = self.cloud.world.monotonic()
        # A node at the other end counts the same seconds from a moment before.
        if facts is not None and (facts != self._facts or now - self._told > 0.9 * FACTS_EVERY):
            await self._register(facts, False)
        else:
            self.cloud.heartbeats.heard(self.node)

    async def tasks(self) -> AsyncIterator[Task]:
        """The node's tasks, each given once per connection unless it is to be tried again. Raises Forbidden."""
        place = self.cloud.bus.subscribe(self.node)
        try:
            while True:
                for task in await self._due():
                    yield task
                await place.wait(_POLL)
        finally:
            place.close()

    async def _due(self) -> list[Task]:
        """What was not given yet; a database that is away is waited for, however long that takes."""
        while True:
            now = self.cloud.world.now()
            try:
                due = await self.run(lambda tx, now=now: tasks.open_tasks(tx, self.node, now), write=False)  # type: ignore[misc]
                break
            except Forbidden:
                raise
            except Exception as error:
                _LOG.warning("the tasks of node %s cannot be looked at now: %s", self.node, error)
                await asyncio.sleep(1.0)
        fresh = [task for task in due if (task.id, task.attempt) not in self._given]
        self._given = {(task.id, task.attempt) for task in due}
        return fresh

    async def finish(self, result: TaskResult) -> None:
        """A task has ended. Raises Forbidden for one that is not this node's."""
        if result.node != self.node:
            raise Forbidden(f"Node {self.node} cannot speak for node {result.node}.")
        await self.run(lambda tx: tasks.finish(tx, self.cloud, result))

    async def guest_changed(self, report: GuestReport) -> bool:
        """A guest stopped, started or crashed by itself. True: to be told again, something is done to the server.

        Raises Forbidden when told for another node."""
        from pileus.compute import nodes

        if report.node != self.node:
            raise Forbidden(f"Node {self.node} cannot speak for node {report.node}.")

        return await self.run(lambda tx: nodes.guest_changed(tx, self.cloud, report))

    async def network_state(self) -> NodeNetwork:
        """The network as this node shall have it."""
        from pileus.network import wiring

        state = await self.run(lambda tx: wiring.node_state(tx, self.cloud, self.node), write=False)
        return state if self._reported else msgspec.structs.replace(state, report_wanted=True)

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

        await self.run(lambda tx: wiring.report(tx, self.cloud, self.node, report))
        self._reported = True

    async def image_bytes(self, image_id: str) -> AsyncIterator[bytes]:
        """An image's data. Raises Forbidden unless a guest that is placed on the node needs it."""
        from pileus.image import data

        await self._check(rights.may_read_image, image_id, "no guest of it is placed there")
        async for chunk in data.read(self.cloud, image_id):
            yield chunk

    async def image_store(self, image_id: str, file: Path) -> None:
        """A snapshot's data. Told twice it is stored once: a process may be killed before it says so.

        Raises NodeFault when the image does not take it, as one that was deleted meanwhile."""
        from pileus.image import data, images

        found = await self.run(lambda tx: images.info(tx, image_id), write=False)
        if found is not None and found.status == "active":
            return
        try:
            await data.store_file(self.cloud, image_id, file)
        except Problem as problem:
            raise NodeFault(f"the snapshot cannot be stored: {problem}") from None

    async def image_wanted(self, image_id: str) -> str:
        """Whether a snapshot's data are to be sent: "send", "had", or "wait" while an earlier try is being undone.

        Raises Forbidden for an image of no snapshot of this node's."""
        from pileus.image import images

        await self._check(rights.may_store_image, image_id, "no snapshot there is for it")
        found = await self.run(lambda tx: images.info(tx, image_id), write=False)
        if found is not None and found.status == "active":
            return "had"
        return "wait" if found is not None and found.status == "saving" else "send"

    async def image_take(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        """A snapshot's data, as they come. Raises NodeFault when the image does not take them."""
        from pileus.image import data

        try:
            await data.store_stream(self.cloud, image_id, chunks)
        except Problem as problem:
            raise NodeFault(f"the snapshot cannot be stored: {problem}") from None

    async def _check(self, may: Callable[[Tx, str, str, float], bool], image_id: str, why: str) -> None:
        now = self.cloud.world.now()
        if not await self.run(lambda tx: may(tx, self.node, image_id, now), write=False):
            raise Forbidden(f"Image {image_id} is not for node {self.node}: {why}.")

    async def metadata(
        self, network_id: str, address: str, method: str, path: str, body: bytes
    ) -> tuple[int, str, bytes]:
        """A guest's own view of itself."""
        from pileus.compute import metadata
        from pileus.network import wiring

        def answer(tx: Tx) -> tuple[int, str, bytes]:
            if not rights.may_answer_for(tx, self.node, network_id):
                raise Forbidden(f"Node {self.node} does not serve the metadata of {network_id}.")
            port = wiring.port_for_address(tx, network_id, address)
            if port is None or not port.device_id:
                return 404, "text/plain", b"404 Not Found: no server has this address here.\n"
            if method == "POST":
                return metadata.post(tx, self.cloud, port.device_id, path, body)
            return metadata.answer(tx, self.cloud, port.device_id, port, path)

        return await self.run(answer, write=method == "POST")


class LocalNodes:
    """How any node is asked something: here, through its connection, or by the controller that has that."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.agents: dict[str, Agent] = {}
        self.port: ClusterPort | None = None
        cloud.ask, cloud.stream = self.ask, self.stream

    def here(self) -> set[str]:
        """The nodes that are connected to this process."""
        return set(self.agents) | (set(self.port.sessions) if self.port is not None else set())

    async def ask(self, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """The node's answer. Raises Unavailable when it cannot be reached, Conflict when it cannot answer."""
        if node in self.here():
            return await self.ask_here(node, question, arguments)
        other = await self._elsewhere(node)
        carrier = self.cloud.bus.carrier
        if carrier is None:
            raise Unavailable(f"Node {node} is connected to controller {other}, which cannot be reached from here.")
        with _said_plainly(node, arguments):
            return await carrier.ask(other, node, question, arguments)

    async def ask_here(self, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """The same, of a node that is connected to this process."""
        with _said_plainly(node, arguments):
            if node in self.agents:
                return plain(await self.agents[node].answer(question, arguments))
            session = self.port.sessions.get(node) if self.port is not None else None
            if session is None:
                raise Unavailable(f"Node {node} is not connected to this controller; is its agent running?")
            return await session.call("ask", [question, arguments])

    async def stream(self, node: str, question: str, arguments: dict[str, Any]) -> Streams:
        """A stream of bytes both ways with the node, as a guest's screen. Raises as `ask`."""
        if node in self.here():
            return await self.stream_here(node, question, arguments)
        other = await self._elsewhere(node)
        with _said_plainly(node, arguments):
            return await peers.stream(self.cloud, other, node, question, arguments)

    async def stream_here(self, node: str, question: str, arguments: dict[str, Any]) -> Streams:
        """The same, of a node that is connected to this process."""
        with _said_plainly(node, arguments):
            if node in self.agents:
                return await asyncio.open_unix_connection(str(await self.agents[node].answer(question, arguments)))
            if self.port is None:
                raise Unavailable(f"Node {node} is not connected to this controller; is its agent running?")
            return await self.port.stream(node, question, arguments)

    async def _elsewhere(self, node: str) -> str:
        other = await self.cloud.db.run(lambda tx: members.controller_of(tx, node), write=False)
        if not other or other == self.cloud.controller:
            raise Unavailable(f"Node {node} is not connected to any controller; is its agent running?")
        return other


@contextlib.contextmanager
def _said_plainly(node: str, arguments: dict[str, Any]) -> Iterator[None]:
    """What a node or the way to it may raise, as users are told."""
    try:
        yield
    except GuestGone:
        raise Conflict(f"Server {arguments.get('server_id')} has no guest on node {node} now.") from None
    except NodeFault as fault:
        raise Conflict(str(fault)) from None
    except (Broken, TimeoutError):
        raise Unavailable(f"Node {node} did not answer.") from None
    except OSError as error:
        raise Unavailable(f"Node {node}: {error}") from None


def plain(answer: Any) -> Any:
    """An answer as it would come over a connection: structs are dicts."""
    return msgspec.to_builtins(answer, builtin_types=(bytes,))
