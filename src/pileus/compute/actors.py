"""In whose name something is done to a server: a request's caller, or the cloud itself (drains, evacuations)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pileus.auth.context import Context

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class Actor(Protocol):
    """What the action log, the migrations and the tasks have to know of who acts. A `Call` is one."""

    @property
    def tx(self) -> Tx: ...
    @property
    def cloud(self) -> Cloud: ...
    @property
    def now(self) -> float: ...
    @property
    def request_id(self) -> str: ...
    @property
    def context(self) -> Context: ...


@dataclass(frozen=True)
class Itself:
    """The cloud, which acts on a server in its owner's name."""

    tx: Tx
    cloud: Cloud
    now: float
    request_id: str
    context: Context


def itself(tx: Tx, cloud: Cloud, row: Any) -> Itself:
    """The cloud acting on the server of this row, as a request of its own."""
    owner = Context(user_id=row.user_id, project_id=row.project_id, roles=("admin",))
    return Itself(tx, cloud, cloud.world.now(), f"req-{cloud.world.uuid()}", owner)
