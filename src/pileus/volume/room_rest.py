"""What types, backups, groups and the rest bring to the room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pileus.cloud import Job, ResultHandler
from pileus.work.periodic import Periodic

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

REST_RESULTS: Mapping[str, ResultHandler] = {}
JOBS: Mapping[str, Job] = {}
PERIODIC: tuple[Periodic, ...] = ()


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make what must exist before the first request."""
