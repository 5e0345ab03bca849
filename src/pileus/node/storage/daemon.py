"""The process that gives out one volume: started apart from this one, found again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu import ports, process
from pileus.node.hypervisor.qemu.files import own
from pileus.node.hypervisor.qemu.listeners import listen
from pileus.node.hypervisor.qemu.monitor import Event, Monitor
from pileus.node.hypervisor.qemu.process import ProcessId
from pileus.node.storage.files import Record, VolumeFiles
from pileus.node.storage.place import Place
from pileus.threads import to_its_end

NODE = "volume"  # the daemon's name of the disk


class Daemon:
    """One qemu-storage-daemon with its monitor. `on_end` is called in the event loop when it has ended by itself."""

    def __init__(self, place: Place, volume_id: str, files: VolumeFiles, on_end: Callable[[], None]) -> None:
        self._place = place
        self._volume_id = volume_id
        self._files = files
        self._on_end = on_end
        self._process: ProcessId | None = None
        self._monitor: Monitor | None = None

    @property
    def running(self) -> bool:
        """Whether it runs and answers."""
        return self._monitor is not None and self._process is not None and process.alive(self._process)

    def monitor(self) -> Monitor:
        """Its monitor. Raises NodeFault if it does not run."""
        if self._monitor is None:
            raise NodeFault(f"the daemon that gives out volume {self._volume_id} does not answer: try again")
        return self._monitor

    async def open(self, record: Record) -> bool:
        """Have it running: the one that an earlier agent started, else a new one. Whether it is a new one.

        One that runs is what the record says: it is ended before the record says anything else. Raises NodeFault."""
        if self.running:
            return False
        await self._let_go()
        found = await asyncio.to_thread(self._find)
        fresh = len(found) != 1
        if fresh:
            await self._end(found)
            found = [await to_its_end(self._launch, record)]
        self._process = found[0]
        name = f"the daemon of volume {self._volume_id}"
        monitor = Monitor(name, _ignore, self._closed, self._place.settings.answer_timeout)
        try:
            await monitor.connect(self._files.qmp, self._place.settings.start_timeout)
        except BaseException:
            await asyncio.shield(monitor.close())
            raise
        self._monitor = monitor
        return fresh

    async def close(self) -> None:
        """End it in its own orderly way, by force if that takes too long. Raises NodeFault if it cannot be ended."""
        monitor, running = self._monitor, self._process
        if monitor is not None:
            self._monitor = None
            with contextlib.suppress(NodeFault):
                await monitor.execute("quit")
            await monitor.close()
            if running is not None:
                await process.ended(running, self._place.settings.quit_timeout)
        await self.kill()

    async def kill(self) -> None:
        """End it, and any other that gives out this volume, at once. Raises NodeFault if that cannot be."""
        await self._let_go()
        self._process = None
        await self._end(await asyncio.to_thread(self._find))

    async def let_go(self) -> None:
        """It goes on without us."""
        await self._let_go()

    async def _let_go(self) -> None:
        if self._monitor is not None:
            monitor, self._monitor = self._monitor, None
            await monitor.close()

    def _find(self) -> list[ProcessId]:
        pids = process.find({self._files.marker}).get(self._files.marker, [])
        return [found for found in map(process.identify, pids) if found is not None]

    async def _end(self, found: list[ProcessId]) -> None:
        for each in found:
            process.kill(each)
        for each in found:
            if not await process.ended(each, self._place.settings.quit_timeout):
                raise NodeFault(f"process {each.pid}, which gives out volume {self._volume_id}, cannot be ended")

    def _closed(self, monitor: Monitor) -> None:
        if monitor is self._monitor:
            self._monitor = None
            self._on_end()

    def _launch(self, record: Record) -> ProcessId:
        files, settings = self._files, self._place.settings
        files.ready.parent.mkdir(mode=0o700, exist_ok=True)
        own(files.ready.parent, self._place.who)
        files.ready.unlink(missing_ok=True)
        listening = ports.bind(settings.host, record.port)
        if listening is None:
            raise NodeFault(f"port {record.port} of volume {self._volume_id} is taken by another program: end that")
        with listening, listen(files.qmp) as monitor:
            fds = [listening.fileno(), monitor.fileno()]
            argv = self._argv(record, *fds)
            started = process.launch(argv, fds, self._place.who, files.log)
        until = time.monotonic() + settings.start_timeout
        while not files.ready.exists():
            if not process.alive(started) or time.monotonic() > until:
                process.kill(started)
                said = files.log.read_text(errors="replace").strip().splitlines() or ["it did not say why"]
                raise NodeFault(f"volume {self._volume_id} could not be given out: {said[-1]}")
            time.sleep(0.005)
        return started

    def _argv(self, record: Record, listening: int, monitor: int) -> list[str]:
        files = self._files
        disk = {
            "driver": "qcow2", "node-name": NODE, "discard": "unmap", "backing": None,
            "file": {"driver": "file", "filename": str(files.disk), "discard": "unmap"},
        }
        # What is said to be written has to be so: a guest goes on when this process or its host has died and come
        # again, and knows of nothing that it would have to write once more.
        export = {
            "type": "nbd", "id": NODE, "node-name": NODE, "name": self._volume_id, "writethrough": True,
            "writable": not record.read_only,
        }
        return [
            "prlimit", "--core=0", "--", self._place.settings.storage_daemon,
            *("--object", files.marker),
            *("--chardev", f"socket,id=qmp,fd={monitor},server=on,wait=off", "--monitor", "chardev=qmp"),
            *("--blockdev", json.dumps(disk)),
            *("--nbd-server", f"addr.type=fd,addr.str={listening},tls-creds=tls"),
            *("--export", json.dumps(export)),
            # It writes its pid when all is set up; who it is we know by ourselves.
            *("--pidfile", str(files.ready)),
        ]  # fmt: skip


def _ignore(monitor: Monitor, name: str, data: Event) -> None:
    pass
