"""Quotas: how much projects and their users may have, what they have, and the defaults.

A limit of -1 is none. A user's limit is never above his project's; without one of his own he has the project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute.schemas_rest import QuotaChange, number
from pileus.compute.tables import keypair, quota, quota_class, server, server_group
from pileus.identity import projects
from pileus.network import quotas as network_quotas
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound, OverQuota
from pileus.web.schemas import as_bool
from pileus.web.versions import Version
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

DEFAULTS: dict[str, int] = {
    "instances": 10, "cores": 20, "ram": 50 * 1024, "metadata_items": 128, "injected_files": 5,
    "injected_file_content_bytes": 10 * 1024, "injected_file_path_bytes": 255, "key_pairs": 100,
    "server_groups": 10, "server_group_members": 10,
}
"""Nova's own defaults. What belongs to the network has no limit here: the network service has its own."""

_NETWORK = ("floating_ips", "fixed_ips", "security_groups", "security_group_rules")
_INJECTED = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_COUNTED = ("instances", "cores", "ram")


def _limits_of(
    *names: str, since: Version = (0, 0), until: Version = (10**9, 0)
) -> tuple[Field, ...]:
    return tuple(Field(name, itemgetter(name), since=since, until=until) for name in names)


_FIELDS = (
    *_limits_of("instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"),
    *_limits_of(*_NETWORK, until=(2, 35)),
    *_limits_of(*_INJECTED, until=(2, 56)),
)
_SET = View(*_FIELDS)
_CLASS = View(
    *_limits_of("instances", "cores", "ram", "metadata_items", "key_pairs"),
    *_limits_of("server_groups", "server_group_members", since=(2, 50)),
    *_limits_of(*_NETWORK, until=(2, 49)),
    *_limits_of(*_INJECTED, until=(2, 56)),
)

# -- for other modules

_OF_CLASS = sa.select(quota_class.c.resource, quota_class.c.limit).where(quota_class.c.name == sa.bindparam("name"))
_OF_PROJECT = sa.select(quota.c.resource, quota.c.limit).where(
    quota.c.project_id == sa.bindparam("project"), quota.c.user_id == sa.bindparam("user")
)
_USED = sa.select(
    sa.func.count().label("instances"), sa.func.coalesce(sa.func.sum(server.c.vcpus), 0).label("cores"),
    sa.func.coalesce(sa.func.sum(server.c.ram), 0).label("ram"),
).where(server.c.project_id == sa.bindparam("project"), server.c.deleted.is_(False))


def defaults(tx: Tx, name: str = "default") -> dict[str, int]:
    """The limits of projects that have none of their own."""
    found = {**DEFAULTS, **dict.fromkeys(_NETWORK, -1)}
    found.update((row.resource, row.limit) for row in tx.all(_OF_CLASS, {"name": name}))
    return found


def limits(tx: Tx, cloud: Cloud, project_id: str, user_id: str = "") -> dict[str, int]:
    """The limits of a project by resource, or of one of its users."""
    found = defaults(tx)
    found.update((row.resource, row.limit) for row in tx.all(_OF_PROJECT, {"project": project_id, "user": ""}))
    if user_id:
        own = tx.all(_OF_PROJECT, {"project": project_id, "user": user_id})
        found.update((row.resource, row.limit) for row in own)
    return found


def used(tx: Tx, project_id: str, user_id: str = "") -> dict[str, int]:
    """What a project has of instances, cores and ram (MiB), or one user in it."""
    statement = _USED.where(server.c.user_id == user_id) if user_id else _USED
    row = tx.execute(statement, {"project": project_id}).one()
    return {"instances": int(row.instances), "cores": int(row.cores), "ram": int(row.ram)}


def network_used(tx: Tx, project_id: str) -> dict[str, int]:
    """What a project has of the network's resources that compute's oldest replies count."""
    return {
        "floating_ips": network_quotas.used(tx, project_id, "floatingip"),
        "security_groups": network_quotas.used(tx, project_id, "security_group"),
    }


def room(tx: Tx, cloud: Cloud, project_id: str, wanted: Mapping[str, int], user_id: str = "") -> None:
    """Make sure that the project, and the user where he has limits of his own, may have `wanted` more.

    Counts until the commit of this transaction. Raises OverQuota (403) with the text that Nova's users know."""
    tx.serialize(f"compute quota {project_id}")
    _check(limits(tx, cloud, project_id), used(tx, project_id), wanted)
    if user_id:
        own = {row.resource: row.limit for row in tx.all(_OF_PROJECT, {"project": project_id, "user": user_id})}
        if own:
            _check(own, used(tx, project_id, user_id), wanted)


def _check(allowed: Mapping[str, int], taken: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    over = [
        name for name in _COUNTED
        if wanted.get(name, 0) > 0 and name in allowed and 0 <= allowed[name] < taken[name] + wanted[name]
    ]
    if over:
        raise OverQuota("Quota exceeded for {}: Requested {}, but already used {} of {} {}".format(
            ",".join(over), ", ".join(str(wanted[n]) for n in over), ", ".join(str(taken[n]) for n in over),
            ", ".join(str(allowed[n]) for n in over), ",".join(over),
        ))


# -- handlers: GET and PUT /os-quota-sets


def _project(call: Call) -> str:
    project_id = call.params["project_id"]
    call.enforce(_RULE[call.method], project_id=project_id)
    if not projects.exists(call.tx, project_id):
        raise BadRequest(f"Project ID {project_id} is not a valid project.")
    return project_id


_RULE = {
    "GET": "os_compute_api:os-quota-sets:show", "HEAD": "os_compute_api:os-quota-sets:show",
    "PUT": "os_compute_api:os-quota-sets:update",
}


def show(call: Call) -> dict[str, Any]:
    """GET /os-quota-sets/{project_id}: 200. A project's own members may look."""
    project_id = _project(call)
    found = limits(call.tx, call.cloud, project_id, call.query.user_id or "")
    return {"quota_set": {"id": project_id, **_SET.render(found, call.version)}}


def show_defaults(call: Call) -> dict[str, Any]:
    """GET /os-quota-sets/{project_id}/defaults: 200."""
    project_id = call.params["project_id"]
    if not projects.exists(call.tx, project_id):
        raise BadRequest(f"Project ID {project_id} is not a valid project.")
    return {"quota_set": {"id": project_id, **_SET.render(defaults(call.tx), call.version)}}


def detail(call: Call) -> dict[str, Any]:
    """GET /os-quota-sets/{project_id}/detail: 200, limits with what is in use. Members of the project may look."""
    project_id = _project(call)
    user_id = call.query.user_id or ""
    taken = _all_used(call, project_id, user_id)
    found = {
        name: {"limit": limit, "in_use": taken.get(name, 0), "reserved": 0}
        for name, limit in limits(call.tx, call.cloud, project_id, user_id).items()
    }
    return {"quota_set": {"id": project_id, **_SET.render(found, call.version)}}


def _all_used(call: Call, project_id: str, user_id: str) -> dict[str, int]:
    groups = sa.select(sa.func.count()).where(server_group.c.project_id == project_id)
    taken = used(call.tx, project_id, user_id)
    if user_id:
        groups = groups.where(server_group.c.user_id == user_id)
        taken["key_pairs"] = call.tx.scalar(sa.select(sa.func.count()).where(keypair.c.user_id == user_id))
    return {**taken, **network_used(call.tx, project_id), "server_groups": call.tx.scalar(groups)}


def update(call: Call) -> dict[str, Any]:
    """PUT /os-quota-sets/{project_id}: 200. Below what is in use only with `force`."""
    project_id = _project(call)
    user_id = call.query.user_id or ""
    body: QuotaChange = call.body.quota_set
    taken = {} if as_bool(body.force) else _all_used(call, project_id, user_id)
    whole = limits(call.tx, call.cloud, project_id)
    for name, limit in _given(body).items():
        if limit != -1 and limit < taken.get(name, 0):
            raise BadRequest(f"Quota limit {limit} for {name} must be greater than or equal to already used and "
                             f"reserved {taken[name]}.")
        if user_id and not as_bool(body.force) and whole[name] != -1 and (limit == -1 or limit > whole[name]):
            raise BadRequest(f"Quota limit {limit} for {name} must be less than or equal to {whole[name]}.")
        here = (quota.c.project_id == project_id, quota.c.user_id == user_id, quota.c.resource == name)
        call.tx.execute(quota.delete().where(*here))
        call.tx.execute(quota.insert().values(project_id=project_id, user_id=user_id, resource=name, limit=limit))
    found = limits(call.tx, call.cloud, project_id, user_id)
    return {"quota_set": _SET.render(found, call.version)}


def _given(body: Any) -> dict[str, int]:
    names = (*DEFAULTS, *_NETWORK)
    return {
        name: number(getattr(body, name), name, -1) for name in names if getattr(body, name) is not UNSET
    }


def delete(call: Call) -> None:
    """DELETE /os-quota-sets/{project_id}: 202. The project, or one user in it, has the defaults again."""
    here = [quota.c.project_id == call.params["project_id"]]
    if call.query.user_id:
        here.append(quota.c.user_id == call.query.user_id)
    call.tx.execute(quota.delete().where(*here))


# -- handlers: /os-quota-class-sets


def show_class(call: Call) -> dict[str, Any]:
    """GET /os-quota-class-sets/{name}: 200. Only `default` is in force; others can be kept."""
    name = call.params["name"]
    return {"quota_class_set": {"id": name, **_CLASS.render(defaults(call.tx, name), call.version)}}


def update_class(call: Call) -> dict[str, Any]:
    """PUT /os-quota-class-sets/{name}: 200."""
    name = call.params["name"]
    if len(name) > 255:
        raise NotFound("A quota class's name has at most 255 characters.")
    for resource, limit in _given(call.body.quota_class_set).items():
        call.tx.execute(quota_class.delete().where(quota_class.c.name == name, quota_class.c.resource == resource))
        call.tx.execute(quota_class.insert().values(name=name, resource=resource, limit=limit))
    return {"quota_class_set": _CLASS.render(defaults(call.tx, name), call.version)}
