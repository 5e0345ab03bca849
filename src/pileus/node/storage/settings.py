"""What can be set about volumes in files."""

from __future__ import annotations

from pathlib import Path

import msgspec


class FileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the file driver. Times in seconds."""

    state_dir: Path
    """Holds `volumes/<volume id>/` and `volume-backups/`. Every parent must let the storage account pass (mode x)."""
    user: str | None = "pileus-storage"
    """System account that qemu-storage-daemon and qemu-img run as. None: the account of this process."""
    address: str = ""
    """The node's own address among the nodes, on which volumes are given out. Empty: to guests of this host only."""
    ports: tuple[int, int] = (24000, 25999)
    """First and last TCP port on which volumes are given out, one each."""
    image_tool: str = "qemu-img"
    storage_daemon: str = "qemu-storage-daemon"
    start_timeout: float = 30.0
    """How long a daemon may take from its start until it answers."""
    answer_timeout: float = 120.0
    """How long a daemon may take to answer: a snapshot of a large volume takes its time."""
    quit_timeout: float = 30.0
    """How long a daemon may take to end by itself."""
    watch_interval: float = 5.0
    """How often it is looked whether all daemons run, beside hearing of their end."""

    @property
    def host(self) -> str:
        """The address on which volumes are given out."""
        return self.address or "127.0.0.1"
