"""POST /servers/{id}/action: the body's one key names the action. All of them on one screen."""

from __future__ import annotations

from typing import Any

from pileus.compute import (
    backups,
    consoles,
    crash_dumps,
    evacuate,
    interfaces,
    lifecycle,
    live,
    memberships,
    moves,
    passwords,
    rebuild,
    rescue,
    resize,
    scheduler,
    server_floating_ips,
    servers,
    shelve,
    snapshots,
)
from pileus.compute import schemas as s
from pileus.web import actions
from pileus.web.actions import Action
from pileus.web.call import Call, Reply
from pileus.web.errors import Problem

_P = "os_compute_api:"

ACTIONS: actions.Actions = {
    # power
    "os-start": Action(_P + "servers:start", lifecycle.start),
    "os-stop": Action(_P + "servers:stop", lifecycle.stop),
    "reboot": Action(_P + "servers:reboot", lifecycle.reboot, body=s.Reboot),
    "pause": Action(_P + "os-pause-server:pause", lifecycle.pause),
    "unpause": Action(_P + "os-pause-server:unpause", lifecycle.unpause),
    "suspend": Action(_P + "os-suspend-server:suspend", lifecycle.suspend),
    "resume": Action(_P + "os-suspend-server:resume", lifecycle.resume),
    # shape
    "rebuild": Action(_P + "servers:rebuild", rebuild.rebuild, body=s.Rebuild),
    "resize": Action(_P + "servers:resize", resize.resize, body=s.Resize),
    "confirmResize": Action(_P + "servers:confirm_resize", resize.confirm, 204),
    "revertResize": Action(_P + "servers:revert_resize", resize.revert),
    "rescue": Action(_P + "os-rescue", rescue.rescue, 200, body=s.Rescue | None),
    "unrescue": Action(_P + "os-unrescue", rescue.unrescue),
    "shelve": Action(_P + "os-shelve:shelve", shelve.shelve),
    "shelveOffload": Action(_P + "os-shelve:shelve_offload", shelve.offload),
    "unshelve": (
        Action(_P + "os-shelve:unshelve", shelve.unshelve, until=(2, 76)),
        Action(_P + "os-shelve:unshelve", shelve.unshelve, body=s.Unshelve | None, since=(2, 77)),
    ),
    # images and consoles
    "createImage": Action(_P + "servers:create_image", snapshots.create_image, body=s.CreateImage),
    "createBackup": Action(_P + "os-create-backup", backups.create, body=s.CreateBackup),
    "os-getConsoleOutput": Action(_P + "os-console-output", consoles.output, 200, body=s.ConsoleLog),
    "os-getVNCConsole": Action(_P + "os-remote-consoles", consoles.old_vnc, 200, body=s.OldConsole, until=(2, 5)),
    "os-getSerialConsole": (
        Action(_P + "os-remote-consoles", consoles.old_serial, 200, body=s.OldConsole, until=(2, 5)),
    ),
    # administration
    "lock": (
        Action(_P + "os-lock-server:lock", lifecycle.lock, until=(2, 72)),
        Action(_P + "os-lock-server:lock", lifecycle.lock, body=s.Lock | None, since=(2, 73)),
    ),
    "unlock": Action(_P + "os-lock-server:unlock", lifecycle.unlock),
    "os-resetState": Action(_P + "os-admin-actions:reset_state", lifecycle.reset_state, body=s.ResetState),
    "injectNetworkInfo": Action(_P + "os-admin-actions:inject_network_info", lifecycle.inject_network_info),
    "changePassword": Action(_P + "os-admin-password", passwords.change, body=s.ChangePassword),
    "trigger_crash_dump": (
        Action(_P + "servers:trigger_crash_dump", crash_dumps.trigger, body=type(None), since=(2, 17)),
    ),
    "forceDelete": Action(_P + "os-deferred-delete:force", lifecycle.force_delete),
    "restore": Action(_P + "os-deferred-delete:restore", lifecycle.restore),
    "migrate": (
        Action(_P + "os-migrate-server:migrate", moves.migrate, until=(2, 55)),
        Action(_P + "os-migrate-server:migrate", moves.migrate, body=s.Migrate | None, since=(2, 56)),
    ),
    "os-migrateLive": Action(_P + "os-migrate-server:migrate_live", live.migrate, body=s.LiveMigrate),
    "evacuate": Action(_P + "os-evacuate", evacuate.evacuate, 200, body=s.Evacuate),
    # network
    "addSecurityGroup": Action(_P + "os-security-groups:add", memberships.add, body=s.SecurityGroupName),
    "removeSecurityGroup": Action(_P + "os-security-groups:remove", memberships.remove, body=s.SecurityGroupName),
    "addFixedIp": Action(_P + "os-multinic:add", interfaces.add_fixed_ip, body=s.AddFixedIp, until=(2, 43)),
    "removeFixedIp": (
        Action(_P + "os-multinic:remove", interfaces.remove_fixed_ip, body=s.RemoveFixedIp, until=(2, 43)),
    ),
    "addFloatingIp": Action(_P + "os-floating-ips:add", server_floating_ips.add, body=s.AddFloatingIp, until=(2, 43)),
    "removeFloatingIp": (
        Action(_P + "os-floating-ips:remove", server_floating_ips.remove, body=s.AddFloatingIp, until=(2, 43)),
    ),
}


async def act(call: Call) -> Reply:
    """POST /servers/{server_id}/action: 202, or as the action has it."""
    try:
        return await actions.perform(call, ACTIONS, _row, call.params["server_id"])
    except Problem as problem:
        await _remember(call, problem)
        raise


async def _remember(call: Call, problem: Problem) -> None:
    """Keep why no node would do: the transaction that found out is undone."""
    failed = scheduler.failure_of(problem)
    if failed is not None:
        await call.db.run(lambda tx: scheduler.keep(tx, call.cloud, call.params["server_id"], failed))


def _row(call: Call, server_id: str, rule: str, *, hold: bool) -> Any:
    return (servers.hold if hold else servers.get)(call, server_id, rule)
