"""How a task about a server has ended, and what can be done then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster.liveness import moment
from pileus.compute import instance_actions, nodes, orders, servers, states
from pileus.node.contract import ServerDone, ServerTask, Task, TaskResult

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class End:
    """One task that has ended, and the server that it was about."""

    __slots__ = ("args", "cloud", "done", "error", "now", "row", "task", "tx")

    def __init__(self, tx: Tx, cloud: Cloud, task: Task, result: TaskResult, args: ServerTask, row: Any) -> None:
        self.tx, self.cloud, self.task, self.args, self.row = tx, cloud, task, args, row
        self.error = "" if result.ok else (result.error or "the node gave no reason")
        self.done = msgspec.json.decode(result.value, type=ServerDone) if result.ok else ServerDone()
        self.now = cloud.world.now()

    @property
    def power(self) -> int:
        """The guest's power state as the node reported it; as it was, where it did not."""
        guest = self.done.guest
        return self.row.power_state if guest is None else states.POWER.get(guest.power, 0)

    def settle(self, **values: Any) -> None:
        """The action is over: nothing goes on any more."""
        self.write(**{"task_state": None, "power_state": self.power, **values})
        self.log()

    def write(self, **values: Any) -> None:
        servers.change(self.tx, self.row.id, self.now, **values)

    def log(self) -> None:
        instance_actions.finish(self.tx, self.row.id, self.task.request_id, self.now, self.error)

    def fail(self, vm_state: str | None = None, **values: Any) -> None:
        """The action failed; the server is in error where `vm_state` says so, else as it was."""
        if vm_state is not None:
            values["vm_state"] = vm_state
        self.write(task_state=None, fault=orders.fault(self.error, self.now), **values)
        self.log()

    def then(self, kind: str, **arguments: Any) -> None:
        """Ask the node for one more thing, in the same action."""
        orders.send(self.tx, self.cloud, self.row, kind, request_id=self.task.request_id, **arguments)

    def is_up(self, host: str) -> bool:
        """Whether a node answers now, as far as its heartbeats tell."""
        found = nodes.by_name(self.tx, host)
        return found is not None and nodes.is_up(found, moment(self.cloud))

    def given_up(self, host: str) -> bool:
        """Whether a node is known to run nothing: an operator or a fence has forced it down, or it is removed."""
        found = nodes.by_name(self.tx, host)
        return found is None or found.forced_down


def without_task(tx: Tx, cloud: Cloud, row: Any, request_id: str, error: str = "") -> End:
    """The same where no node has said anything: what would have been done at a task's end is done all the same."""
    task = Task(
        id="", kind="", node=row.host or "", resource=orders.resource(row.id), arguments=msgspec.Raw(b"null"),
        request_id=request_id,
    )
    value = msgspec.Raw(msgspec.json.encode(ServerDone()))
    result = TaskResult(task_id="", node=task.node, ok=not error, value=value, error=error)
    return End(tx, cloud, task, result, ServerTask(server_id=row.id), row)
