"""Quotas: how much projects may have of volumes, all in all and of each volume type. `usage` has what they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity import projects
from pileus.volume import listing, volume_types
from pileus.volume.schemas_rest import MOST
from pileus.volume.tables_rest import quota, quota_class
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

DEFAULTS: dict[str, int] = {
    "volumes": 10, "snapshots": 10, "gigabytes": 1000, "per_volume_gigabytes": -1, "backups": 10,
    "backup_gigabytes": 1000, "groups": 10,
}
"""Cinder's own defaults."""

BY_TYPE = ("volumes", "snapshots", "gigabytes")
"""What has a limit for each volume type too, as `volumes_fast`; none unless it is set."""

_CLASS = "default"
"""The class whose limits are in force."""

_OF_CLASS = sa.select(quota_class).where(quota_class.c.name == sa.bindparam("name"))
_OF_PROJECT = sa.select(quota).where(quota.c.project_id == sa.bindparam("project"))

# -- for other modules


def limits(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    """The limits of a project by resource, those of volume types (`volumes_fast`) among them; -1 is none."""
    types = volume_types.names(tx)
    found = _defaults(tx, types, _CLASS)
    _set(found, types, tx.all(_OF_PROJECT, {"project": project_id}))
    return found


def defaults(tx: Tx, name: str = _CLASS) -> dict[str, int]:
    """The limits of projects that have none of their own, or those that another class would give."""
    return _defaults(tx, volume_types.names(tx), name)


def forget_type(tx: Tx, type_id: str) -> None:
    """A volume type is no more, and with it its limits."""
    tx.execute(quota.delete().where(quota.c.type_id == type_id))
    tx.execute(quota_class.delete().where(quota_class.c.type_id == type_id))


def _defaults(tx: Tx, types: dict[str, str], name: str) -> dict[str, int]:
    found = dict(DEFAULTS)
    found.update((f"{resource}_{kind}", -1) for kind in types.values() for resource in BY_TYPE)
    _set(found, types, tx.all(_OF_CLASS, {"name": name}))
    return found


def _set(found: dict[str, int], types: dict[str, str], rows: Any) -> None:
    for row in rows:
        if not row.type_id:
            found[row.resource] = row.limit
        elif row.type_id in types:
            found[f"{row.resource}_{types[row.type_id]}"] = row.limit


# -- handlers: /os-quota-sets


def show(call: Call) -> dict[str, Any]:
    """GET /os-quota-sets/{project_id}: 200; with usage=True also what is in use. The project's own members may look."""
    project_id = _project(call, "volume_extension:quotas:show")
    found = limits(call.tx, call.cloud, project_id)
    if not listing.flag(call.query.usage, "usage"):
        return {"quota_set": {"id": project_id, **found}}
    taken = in_use(call.tx, project_id)
    return {"quota_set": {"id": project_id, **{
        name: {"limit": limit, "in_use": taken.get(name, 0), "reserved": 0} for name, limit in found.items()
    }}}


def show_defaults(call: Call) -> dict[str, Any]:
    """GET /os-quota-sets/{project_id}/defaults: 200."""
    project_id = _project(call, "volume_extension:quotas:show")
    return {"quota_set": {"id": project_id, **defaults(call.tx)}}


def update(call: Call) -> dict[str, Any]:
    """PUT /os-quota-sets/{project_id}: 200. Below what is in use unless skip_validation=False forbids it."""
    project_id = _project(call, "volume_extension:quotas:update")
    checked = not listing.flag(call.query.skip_validation, "skip_validation")
    taken = in_use(call.tx, project_id) if checked else {}
    for name, (resource, type_id, limit) in _given(call, call.body.quota_set).items():
        if 0 <= limit < taken.get(name, 0):
            raise BadRequest(f"Quota limit {limit} for {name} is less than what is in use: {taken[name]}.")
        call.tx.execute(quota.delete().where(
            quota.c.project_id == project_id, quota.c.resource == resource, quota.c.type_id == type_id
        ))
        call.tx.execute(quota.insert().values(
            project_id=project_id, resource=resource, type_id=type_id, limit=limit
        ))
    return {"quota_set": limits(call.tx, call.cloud, project_id)}


def delete(call: Call) -> None:
    """DELETE /os-quota-sets/{project_id}: 200. The project has the defaults again."""
    project_id = call.params["project_id"]
    call.tx.execute(quota.delete().where(quota.c.project_id == project_id))


def in_use(tx: Tx, project_id: str) -> dict[str, int]:
    """What a project has, by the names of the limits."""
    from pileus.volume import usage

    taken = {**usage.used(tx, project_id), **usage.used_beside(tx, project_id)}
    for type_id, name in volume_types.names(tx).items():
        taken.update((f"{key}_{name}", value) for key, value in usage.used(tx, project_id, type_id).items()
                     if key in BY_TYPE)
    return taken


def _project(call: Call, rule: str) -> str:
    project_id = call.params["project_id"]
    call.enforce(rule, project_id=project_id)
    if not projects.exists(call.tx, project_id):
        raise NotFound(f"Project {project_id} could not be found.")
    return project_id


def _given(call: Call, body: dict[str, Any]) -> dict[str, tuple[str, str, int]]:
    """Resource, type id ("" for all) and limit by name. Raises BadRequest."""
    known = {name: (name, "") for name in DEFAULTS}
    for type_id, kind in volume_types.names(call.tx).items():
        known.update((f"{resource}_{kind}", (resource, type_id)) for resource in BY_TYPE)
    bad = sorted(name for name in body if name not in known and name not in ("tenant_id", "id"))
    if bad:
        raise BadRequest(f"Bad key(s) in quota set: {', '.join(bad)}.")
    return {name: (*known[name], _limit(name, value)) for name, value in body.items() if name in known}


def _limit(name: str, value: Any) -> int:
    try:
        meant = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        meant = None
    if meant is None or not -1 <= meant <= MOST:
        raise BadRequest(f"Invalid input received: the limit of {name} must be a number from -1 to {MOST}.")
    return meant


# -- handlers: /os-quota-class-sets


def show_class(call: Call) -> dict[str, Any]:
    """GET /os-quota-class-sets/{name}: 200. Only `default` is in force; others can be kept."""
    name = call.params["name"]
    return {"quota_class_set": {"id": name, **defaults(call.tx, name)}}


def update_class(call: Call) -> dict[str, Any]:
    """PUT /os-quota-class-sets/{name}: 200."""
    name = call.params["name"]
    if len(name) > 255:
        raise NotFound("A quota class's name has at most 255 characters.")
    for resource, type_id, limit in _given(call, call.body.quota_class_set).values():
        here = (quota_class.c.name == name, quota_class.c.resource == resource, quota_class.c.type_id == type_id)
        call.tx.execute(quota_class.delete().where(*here))
        call.tx.execute(quota_class.insert().values(name=name, resource=resource, type_id=type_id, limit=limit))
    return {"quota_class_set": defaults(call.tx, name)}
