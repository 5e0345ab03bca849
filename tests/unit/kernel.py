"""A cloud without rooms, and a world whose time and ids a test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pileus.cloud import Cloud
from pileus.db.engine import Database
from pileus.settings import Settings
from pileus.world import World


class StillWorld(World):
    """Time stands until it is set; ids count up."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000_000.0
        self.ids = 0

    def now(self) -> float:
        return self.time

    def uuid(self) -> str:
        self.ids += 1
        return f"00000000-0000-4000-8000-{self.ids:012d}"


def bare_cloud(folder: Path, database: Database | None = None, **settings: Any) -> Cloud:
    """The kernel alone, on a database that has its tables already when one is given."""
    cloud = Cloud(Settings(state_dir=str(folder), log_level="error", **settings), StillWorld(), rooms=())
    if database is None:
        from pileus.db import locks
        from pileus.db.tables import metadata
        from pileus.work import tables

        kernel = [locks.named_lock, locks.revision, tables.task, tables.lease]
        metadata.create_all(cloud.db.engine, tables=kernel)
    else:
        cloud.db.close()
        cloud.db = database
    return cloud
