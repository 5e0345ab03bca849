"""Guests that change by themselves: shut down from inside, crashed, or started by the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pileus.compute import instance_actions, servers, states
from pileus.network import ports

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.node.contract import GuestReport

_RUNS = (states.ACTIVE, states.PAUSED, states.SUSPENDED, states.STOPPED)


def changed(tx: Tx, cloud: Cloud, report: GuestReport) -> bool:
    """Make the server's state what its guest's is, and say so in its action log.

    Only the node that has the guest is believed, and nothing changes while something is done to the server. True
    then: the node shall tell it again after that, for not every result says how the guest is."""
    row = servers.held(tx, report.server_id)
    if row is None or row.deleted or row.host != report.node:
        return False
    if row.task_state is not None:
        return True
    power = states.POWER.get(report.power, 0)
    values: dict[str, object] = {"power_state": power}
    state = vm_state(row.vm_state, report.power)
    if power == row.power_state and state == row.vm_state:
        return False
    if state != row.vm_state:
        values["vm_state"] = state
    if state == states.STOPPED != row.vm_state:
        crashed = report.power == "crashed"
        why = f"the guest {'crashed' if crashed else 'shut down by itself'} on node {report.node}"
        instance_actions.note(tx, cloud, row, "stop", "compute_stop_instance", why, failed=crashed)
    servers.change(tx, row.id, cloud.world.now(), **values)
    if report.power in ("shutdown", "crashed"):
        own = ports.of_servers(tx, [row.id]).get(row.id, [])
        ports.mark_down(tx, cloud, [port.id for port in own])
    return False


def vm_state(before: str, power: str) -> str:
    """What a server is by its guest's power; one that is rescued, resized or in error stays that."""
    if before not in _RUNS:
        return before
    if power in ("shutdown", "crashed"):
        return states.STOPPED if before in (states.ACTIVE, states.PAUSED) else before
    return {"running": states.ACTIVE, "paused": states.PAUSED, "suspended": states.SUSPENDED}.get(power, before)
