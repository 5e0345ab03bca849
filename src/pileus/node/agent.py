"""The node agent: does its node's tasks, keeps its network as it shall be, and says that it lives.

It holds no database and no state of its own: tasks come again after a restart, guests are adopted by the hypervisor
driver, volumes by the storage driver, and the network is told whole. Tasks of one server or volume run one at a time,
in order; one that is not done by its deadline is broken off, and so is one whose server or volume is to be removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from pileus.node import servers, volumes
from pileus.node.contract import (
    GuestGone,
    GuestReport,
    HypervisorFacts,
    NetworkDriver,
    NetworkReport,
    NodeFault,
    NodeLink,
    NodeNetwork,
    ServerDone,
    Task,
    TaskResult,
    VolumeDone,
)
from pileus.node.hypervisor.protocol import Hypervisor
from pileus.node.storage.protocol import Storage
from pileus.node.withdrawal import has_services, without_services
from pileus.web import log

_LOG = logging.getLogger("pileus.node")
_HEARTBEAT = 5.0  # the sign of life that a connection needs anyway
_AT_ONCE = 8
_REMEMBERED = 10_000  # tasks
_LATE = "it was not done by its deadline"
_REMOVING = ("server.destroy", "volume.delete")
_LOOK_AT_LEASE = 1.0
_RENEW_LEASE = 8.0
_TELL_AGAIN = (0.5, 2.0, 8.0)  # seconds between attempts to tell a result


class Agent:
    """One node. `run` until cancelled; guests go on running."""

    def __init__(
        self, link: NodeLink, hypervisor: Hypervisor, network: NetworkDriver, scratch: Path,
        storage: Storage | None = None,
    ) -> None:
        self.link = link
        self.hypervisor = hypervisor
        self.network = network
        self.scratch = scratch  # a folder for files on their way
        self.storage = storage
        self._reaches: tuple[str, ...] | None = None
        self.chores: list[Callable[[], Awaitable[object]]] = []
        self.chore_pause = 600.0  # seconds
        self.look: Callable[[], Any] = lambda: None  # what the host shows of this node, for the doctor
        self.report = NetworkReport(revision=0)
        self._queues: dict[str, deque[Task]] = {}
        self._doing: dict[str, tuple[Task, asyncio.Task[TaskResult]]] = {}
        self._had: dict[tuple[str, int], None] = {}
        self._changed: dict[str, str] = {}  # guests that changed by themselves, until a controller surely knows
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self._network_wanted = 0
        self._network_done = 0
        self._network_trouble = ""
        self._network_wake = asyncio.Event()
        self._network_turn = asyncio.Condition()
        self._network_state: NodeNetwork | None = None  # as applied last
        self._reached = time.monotonic()  # when what a controller has surely heard was sent
        self._withdrawn = False
        self._said: tuple[NodeNetwork, NetworkReport] | None = None  # what was reported last, and of which state
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Start the drivers, register, and work until cancelled."""
        await self.hypervisor.start(self._guest_changed)
        try:
            # Only now is it sure that no other agent works here.
            await asyncio.to_thread(shutil.rmtree, self.scratch, ignore_errors=True)
            await self.network.start()
            if self.storage is not None:
                await self.storage.start()
            await self.link.register(await self._facts())
            self.ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heartbeats())
                group.create_task(self._keep_network())
                group.create_task(self._keep_lease())
                group.create_task(self._keep_house())
                group.create_task(self._take_tasks())
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            if self.storage is not None:
                await self.storage.stop()
            await self.network.stop()
            await self.hypervisor.stop()

    # -- tasks

    async def _take_tasks(self) -> None:
        async for task in self.link.tasks():
            if self._knows(task):
                continue
            queue = self._queues.get(task.resource)
            if queue is not None:
                queue.append(task)
                self._overtake(task)
                continue
            self._queues[task.resource] = deque([task])
            worker = asyncio.create_task(self._work(task.resource))
            self._running.add(worker)
            worker.add_done_callback(self._running.discard)

    def _knows(self, task: Task) -> bool:
        """After a connection anew, tasks come again that are waiting, being done, or done but not yet told."""
        mine = (task.id, task.attempt)
        if mine in self._had:
            return True
        self._had[mine] = None
        while len(self._had) > _REMEMBERED:
            del self._had[next(iter(self._had))]
        return False

    async def _work(self, resource: str) -> None:
        queue = self._queues[resource]
        try:
            while queue:
                task = queue[0]
                async with self._room:
                    result = await self._in_time(task)
                await self._tell(result)
                queue.popleft()
                if not result.ok and resource.startswith("server:"):
                    # Half done, perhaps: how the guest is now is told when nothing else waits.
                    self._changed.setdefault(resource.partition(":")[2], "")
        finally:
            del self._queues[resource]
        with contextlib.suppress(Exception):  # the next heartbeat tells again
            await self._tell_changed(resource.partition(":")[2])

    def _overtake(self, task: Task) -> None:
        """What is done to a server or a volume ends when that is to be removed."""
        before, doing = self._doing.get(task.resource, (None, None))
        if task.kind in _REMOVING and doing is not None and before and before.kind != task.kind:
            doing.cancel()

    async def _in_time(self, task: Task) -> TaskResult:
        """Do one task, until its deadline passes or something overtakes it."""
        left = None if task.deadline is None else task.deadline - time.time()
        if left is not None and left <= 0:
            return _broken_off(task, _LATE)
        doing = asyncio.create_task(self.perform(task))
        self._doing[task.resource] = task, doing
        try:
            done, _ = await asyncio.wait([doing], timeout=left)
            if not done:
                doing.cancel()
                await asyncio.wait([doing])
        finally:
            doing.cancel()
            del self._doing[task.resource]
        if doing.cancelled():
            late = task.deadline is not None and time.time() >= task.deadline
            what = "volume is to be deleted" if task.kind.startswith("volume.") else "server is to be destroyed"
            why = _LATE + self._network_trouble if late else f"the {what}"
            return _broken_off(task, why)
        return doing.result()

    async def _tell(self, result: TaskResult) -> None:
        """Tell a task's end; one that no controller takes is left to its deadline, so that the next task can run."""
        for pause in (*_TELL_AGAIN, None):
            try:
                return await self.link.finish(result)
            except Exception:
                _LOG.exception("the result of task %s was not taken", result.task_id)
                if pause is not None:
                    await asyncio.sleep(pause)
        return None

    async def perform(self, task: Task) -> TaskResult:
        """Do one task; whatever goes wrong is in the result."""
        log.request_id.set(task.request_id or task.id)
        try:
            done: ServerDone | VolumeDone
            if task.kind.startswith("volume."):
                done = await volumes.perform(self, task)
            else:
                done = await servers.perform(self, task)
        except (NodeFault, GuestGone) as error:
            _LOG.warning("%s of %s failed: %s", task.kind, task.resource, error)
            return TaskResult(task_id=task.id, node=task.node, ok=False, error=str(error) or "The guest is gone.")
        except Exception as error:
            _LOG.exception("%s of %s failed", task.kind, task.resource)
            return TaskResult(task_id=task.id, node=task.node, ok=False, error=f"{type(error).__name__}: {error}")
        return TaskResult(task_id=task.id, node=task.node, ok=True, value=msgspec.Raw(msgspec.json.encode(done)))

    async def answer(self, question: str, arguments: dict[str, Any]) -> Any:
        """What a controller asks of this node, or has done once and at once. Raises NodeFault, GuestGone."""
        if question == "uptime":
            return await self.hypervisor.uptime()
        if question == "inventory":
            return await asyncio.to_thread(self.look)
        if question == "log_levels":
            return log.levels(arguments["prefix"])
        if question == "set_log_levels":
            return log.set_levels(arguments["prefix"], arguments["level"])
        server_id = arguments["server_id"]
        if question == "console_log":
            return await self.hypervisor.console_log(server_id, arguments.get("lines"))
        if question == "vnc_socket":
            return str(await self.hypervisor.vnc_socket(server_id))
        if question == "serial_socket":
            return str(await self.hypervisor.serial_socket(server_id))
        if question == "diagnostics":
            return await self.hypervisor.diagnostics(server_id)
        if question == "guest":
            return await self.hypervisor.guest(server_id)
        if question == "set_password":
            return await self.hypervisor.set_password(server_id, arguments["user"], arguments["password"])
        if question == "inject_nmi":
            return await self.hypervisor.inject_nmi(server_id)
        if question == "move_progress":
            return await self.hypervisor.move_progress(server_id)
        if question == "abort_move":
            return await self.hypervisor.abort_move(server_id)
        if question == "force_move":
            return await self.hypervisor.force_move(server_id)
        raise NodeFault(f"nodes cannot answer '{question}'")

    async def _guest_changed(self, server_id: str, power: str) -> None:
        self._changed[server_id] = power
        if f"server:{server_id}" in self._queues:
            return  # while something is done to the server a report does not count: it is made after that
        await self._tell_changed(server_id)

    async def _tell_changed(self, server_id: str) -> None:
        """Report a guest that changed by itself, as it is now. It is forgotten once the report was taken."""
        before = self._changed.get(server_id)
        if before is None:
            return
        with contextlib.suppress(GuestGone):
            power = (await self.hypervisor.guest(server_id)).power
            if await self.link.guest_changed(GuestReport(node=self.link.node, server_id=server_id, power=power)):
                return  # something is done to the server: again later
        if self._changed.get(server_id) == before:
            del self._changed[server_id]

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT)
            try:
                await self.link.heartbeat(await self._facts())
                for server_id in list(self._changed):
                    await self._tell_changed(server_id)
            except (ConnectionError, TimeoutError) as error:
                _LOG.warning("heartbeat failed: %s", error)
            except Exception:
                _LOG.exception("heartbeat failed; the next one is due in %s s", _HEARTBEAT)

    async def _keep_house(self) -> None:
        """Now and then, what nobody waits for."""
        while self.chores:
            await asyncio.sleep(self.chore_pause)
            for chore in self.chores:
                try:
                    await chore()
                except Exception:
                    _LOG.exception("a chore of this node failed; the next try is in %.0f s", self.chore_pause)

    # -- network

    def network_changed(self) -> None:
        """The node's network shall be looked at again."""
        self._network_wanted += 1
        self._network_wake.set()

    async def network_now(self) -> NetworkReport:
        """Bring the network to what the controller says now, and say what came of it."""
        self.network_changed()
        mine = self._network_wanted
        async with self._network_turn:
            await self._network_turn.wait_for(lambda: self._network_done >= mine)
        return self.report

    async def _keep_network(self) -> None:
        watcher = asyncio.create_task(self._watch_network())
        try:
            while True:
                wanted = self._network_wanted
                try:
                    withdrawn = self._withdrawn
                    if withdrawn:
                        await self._report_network()  # first: what is served again must not be moved away at once
                    state = await self.link.network_state()
                    self.report = await self.network.apply(state)
                    self._network_state, self._withdrawn = state, False
                    if withdrawn or state.report_wanted or self._said != _without_revision(state, self.report):
                        await self._report_network()
                    self._network_trouble = ""
                except Exception as error:
                    self._network_trouble = f"; this node's network could not be changed: {error}"
                    expected = isinstance(error, ConnectionError | TimeoutError)
                    _LOG.warning(
                        "the network could not be brought up to date; next try in 2 s: %s", error,
                        exc_info=None if expected else error,
                    )
                    await asyncio.sleep(2.0)
                    if self._network_wanted == wanted:
                        continue
                async with self._network_turn:
                    self._network_done = wanted
                    self._network_turn.notify_all()
                if self._network_wanted == wanted:
                    self._network_wake.clear()
                    await self._network_wake.wait()
                    await asyncio.sleep(self.network.settle)
        finally:
            watcher.cancel()

    async def _facts(self) -> HypervisorFacts:
        """What the node says of itself: the hypervisor's facts, the storage's, and which physical networks it was found
        to reach."""
        self._reaches = self.report.physical_networks
        storage = None if self.storage is None else await self.storage.facts()
        return msgspec.structs.replace(
            await self.hypervisor.facts(), physical_networks=self._reaches, storage=storage
        )

    async def _report_network(self) -> None:
        """Say how the network is. What counts for the lease is when that was said: it was surely heard after that."""
        sent = time.monotonic()
        state, report = self._network_state, self.report
        await self.link.network_report(report)
        self._reached, self._said = sent, None if state is None else _without_revision(state, report)
        if self.report.physical_networks != self._reaches:
            await self.link.heartbeat(await self._facts())

    async def _keep_lease(self) -> None:
        """Have a controller hear of this node again and again as long as it serves what may be moved, and give that up
        when none does for too long. A heartbeat does not do: nobody answers it."""
        while True:
            await asyncio.sleep(_LOOK_AT_LEASE)
            state = self._network_state
            if state is None or not state.lease or self._withdrawn or not has_services(state):
                continue
            try:
                if time.monotonic() - self._reached > _RENEW_LEASE:
                    with contextlib.suppress(Exception):
                        await asyncio.wait_for(self._report_network(), _RENEW_LEASE / 2)
                if time.monotonic() - self._reached > state.lease:
                    await self.withdraw_services()
            except Exception:
                _LOG.exception("routers and DHCP could not be withdrawn; next try in %s s", _LOOK_AT_LEASE)

    async def withdraw_services(self) -> None:
        """Stop the routers and DHCP servers of this node; its guests' own network goes on. They come back with the
        next state that a controller gives."""
        state = self._network_state
        if state is None:
            return
        _LOG.warning(
            "no controller was reached for %.0f s: routers and DHCP are withdrawn; another node may have them by now",
            time.monotonic() - self._reached,
        )
        self.report = await self.network.apply(without_services(state))
        self._withdrawn = True
        self.network_changed()

    async def _watch_network(self) -> None:
        async for _ in self.link.network_changes():
            self.network_changed()


def _without_revision(state: NodeNetwork, report: NetworkReport) -> tuple[NodeNetwork, NetworkReport]:
    """What is compared: a revision counts the changes of the whole cloud, and few of them concern one node."""
    return (
        msgspec.structs.replace(state, revision=0, report_wanted=False), msgspec.structs.replace(report, revision=0)
    )


def _broken_off(task: Task, why: str) -> TaskResult:
    return TaskResult(task_id=task.id, node=task.node, ok=False, error=f"{task.kind} was broken off: {why}")
