"""`/os-instance_usage_audit_log`: how many servers each node had in the last full month, from the servers' rows.

Nova's periodic audit writes a log that this resource shows; here the rows themselves are counted when they are asked
for, so that no host is ever behind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from pileus.compute.tables import node, server
from pileus.web.call import Call
from pileus.web.errors import BadRequest

_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")


def index(call: Call) -> dict[str, Any]:
    """GET /os-instance_usage_audit_log: 200, the last full month."""
    return {"instance_usage_audit_logs": _audit(call, datetime.fromtimestamp(call.now, UTC))}


def show(call: Call) -> dict[str, Any]:
    """GET /os-instance_usage_audit_log/{before}: 200, the last month that was full at that time."""
    return {"instance_usage_audit_log": _audit(call, _moment(call.params["before"]))}


def _moment(text: str) -> datetime:
    for form in _FORMS:
        try:
            found = datetime.strptime(text, form).replace(tzinfo=UTC)
            found.replace(day=1) - timedelta(days=31)  # what is asked for must have a month before it
            return found
        except (ValueError, OverflowError):
            continue
    raise BadRequest(f"Invalid timestamp for date {text}: write it as 2026-01-31 12:00:00.")


def _audit(call: Call, before: datetime) -> dict[str, Any]:
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (end - timedelta(days=1)).replace(day=1)
    counts = _counts(call, start.timestamp(), end.timestamp())
    hosts = call.tx.scalars(sa.select(node.c.name).order_by(node.c.name))
    log = {
        host: {
            "state": "DONE", "instances": counts.get(host, 0), "errors": 0,
            "message": f"{counts.get(host, 0)} instances were on this host in the period.",
        }
        for host in hosts
    }
    return {
        "log": log, "num_hosts": len(hosts), "num_hosts_done": len(hosts), "num_hosts_not_run": 0,
        "num_hosts_running": 0, "hosts_not_run": [], "total_errors": 0,
        "total_instances": sum(item["instances"] for item in log.values()),
        "overall_status": "ALL hosts done. 0 errors.",
        "period_beginning": f"{start:%Y-%m-%d %H:%M:%S}", "period_ending": f"{end:%Y-%m-%d %H:%M:%S}",
    }


def _counts(call: Call, start: float, end: float) -> dict[str, int]:
    """Servers by the node that has them, or had them last, of those that existed at some time of the period."""
    ended = sa.func.coalesce(server.c.terminated, server.c.deleted_at)
    rows = call.tx.all(
        sa.select(server.c.host, sa.func.count().label("servers"))
        .where(
            server.c.host.is_not(None), server.c.launched < end, sa.or_(ended.is_(None), ended > start),
        )
        .group_by(server.c.host)
    )
    return {row.host: row.servers for row in rows}
