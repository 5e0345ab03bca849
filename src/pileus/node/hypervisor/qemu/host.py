"""What all guests of a node share."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import subprocess
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from pileus.node.contract import GuestEvent, ImageStore, NodeFault, TapSource
from pileus.node.hypervisor.qemu import facts
from pileus.node.hypervisor.qemu.accel import choose
from pileus.node.hypervisor.qemu.imagetool import ImageTool
from pileus.node.hypervisor.qemu.process import identity_options
from pileus.node.hypervisor.qemu.settings import Account, QemuSettings, account


class Host:
    """The node's side of its guests: settings, tools, and what runs beside the calls of the agent."""

    def __init__(self, settings: QemuSettings, images: ImageStore, taps: TapSource) -> None:
        self.settings = settings
        self.images = images
        self.taps = taps
        self.who = Account()
        self.tool = ImageTool(settings.image_tool, self.who)
        self.accel = "tcg"
        self.machine = "q35"
        self.version = 0
        self.on_event: GuestEvent | None = None
        self.on_adopted: Callable[[str], Awaitable[None]] | None = None
        self._lock: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def instances(self) -> Path:
        return self.settings.state_dir / "instances"

    def storage(self, folder: str) -> Path:
        """Where the disks of a folder of that name are. Raises NodeFault if the node does not say where."""
        if self.settings.disks_dir is None:
            raise NodeFault(f"the disks in {folder} were made in a disks_dir, which is not set any more: set it again")
        return self.settings.disks_dir / folder

    @staticmethod
    def new_storage(server_id: str) -> str:
        """A name for a folder of disks that no node has used for this server."""
        return f"{server_id}.{secrets.token_hex(4)}"

    async def prepare(self) -> None:
        """Find out whether and how guests can run here. Raises NodeFault with what is missing."""
        # At the level of debugging the library writes every command, with passwords of volumes and users.
        logging.getLogger("qemu.qmp").setLevel(logging.WARNING)
        self.who = account(self.settings.user)
        self.tool = ImageTool(self.settings.image_tool, self.who)
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        self.version = facts.version(self.settings.emulator)
        self.machine = facts.machine(self.settings.emulator)
        self.settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in filter(None, (self.instances, self.settings.disks_dir)):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            reached = subprocess.run(["test", "-x", str(folder)], check=False, cwd="/", **identity_options(self.who))
            if reached.returncode:
                raise NodeFault(
                    f"QEMU's account '{self.settings.user}' cannot reach {folder}:"
                    " every directory above needs the mode x for others"
                )
        self._claim()
        self.accel = choose(self.settings, self.who)

    def _claim(self) -> None:
        """Two agents with one directory would end each other's guests."""
        lock = os.open(self.settings.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise NodeFault(f"another agent works with {self.settings.state_dir}: stop it first") from None
        self._lock = lock

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside; `stop` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tell(self, server_id: str, power: str) -> None:
        """Report that a guest changed by itself."""
        if self.on_event is not None:
            await self.on_event(server_id, power)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
