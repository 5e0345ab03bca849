"""How an action on a server is asked for: its state, its log entry and its task, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster.liveness import Moment, moment
from pileus.compute import devices, instance_actions, nodes, servers, spec
from pileus.compute.actors import Actor
from pileus.compute.schemas import Fault
from pileus.network import ports
from pileus.node.contract import ServerSpec, ServerTask
from pileus.web.errors import Conflict
from pileus.work import tasks
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


UNTIL_BACK = 90 * 86400.0
"""How long what cleans a node waits for it when it is down, in seconds."""


def resource(server_id: str) -> str:
    """The name under which a server's tasks are kept in order."""
    return f"server:{server_id}"


def begin(
    by: Actor, row: Any, action: str, event: str, task_state: str | None, *, reachable: bool = True, **values: Any
) -> None:
    """Log the action and show that it goes on. Raises Conflict when the server's node is down."""
    if reachable:
        check_up(by, row)
    if task_state is not None or values:
        servers.change(by.tx, row.id, by.now, **({"task_state": task_state} if task_state else {}), **values)
    instance_actions.begin(by, row.id, action, event, row.host)


def check_up(by: Actor, row: Any) -> None:
    """Raises Conflict when the server has no node, or one that is down: nothing could be done to its guest."""
    check_host(by.tx, row, moment(by.cloud))


def check_host(tx: Tx, row: Any, now: Moment, host: str | None = None) -> None:
    """The same of any node that has to do with the server, its own if none is given."""
    host = host or row.host
    found = nodes.by_name(tx, host) if host else None
    if found is None:
        raise Conflict(f"Instance {row.id} is not on any host.")
    if not nodes.is_up(found, now):
        raise Conflict(f"Service is unavailable at this time: node {host} of instance {row.id} is down.")


def send(
    tx: Tx, cloud: Cloud, row: Any, kind: str, *, request_id: str, deadline: float | None = None,
    node: str | None = None, **arguments: Any,
) -> None:
    """Ask the server's node for `kind`, a method of the hypervisor; `arguments` are fields of ServerTask.

    `deadline`: seconds from now after which it has failed; `node`: another than the server's."""
    tasks.enqueue(
        tx, cloud, f"server.{kind}", node=node or row.host, resource=resource(row.id), request_id=request_id,
        timeout=deadline, arguments=ServerTask(server_id=row.id, **arguments),
    )


def patience(cloud: Cloud, row: Any) -> float:
    """Seconds that carrying a guest with its disks to another node may take: `build_timeout` for each GiB."""
    flavor, image = spec.flavor_of(row), spec.facts_of(row)
    root = 0 if image is not None and image.volume else flavor.disk
    disks = root + flavor.ephemeral + flavor.swap // 1024
    return cloud.settings.build_timeout * max(1, disks + -(-flavor.ram // 1024))


def drop_waiting(tx: Tx, server_id: str) -> None:
    """Drop the server's tasks that nobody has begun, for a delete overtakes them; but what cleans a node stays."""
    tasks.drop(tx, resource(server_id), task.c.attempt == 0, task.c.kind != "server.destroy")


def drop_steps(tx: Tx, server_id: str, *kinds: str) -> None:
    """Drop steps of a move that is decided: what a node has begun of them ends by itself, and nobody hears of it."""
    tasks.drop(tx, resource(server_id), task.c.kind.in_([f"server.{kind}" for kind in kinds]))


def described(tx: Tx, cloud: Cloud, row: Any, **changed: Any) -> ServerSpec:
    """The server as its node needs it, with the ports and volumes that it has now."""
    disks = devices.of_server(tx, row.id)
    own = ports.of_servers(tx, [row.id]).get(row.id, [])
    return spec.build(cloud, row, own, disks, devices.specs(tx, row.id, disks), **changed)


def fault(message: str, now: float, code: int = 500) -> dict[str, Any]:
    """A fault as the server's row holds it."""
    made: dict[str, Any] = msgspec.to_builtins(
        Fault(code=code, message=message[:255] or "unknown", created=now, details=message)
    )
    return made
