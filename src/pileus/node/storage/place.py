"""What all volumes of a node share: where they are, who may read them, and what runs beside the tasks."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pileus.node.contract import ImageStore, NodeFault
from pileus.node.hypervisor.qemu.process import identity_options
from pileus.node.hypervisor.qemu.settings import Account, account
from pileus.node.storage.settings import FileSettings
from pileus.node.storage.tool import DiskTool


class Place:
    """The node's side of its volumes."""

    def __init__(self, settings: FileSettings, images: ImageStore) -> None:
        self.settings = settings
        self.images = images
        self.who = Account()
        self.tool = DiskTool(settings.image_tool, self.who)
        self.volumes = settings.state_dir / "volumes"
        self.backups = settings.state_dir / "volume-backups"
        self._lock: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Find out whether volumes can be kept here. Raises NodeFault with what is missing."""
        # At the level of debugging the library writes every command.
        logging.getLogger("qemu.qmp").setLevel(logging.WARNING)
        self.who = account(self.settings.user)
        self.tool = DiskTool(self.settings.image_tool, self.who)
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        self.settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (self.volumes, self.backups):
            folder.mkdir(mode=0o711, exist_ok=True)
            reached = subprocess.run(["test", "-x", str(folder)], check=False, cwd="/", **identity_options(self.who))
            if reached.returncode:
                raise NodeFault(
                    f"the storage account '{self.settings.user}' cannot reach {folder}:"
                    " every directory above needs the mode x for others"
                )
        self._claim()
        for left in self.backups.glob("*.tmp"):
            left.unlink()

    def _claim(self) -> None:
        """Two agents with one directory would end each other's daemons."""
        lock = os.open(self.volumes / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise NodeFault(f"another agent works with {self.volumes}: stop it first") from None
        self._lock = lock

    def backup(self, backup_id: str) -> Path:
        """Where a backup is."""
        return self.backups / safe(backup_id)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside; `stop` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what runs beside, and let another agent have the volumes."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def safe(name: str) -> str:
    """An id that is to be the name of a file. Raises NodeFault for what is none."""
    if not name or name.strip("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"):
        raise NodeFault(f"'{name}' is no id of a volume, a snapshot or a backup")
    return name
