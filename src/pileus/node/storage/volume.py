"""One volume of this node: its files, its record, and the daemon that gives it out.

The callers in `driver` and `copies` hold `lock`; what runs by itself here takes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu import psk
from pileus.node.storage.daemon import NODE, Daemon
from pileus.node.storage.files import VolumeFiles
from pileus.node.storage.place import Place, safe
from pileus.threads import to_its_end

_LOG = logging.getLogger("pileus.node")
COPY = "copy-"  # begins the names of snapshots that are there for a copy that goes on
_PAUSES = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts to start a daemon that has died; the last one again and again."""


class Volume:
    """A volume, there or not."""

    def __init__(self, place: Place, volume_id: str) -> None:
        self.id = volume_id
        self.place = place
        self.files = VolumeFiles(place.volumes / safe(volume_id))
        self.record = self.files.read()
        self.daemon = Daemon(place, volume_id, self.files, self._daemon_ended)
        self.lock = asyncio.Lock()
        self.gone = False
        self.read: Counter[str] = Counter()  # copies that go on, by snapshot
        self.unread = asyncio.Condition()
        self._mending = False

    @property
    def given_out(self) -> bool:
        return self.record.port != 0

    def there(self) -> bool:
        """Whether it was made to its end. Looks at its files."""
        return self.files.disk.exists()

    async def save(self) -> None:
        """Write what must be known after a restart."""
        await to_its_end(self.files.write, self.record)

    def must_rest(self) -> None:
        """Raises NodeFault while it is given out."""
        if self.given_out:
            raise NodeFault(f"volume {self.id} is given out: detach it first")

    # -------------------------------------------------------------------------------------- snapshots

    async def snapshots(self) -> set[str]:
        """The names of its snapshots."""
        return await self.place.tool.snapshots(self.files.disk)

    async def change_snapshot(self, name: str, *, make: bool) -> None:
        """Make or remove a snapshot, in the daemon if there is one. One that is there, or is not there, is let be."""
        if (name in await self.snapshots()) is make:
            return
        torn = await self.tear()
        if self.given_out:
            await self.daemon.open(self.record)
            command = "blockdev-snapshot-internal-sync" if make else "blockdev-snapshot-delete-internal-sync"
            await self.daemon.monitor().execute(command, device=NODE, name=name)
        else:
            await self.place.tool.snapshot(self.files.disk, "-c" if make else "-d", name)
        await self.whole(torn)

    async def tear(self) -> bool:
        """Record that something begins which leaves lost clusters when it is cut off. Whether something was before."""
        before = self.record.torn
        if not before:
            self.record.torn = True
            await self.save()
        return before

    async def whole(self, torn: bool) -> None:
        """What began came to its end; `torn` if something before it did not."""
        if self.record.torn != torn:
            self.record.torn = torn
            await self.save()

    async def mend(self) -> None:
        """Give back what was lost by something that was cut off. Nobody may have the volume open."""
        if self.record.torn:
            await self.place.tool.repair(self.files.disk)
            await self.whole(False)

    # ------------------------------------------------------------------------------------- giving out

    async def open(self) -> None:
        """Give it out as the record says. Raises NodeFault."""
        await self.daemon.open(self.record)

    async def withdraw(self) -> None:
        """Give it out no more: recorded first. Raises NodeFault."""
        if self.given_out:
            self.record.port, self.record.read_only = 0, False
            await self.save()
        await self.daemon.close()
        await asyncio.to_thread(psk.remove, self.files.key)
        if self.there():
            await self.mend()

    def _daemon_ended(self) -> None:
        if self.given_out and not self._mending:
            self.place.later(self.see_to_it())

    async def see_to_it(self) -> None:
        """Have the daemon running that shall run, however often it takes."""
        if self._mending:
            return
        self._mending = True
        try:
            attempt = 0
            while not await self._seen_to():
                await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                attempt += 1
        finally:
            self._mending = False

    async def _seen_to(self) -> bool:
        async with self.lock:
            if self.gone or not self.given_out or self.daemon.running:
                return True
            try:
                if await self.daemon.open(self.record):
                    _LOG.warning("volume %s is given out again: its daemon had ended", self.id)
                    await self.tear()
            except NodeFault as error:
                _LOG.warning("volume %s is not given out now; it is tried again: %s", self.id, error)
                return False
            return True
