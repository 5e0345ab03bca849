"""Hosts of the volume service, as the oldest clients ask for them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.volume import backends, services
from pileus.volume.tables import snapshot, volume
from pileus.volume.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import NotFound

_VOLUMES = sa.select(
    volume.c.project_id, sa.func.count().label("many"), sa.func.sum(volume.c.size).label("gib")
).where(volume.c.node == sa.bindparam("n")).group_by(volume.c.project_id)
_SNAPSHOTS = (
    sa.select(volume.c.project_id, sa.func.count().label("many"), sa.func.sum(snapshot.c.size).label("gib"))
    .where(snapshot.c.volume_id == volume.c.id, volume.c.node == sa.bindparam("n")).group_by(volume.c.project_id)
)


def index(call: Call) -> dict[str, Any]:
    """GET /os-hosts: 200, a line for each service of each host."""
    zone = call.query.zone
    return {"hosts": [
        {
            "host_name": part.host, "service": part.binary, "zone": part.zone,
            "service-status": "available" if part.up else "unavailable",
            "service-state": "disabled" if part.disabled else "enabled", "last-update": when(part.seen),
        }
        for part in services.parts(call) if not zone or part.zone == zone
    ]}


def show(call: Call) -> dict[str, Any]:
    """GET /os-hosts/{host}: 200, what is kept there, all in all and by project."""
    host = call.params["host"]
    if not any(host in (part.host, part.node) for part in services.parts(call)):
        raise NotFound(f"Host {host} could not be found.")
    node = {"n": backends.node_of(host)}
    kept = {row.project_id: (int(row.many), int(row.gib)) for row in call.tx.all(_VOLUMES, node)}
    taken = {row.project_id: (int(row.many), int(row.gib)) for row in call.tx.all(_SNAPSHOTS, node)}
    projects = sorted({*kept, *taken})
    lines = [_line(host, "(total)", _sum(kept), _sum(taken))]
    lines += [_line(host, one, kept.get(one, (0, 0)), taken.get(one, (0, 0))) for one in projects]
    return {"host": [{"resource": line} for line in lines]}


def _sum(found: dict[str, tuple[int, int]]) -> tuple[int, int]:
    return sum(count for count, _ in found.values()), sum(gib for _, gib in found.values())


def _line(host: str, project: str, volumes: tuple[int, int], snapshots: tuple[int, int]) -> dict[str, str]:
    return {
        "host": host, "project": project, "volume_count": str(volumes[0]), "total_volume_gb": str(volumes[1]),
        "snapshot_count": str(snapshots[0]), "total_snapshot_gb": str(snapshots[1]),
    }
