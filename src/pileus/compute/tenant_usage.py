"""What projects have used, from the servers' own rows, deleted ones included."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.compute.schemas_rest import UsageQuery
from pileus.compute.tables import server
from pileus.compute.views_rest import more, page_size
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.world import iso_micro

_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")


class _Period(msgspec.Struct, frozen=True):
    start: float
    stop: float


def index(call: Call) -> dict[str, Any]:
    """GET /os-simple-tenant-usage: 200, all projects."""
    query: UsageQuery = call.query
    if call.path.endswith("/"):
        raise NotFound("The project's id is missing.")
    usages, links = _usages(call, query, None, query.detailed == "1", "tenant_usages")
    return {"tenant_usages": usages, **links}


def show(call: Call) -> dict[str, Any]:
    """GET /os-simple-tenant-usage/{project_id}: 200; {} when there was nothing. Members of the project may look."""
    project_id = call.params["project_id"]
    call.enforce("os_compute_api:os-simple-tenant-usage:show", project_id=project_id)
    usages, links = _usages(call, call.query, project_id, True, "tenant_usage")
    return {"tenant_usage": usages[0] if usages else {}, **links}


def _usages(
    call: Call, query: UsageQuery, project_id: str | None, detailed: bool, name: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    period = _period(call, query)
    pages = call.version is not None and call.version >= (2, 40)
    size = page_size(query.limit) if pages else None
    rows = _rows(call, period, project_id, size, query.marker if pages else None)
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        usage = _usage(row, period, call.now)
        total = sums.setdefault(row.project_id, _empty(row.project_id, period, detailed))
        for key, amount in (("total_local_gb_usage", usage["local_gb"]), ("total_vcpus_usage", usage["vcpus"]),
                            ("total_memory_mb_usage", usage["memory_mb"]), ("total_hours", 1)):
            total[key] += amount * usage["hours"]
        if detailed:
            total["server_usages"].append(usage)
    links = more(call, name, len(rows), size, rows[-1].id) if size and rows else {}
    return list(sums.values()), links


def _period(call: Call, query: UsageQuery) -> _Period:
    start = _moment(query.start, call.now)
    stop = _moment(query.end, call.now)
    if not start < stop:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return _Period(start, min(stop, call.now))


def _moment(text: str | None, now: float) -> float:
    if not text:
        return now
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            continue
    raise BadRequest(f"Datetime is in invalid format: {text}. Write it as 2026-01-31T12:00:00.")


_COLUMNS = (server.c.seq, server.c.id, server.c.name, server.c.project_id, server.c.vcpus, server.c.ram,
            server.c.flavor, server.c.vm_state, server.c.launched, server.c.terminated, server.c.deleted_at,
            server.c.deleted)


def _rows(
    call: Call, period: _Period, project_id: str | None, size: int | None, marker: str | None
) -> list[Row[Any]]:
    ended = sa.func.coalesce(server.c.terminated, server.c.deleted_at)
    statement = sa.select(*_COLUMNS).where(
        server.c.launched.is_not(None), server.c.launched < period.stop,
        sa.or_(ended.is_(None), ended > period.start),
    ).order_by(server.c.seq)
    if project_id is not None:
        statement = statement.where(server.c.project_id == project_id)
    if marker is not None:
        seq = call.tx.scalar(sa.select(server.c.seq).where(server.c.id == marker))
        if seq is None:
            raise BadRequest(f"Marker {marker} could not be found.")
        statement = statement.where(server.c.seq > seq)
    if size is not None:
        statement = statement.limit(size)
    return list(call.tx.all(statement))


def _empty(project_id: str, period: _Period, detailed: bool) -> dict[str, Any]:
    total: dict[str, Any] = {
        "tenant_id": project_id, "start": iso_micro(period.start), "stop": iso_micro(period.stop),
        "total_hours": 0.0, "total_vcpus_usage": 0.0, "total_memory_mb_usage": 0.0, "total_local_gb_usage": 0.0,
    }
    if detailed:
        total["server_usages"] = []
    return total


def _usage(row: Row[Any], period: _Period, now: float) -> dict[str, Any]:
    ended = row.terminated if row.terminated is not None else row.deleted_at
    stop = min(period.stop, ended) if ended is not None else period.stop
    return {
        "instance_id": row.id, "name": row.name, "tenant_id": row.project_id, "flavor": row.flavor.get("name", ""),
        "vcpus": row.vcpus, "memory_mb": row.ram,
        "local_gb": row.flavor.get("disk", 0) + row.flavor.get("ephemeral", 0),
        "hours": max(0.0, stop - max(row.launched, period.start)) / 3600,
        "started_at": iso_micro(row.launched), "ended_at": None if ended is None else iso_micro(ended),
        "state": row.vm_state if ended is None else "terminated",
        "uptime": int((now if ended is None else ended) - row.launched),
    }
