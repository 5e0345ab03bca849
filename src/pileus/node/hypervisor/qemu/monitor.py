"""One QMP connection: commands, descriptors, and the events of a guest."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate

from pileus.node.contract import NodeFault

Event = dict[str, Any]


DISCONNECT_TIMEOUT = 5.0
"""Seconds for what is under way to reach a QEMU that may not read any more."""


class QmpError(NodeFault):
    """QEMU refused a command."""

    def __init__(self, command: str, kind: str, reason: str) -> None:
        super().__init__(f"QEMU refused {command}: {reason}")
        self.kind = kind  # QMP's error class: DeviceNotFound, GenericError …
        self.reason = reason


class MonitorGone(NodeFault):
    """The connection to QEMU is no more, or QEMU does not answer."""


class Monitor:
    """The QMP connection to what `name` says. `on_event` and `on_close` are called in the event loop and must not
    block."""

    def __init__(
        self,
        name: str,
        on_event: Callable[[Monitor, str, Event], None],
        on_close: Callable[[Monitor], None],
        answer_timeout: float = 30.0,
    ) -> None:
        self._client = QMPClient(name)
        self._name = name
        self._on_event = on_event
        self._on_close = on_close
        self._timeout = answer_timeout
        self._waiting: list[tuple[Callable[[str, Event], bool], asyncio.Future[Event]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._letting_go = False
        self._end: asyncio.Task[None] | None = None

    async def connect(self, path: Path, within: float) -> None:
        """Connect and wait so many seconds for QEMU's greeting. Raises MonitorGone."""
        try:
            await asyncio.wait_for(self._client.connect(str(path)), within)
        except (QMPError, OSError, TimeoutError) as error:
            await self._disconnect()
            raise MonitorGone(f"{self._name}: QEMU does not answer on {path}: {error}") from error
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch())]

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run a QMP command; `_` in the names of arguments stands for `-`, but in those QMP spells with `_`.

        Raises QmpError if it is refused, MonitorGone if no answer comes."""
        named = {key if key in UNDERSCORED else key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return await asyncio.wait_for(self._client.execute(command, named or None), self._timeout)
        except ExecuteError as error:
            raise QmpError(command, error.error_class, str(error)) from error
        except TimeoutError:
            raise MonitorGone(f"{self._name}: QEMU took over {self._timeout:.0f} s for {command}") from None
        except (QMPError, OSError, EOFError) as error:
            raise MonitorGone(f"{self._name}: QEMU ended during {command}") from error

    async def send_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of a descriptor under a name (getfd)."""
        self._send(fd)
        await self.execute("getfd", fdname=name)

    async def add_fd(self, fd: int, fdset: int) -> str:
        """Give QEMU a copy of a descriptor as a file it can open: returns the file's name."""
        self._send(fd)
        await self.execute("add-fd", fdset_id=fdset)
        return f"/dev/fdset/{fdset}"

    def _send(self, fd: int) -> None:
        # qemu.qmp's own way needs asyncio's socket object; under uvloop there is only the descriptor.
        writer = self._client._writer
        if writer is None or self._client.runstate != Runstate.RUNNING:
            raise MonitorGone(f"{self._name}: QEMU is not connected")
        shared = socket.socket(fileno=os.dup(writer.transport.get_extra_info("socket").fileno()))
        with shared:
            message = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            shared.sendmsg([b" "], message)

    @contextlib.asynccontextmanager
    async def expect(self, matches: Callable[[str, Event], bool]) -> AsyncIterator[asyncio.Future[Event]]:
        """A future of the first event that matches from now on: enter this before the command that causes it.

        It gets MonitorGone when the connection ends."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        entry = (matches, future)
        self._waiting.append(entry)
        try:
            yield future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            if future.done() and not future.cancelled():
                future.exception()
            future.cancel()

    @property
    def connected(self) -> bool:
        return bool(self._client.runstate == Runstate.RUNNING)

    async def close(self) -> None:
        """Let go of the connection; QEMU goes on, and `on_close` is not called."""
        self._letting_go = True
        await self._disconnect()
        for task in self._tasks:
            task.cancel()
        self._fail_waiting()

    async def _disconnect(self) -> None:
        """Once, whoever asks first and whoever gives up: the library's own does not bear being cancelled."""
        if self._end is None:
            self._end = asyncio.create_task(self._client.disconnect())
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.shield(self._end), DISCONNECT_TIMEOUT)

    async def _pump(self) -> None:
        async for message in self._client.events:
            self._dispatch(str(message["event"]), cast(Event, message.get("data") or {}))

    def _dispatch(self, name: str, data: Event) -> None:
        for entry in [entry for entry in self._waiting if entry[0](name, data)]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(data)
        self._on_event(self, name, data)

    async def _watch(self) -> None:
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()
        await self._disconnect()
        self._tasks[0].cancel()
        for message in self._client.events.clear():
            self._dispatch(str(message["event"]), cast(Event, message.get("data") or {}))
        self._fail_waiting()
        if not self._letting_go:
            self._on_close(self)

    def _fail_waiting(self) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(MonitorGone(f"{self._name}: QEMU ended"))
        self._waiting.clear()


UNDERSCORED = frozenset({"host_mtu"})
"""Arguments, of the commands used here, that QMP itself spells with an underscore."""
