"""The states of servers, how they add up to the API's status, and which action fits which state.

Follows Nova's tables: `vm_state` is what a server is, `task_state` what is being done to it, `power_state` what
the hypervisor says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pileus.auth.context import Context
from pileus.web.errors import Conflict

ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED, RESCUED, RESIZED = (
    "active", "building", "paused", "suspended", "stopped", "rescued", "resized",
)
SHELVED, OFFLOADED, ERROR, DELETED, SOFT_DELETED = "shelved", "shelved_offloaded", "error", "deleted", "soft-delete"

VM_STATES = (
    ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED, RESCUED, RESIZED, SHELVED, OFFLOADED, ERROR, DELETED, SOFT_DELETED,
)

POWER = {"running": 1, "paused": 3, "shutdown": 4, "crashed": 6, "suspended": 7}
"""The API's number for what a hypervisor says; 0 where nothing is known."""

_DEFAULT = {
    ACTIVE: "ACTIVE", BUILDING: "BUILD", STOPPED: "SHUTOFF", RESIZED: "VERIFY_RESIZE", PAUSED: "PAUSED",
    SUSPENDED: "SUSPENDED", RESCUED: "RESCUE", ERROR: "ERROR", DELETED: "DELETED", SOFT_DELETED: "SOFT_DELETED",
    SHELVED: "SHELVED", OFFLOADED: "SHELVED_OFFLOADED",
}
_REBUILD = dict.fromkeys(("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"), "REBUILD")
_RESIZE = dict.fromkeys(("resize_prep", "resize_migrating", "resize_migrated", "resize_finish"), "RESIZE")
_BY_TASK = {
    ACTIVE: {
        "rebooting": "REBOOT", "reboot_pending": "REBOOT", "reboot_started": "REBOOT",
        "rebooting_hard": "HARD_REBOOT", "reboot_pending_hard": "HARD_REBOOT", "reboot_started_hard": "HARD_REBOOT",
        "updating_password": "PASSWORD", "migrating": "MIGRATING", **_REBUILD, **_RESIZE,
    },
    STOPPED: {**_REBUILD, **_RESIZE},
    RESIZED: {"resize_reverting": "REVERT_RESIZE"},
    PAUSED: {"migrating": "MIGRATING"},
    ERROR: _REBUILD,
}

PROGRESS_STATUSES = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
FAULT_STATUSES = frozenset({"ERROR", "DELETED"})


def status(vm_state: str, task_state: str | None) -> str:
    """The `status` of a server."""
    by_task = _BY_TASK.get(vm_state)
    if by_task and task_state in by_task:
        return by_task[task_state]
    return _DEFAULT.get(vm_state, "UNKNOWN")


def of_status(wanted: str) -> list[tuple[str, tuple[str, ...] | None]]:
    """The vm_states that show as a status, each with its task_states; None: any that shows nothing else.

    Empty for a status that does not exist. Case does not matter."""
    name = wanted.upper()
    found: list[tuple[str, tuple[str, ...] | None]] = [(vm, None) for vm, text in _DEFAULT.items() if text == name]
    for vm, by_task in _BY_TASK.items():
        task_states = tuple(task for task, text in by_task.items() if text == name)
        if task_states:
            found.append((vm, task_states))
    return found


def shows_by_task(vm_state: str) -> tuple[str, ...]:
    """The task_states under which a vm_state shows as something else."""
    return tuple(_BY_TASK.get(vm_state, ()))


@dataclass(frozen=True)
class Legal:
    """When an action fits. Empty `vm` means any state, `task` None any task."""

    vm: tuple[str, ...] = ()
    task: tuple[str | None, ...] | None = (None,)
    launched: bool = True  # only a server that once was active
    lock: bool = True  # a locked server refuses it


_REBOOT_TASKS = (
    "rebooting", "reboot_pending", "reboot_started", "resuming", "rebooting_hard", "unpausing", "pausing", "suspending",
    None,
)
_SOFT = (ACTIVE, STOPPED, PAUSED, SUSPENDED)

LEGAL = {
    "delete": Legal(task=None, launched=False),
    "forceDelete": Legal(task=None, launched=False),
    "restore": Legal((SOFT_DELETED,)),
    "stop": Legal((ACTIVE, ERROR)),
    "start": Legal((STOPPED,)),
    "reboot": Legal((ACTIVE,)),
    "reboot_hard": Legal((ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR), _REBOOT_TASKS),
    "rebuild": Legal((ACTIVE, STOPPED, ERROR)),
    "resize": Legal((ACTIVE, STOPPED)),
    "confirmResize": Legal((RESIZED,), lock=False),
    "revertResize": Legal((RESIZED,)),
    "pause": Legal((ACTIVE,)),
    "unpause": Legal((PAUSED,)),
    "suspend": Legal((ACTIVE,)),
    "resume": Legal((SUSPENDED,)),
    "rescue": Legal((ACTIVE, STOPPED, ERROR)),
    "unrescue": Legal((RESCUED,)),
    "shelve": Legal(_SOFT),
    "shelveOffload": Legal((SHELVED,)),
    "unshelve": Legal((SHELVED, OFFLOADED)),
    "createImage": Legal(_SOFT, lock=False),
    "createBackup": Legal(_SOFT, lock=False),
    "changePassword": Legal((ACTIVE,)),
    "attach_interface": Legal((ACTIVE, PAUSED, STOPPED)),
    "detach_interface": Legal((ACTIVE, PAUSED, STOPPED)),
    "attach_volume": Legal((ACTIVE, PAUSED, STOPPED, RESIZED, SOFT_DELETED, SHELVED, OFFLOADED)),
    "detach_volume": Legal((ACTIVE, PAUSED, STOPPED, RESIZED, SOFT_DELETED, SHELVED, OFFLOADED)),
    "swap_volume": Legal((ACTIVE, PAUSED, RESIZED)),
    "metadata": Legal((ACTIVE, PAUSED, SUSPENDED, STOPPED), task=None),
    "addSecurityGroup": Legal(task=None, launched=False, lock=False),
    "console": Legal(
        (ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED, RESCUED, RESIZED, ERROR), None, launched=False, lock=False
    ),
    "triggerCrashDump": Legal((ACTIVE, PAUSED, RESCUED, RESIZED, ERROR)),
    "steerMigration": Legal(task=("migrating",), launched=False),
    "liveMigrate": Legal((ACTIVE, PAUSED)),
    "migrate": Legal((ACTIVE, STOPPED)),
    "evacuate": Legal((ACTIVE, STOPPED, ERROR), None),
}


def require(context: Context, row: Any, action: str, word: str = "") -> None:
    """Raises Conflict when the action does not fit the server's state, or the server is locked.

    `row` is a row of `server`; `word` names the action to the user where it has another name."""
    legal = LEGAL[action]
    word = word or action
    if legal.lock and row.locked and not context.is_admin:
        raise Conflict(f"Instance {row.id} is locked")
    if legal.vm and row.vm_state not in legal.vm:
        raise Conflict(f"Cannot '{word}' instance {row.id} while it is in vm_state {row.vm_state}")
    if legal.task is not None and row.task_state not in legal.task:
        raise Conflict(f"Cannot '{word}' instance {row.id} while it is in task_state {row.task_state}")
    if legal.launched and row.launched is None:
        raise Conflict(f"Cannot '{word}' instance {row.id} while it is in an invalid state: it never was active")
