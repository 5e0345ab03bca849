"""What projects have of volumes, and whether they may have more: the one place where quotas are enforced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.volume import quotas, volume_types
from pileus.volume.faults import OverLimit
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import backup, group

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_VOLUMES = sa.select(
    sa.func.count().label("count"), sa.func.coalesce(sa.func.sum(volume.c.size), 0).label("gib")
).where(volume.c.project_id == sa.bindparam("project"))
_SNAPSHOTS = sa.select(
    sa.func.count().label("count"), sa.func.coalesce(sa.func.sum(snapshot.c.size), 0).label("gib")
).where(snapshot.c.project_id == sa.bindparam("project"))
_BACKUPS = sa.select(
    sa.func.count().label("count"), sa.func.coalesce(sa.func.sum(backup.c.size), 0).label("gib")
).where(backup.c.project_id == sa.bindparam("project"))
_GROUPS = sa.select(sa.func.count()).where(group.c.project_id == sa.bindparam("project"))
_VOLUMES_OF_TYPE = _VOLUMES.where(volume.c.type_id == sa.bindparam("type"))
_SNAPSHOTS_OF_TYPE = _SNAPSHOTS.where(snapshot.c.type_id == sa.bindparam("type"))


def used(tx: Tx, project_id: str, type_id: str | None = None) -> dict[str, int]:
    """Volumes, snapshots and gigabytes (of both) that a project has, or has of one volume type."""
    who = {"project": project_id} if type_id is None else {"project": project_id, "type": type_id}
    volumes: Any = tx.first(_VOLUMES if type_id is None else _VOLUMES_OF_TYPE, who)
    snapshots: Any = tx.first(_SNAPSHOTS if type_id is None else _SNAPSHOTS_OF_TYPE, who)
    return {
        "volumes": int(volumes.count), "snapshots": int(snapshots.count), "gigabytes": int(volumes.gib + snapshots.gib)
    }


def used_beside(tx: Tx, project_id: str) -> dict[str, int]:
    """Backups, the gigabytes of their volumes, and groups that a project has."""
    backups: Any = tx.first(_BACKUPS, {"project": project_id})
    groups: int = tx.scalar(_GROUPS, {"project": project_id})
    return {"backups": int(backups.count), "backup_gigabytes": int(backups.gib), "groups": groups}


def room_beside(tx: Tx, cloud: Cloud, project_id: str, **wanted: int) -> None:
    """The same as `room` for `backups`, `backup_gigabytes` and `groups`."""
    tx.serialize(f"volume quota {project_id}")
    _check(_limits(tx, cloud, project_id), used_beside(tx, project_id), wanted, "")


def room(tx: Tx, cloud: Cloud, project_id: str, type_id: str | None = None, **wanted: int) -> None:
    """Make sure that the project may have so many more `volumes`, `snapshots`, `gigabytes`, all in all and of the type.

    Counts until the commit of this transaction. Raises OverLimit (413) with the text that Cinder's users know."""
    tx.serialize(f"volume quota {project_id}")
    _check(_limits(tx, cloud, project_id), used(tx, project_id), wanted, "")
    room_of_type(tx, cloud, project_id, type_id, **wanted)


def room_of_type(tx: Tx, cloud: Cloud, project_id: str, type_id: str | None, **wanted: int) -> None:
    """The same for the type alone: a volume of another type becomes one of this."""
    tx.serialize(f"volume quota {project_id}")
    allowed = _limits(tx, cloud, project_id)
    found = volume_types.info(tx, type_id) if type_id else None
    if found is not None and any(allowed.get(f"{name}_{found.name}", -1) >= 0 for name in wanted):
        _check(allowed, used(tx, project_id, found.id), wanted, f"_{found.name}")


def size(tx: Tx, cloud: Cloud, project_id: str, gib: int) -> None:
    """Raises OverLimit when a single volume must not be so large."""
    most = _limits(tx, cloud, project_id).get("per_volume_gigabytes", -1)
    if 0 <= most < gib:
        raise OverLimit(f"Requested volume size {gib}G is larger than maximum allowed limit {most}G.")


def _limits(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    """A project's limits, which hold to the end of the transaction: a new volume asks for them three times."""
    name = f"volume limits {project_id}"
    found: dict[str, int] | None = tx.memo.get(name)
    if found is None:
        found = tx.memo[name] = quotas.limits(tx, cloud, project_id)
    return found


def _check(allowed: Mapping[str, int], taken: Mapping[str, int], wanted: Mapping[str, int], suffix: str) -> None:
    for name, more in wanted.items():
        most = allowed.get(name + suffix, -1)
        if more <= 0 or not 0 <= most < taken[name] + more:
            continue
        if name in ("gigabytes", "backup_gigabytes"):
            what = "volume or snapshot" if name == "gigabytes" else "backup"
            raise OverLimit(
                f"Requested {what} exceeds allowed {name + suffix} quota. Requested {more}G, quota is "
                f"{most}G and {taken[name]}G has been consumed."
            )
        raise OverLimit(
            f"Maximum number of {name} allowed ({most}) exceeded for quota '{name + suffix}'."
        )
