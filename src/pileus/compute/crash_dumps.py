"""trigger_crash_dump: an interrupt that makes a guest's kernel dump its memory, where it is set up so."""

from __future__ import annotations

from typing import Any

from pileus.cluster.liveness import moment
from pileus.compute import instance_actions, orders, states
from pileus.web.call import Call


async def trigger(call: Call, row: Any, value: None) -> None:
    """trigger_crash_dump, from 2.17 on: 202. The guest was interrupted when this returns.

    A second interrupt would break the dump of the first, so that this is asked of the node once and is no task, which
    could be done again. Raises Conflict where the guest cannot be interrupted."""
    states.require(call.context, row, "triggerCrashDump", "trigger_crash_dump")
    await call.db.run(lambda tx: orders.check_host(tx, row, moment(call.cloud)), write=False)
    await call.cloud.ask(row.host, "inject_nmi", {"server_id": row.id})
    await instance_actions.log_done(call, row.id, "trigger_crash_dump", "compute_trigger_crash_dump", row.host)
