"""The cloud as one object: settings, world, database, policy, bus, and the rooms with what each brings."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileus.auth.context import Context
from pileus.auth.policy import Policy
from pileus.cluster.heartbeats import Heartbeats
from pileus.db import fate
from pileus.db.engine import Database, Tx
from pileus.settings import Settings
from pileus.web.errors import Unavailable
from pileus.web.metrics import Metrics
from pileus.web.routes import Service
from pileus.work import tasks
from pileus.work.bus import Bus
from pileus.work.periodic import Periodic
from pileus.world import World

if TYPE_CHECKING:
    from pileus.node.contract import Task, TaskResult
    from pileus.web.call import Call

ROOMS = ("identity", "image", "volume", "placement", "network", "compute", "ec2")
"""Every service folder, in the order in which they are set up."""

ResultHandler = Callable[[Tx, "Cloud", "Task", "TaskResult"], None]
Job = Callable[["Cloud", "Task"], Awaitable[Any]]
NodeCall = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
NodeStream = Callable[
    [str, str, dict[str, Any]], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
]
Verifier = Callable[[Tx, str, "Call"], Context]


@dataclass(frozen=True)
class Room:
    """What a service folder brings; each has one as `ROOM` in its `room.py`."""

    service: Service
    bootstrap: Callable[[Tx, Cloud], None] | None = None
    """Makes what must exist before the first request. Runs at every start, so it only adds what is missing."""
    results: Mapping[str, ResultHandler] = field(default_factory=dict)
    """What a node's result changes, by task kind, in the transaction that finishes the task."""
    jobs: Mapping[str, Job] = field(default_factory=dict)
    """Tasks that a controller does itself (node ""), by kind; the returned value is the result."""
    periodic: tuple[Periodic, ...] = ()
    background: tuple[Callable[[Cloud], Awaitable[None]], ...] = ()
    """What each controller does for itself as long as it runs."""


def has_module(name: str) -> bool:
    """Whether there is such a module; its parents may be missing too."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class Cloud:
    """Made once per process, and once per test."""

    def __init__(self, settings: Settings, world: World | None = None, rooms: tuple[str, ...] = ROOMS) -> None:
        self.settings = settings
        self.world = world or World()
        self.db = Database(
            settings.database_url, pool_size=settings.database_pool, synchronous=settings.database_synchronous,
            patience=settings.database_wait,
        )
        self.bus = Bus()
        self.metrics = Metrics()
        self.rooms: dict[str, Room] = {
            name: importlib.import_module(f"pileus.{name}.room").ROOM
            for name in rooms
            if has_module(f"pileus.{name}.room")
        }
        self.policy = Policy({k: v for room in self.rooms.values() for k, v in room.service.rules.items()})
        self.results = {k: v for room in self.rooms.values() for k, v in room.results.items()}
        self.jobs = {k: v for room in self.rooms.values() for k, v in room.jobs.items()}
        self.verify_token: Verifier = _no_verifier
        self.ask: NodeCall = _no_node
        """Ask a node something and wait for the answer: `await cloud.ask(node, "console_log", {…})`. For questions
        only; whatever changes something is a task. Structs in the answer are dicts. Raises Unavailable when the node
        does not answer, Conflict when it cannot."""
        self.stream: NodeStream = _no_node
        """The same for bytes both ways: reader and writer."""
        self.controller = settings.node_name or socket.gethostname().split(".")[0]
        """This controller's name among all."""
        self.heartbeats = Heartbeats(self)
        self.memory: dict[str, Any] = {}
        """What rooms keep in this process only (caches), by room name; never the truth."""

    def open(self) -> None:
        """Bring the schema to date and make what must exist. Blocks; call before serving."""
        from pileus.db.migrate import upgrade

        upgrade(self.db)
        if self.settings.policy_file:
            self.policy.override(Path(self.settings.policy_file))
        for room in self.rooms.values():
            if room.bootstrap:
                self.db.run_sync(functools.partial(self._bootstrap, room.bootstrap))
        self.db.run_sync(functools.partial(self._bootstrap, tasks.keep_clock))

    def _bootstrap(self, bootstrap: Callable[[Tx, Cloud], None], tx: Tx) -> None:
        tx.serialize("bootstrap")  # controllers that start at once must not both make what is missing
        bootstrap(tx, self)

    @property
    def cluster_folder(self) -> Path:
        """Where this controller's key and certificate are."""
        return self.settings.state / "cluster"

    @property
    def served(self) -> list[Service]:
        """The services of this controller, as the setting `services` says."""
        wanted = self.settings.services
        return [room.service for name, room in self.rooms.items() if not wanted or name in wanted]

    @property
    def periodic(self) -> tuple[Periodic, ...]:
        """All periodic jobs, the kernel's own included."""
        own = (Periodic("tasks.expire", 5.0, tasks.expire), Periodic("db.slots", 3600.0, fate.forget))
        return own + tuple(job for room in self.rooms.values() for job in room.periodic)

    def close(self) -> None:
        self.db.close()

    async def run_jobs(self, owner: str) -> None:
        """Do the controllers' own tasks, for ever."""
        from pileus.work import jobs

        own = [work(self) for room in self.rooms.values() for work in room.background]
        await asyncio.gather(*own, jobs.run(self, owner))


def _no_verifier(tx: Tx, token: str, call: Call) -> Context:
    raise RuntimeError("no room verifies tokens: the identity room is not loaded")


async def _no_node(node: str, question: str, arguments: dict[str, Any]) -> Any:
    raise Unavailable(f"Node {node} is not connected to this controller.")
