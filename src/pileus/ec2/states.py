"""The six states that EC2 knows of an instance, from compute's many."""

from __future__ import annotations

from typing import Any

from pileus.compute import states

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

_TASKS = {"deleting": "shutting-down", "powering-off": "stopping", "powering-on": "pending"}
_OFF = (states.STOPPED, states.PAUSED, states.SUSPENDED, states.SHELVED, states.OFFLOADED)


def name(row: Any) -> str:
    """The state of a server's row.

    One that never ran and never will is terminated, as EC2 has it: a waiting client stops waiting, and reads why in
    `stateReason`. It counts against the quota until it is terminated indeed."""
    if row.deleted:
        return "terminated"
    if row.task_state in _TASKS:
        return _TASKS[row.task_state]
    if row.vm_state == states.BUILDING:
        return "pending"
    if row.vm_state == states.ERROR:
        if row.launched is None:
            return "terminated"
        return "running" if row.power_state == states.POWER["running"] else "stopped"
    return "stopped" if row.vm_state in _OFF else "running"


def view(state: str) -> dict[str, Any]:
    """A state as it is shown."""
    return {"code": CODES[state], "name": state}
