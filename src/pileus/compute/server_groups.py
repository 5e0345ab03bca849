"""Server groups: servers that shall, or shall not, be on the same node. Members are servers with the group's id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute import quotas
from pileus.compute.schemas_rest import GroupNew, GroupQuery, number
from pileus.compute.tables import server, server_group
from pileus.compute.views_rest import page_size
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Forbidden, NotFound, OverQuota
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A server group. `policy` is affinity, anti-affinity, soft-affinity or soft-anti-affinity."""

    id: str
    name: str
    project_id: str
    user_id: str
    policy: str
    rules: dict[str, int]  # max_server_per_host
    members: list[str]  # ids of its servers that exist


_VIEW = View(
    "id", "name", "members", Field("project_id", since=(2, 13)), Field("user_id", since=(2, 13)),
    Field("policies", lambda group: [group.policy], until=(2, 63)), Field("metadata", lambda group: {}, until=(2, 63)),
    Field("policy", since=(2, 64)), Field("rules", since=(2, 64)),
)

# -- for other modules


def find(tx: Tx, project_id: str | None, group_id: str) -> Group:
    """A group of this project, or of any with None. Raises NotFound."""
    row = tx.first(sa.select(server_group).where(server_group.c.id == group_id))
    if row is None or project_id not in (None, row.project_id):
        raise NotFound(f"Instance group {group_id} could not be found.")
    return _read(tx, [row])[0]


def room(tx: Tx, cloud: Cloud, group: Group, wanted: int = 1) -> None:
    """Make sure that `wanted` more servers may join. Raises OverQuota."""
    most = quotas.limits(tx, cloud, group.project_id)["server_group_members"]
    if 0 <= most < len(group.members) + wanted:
        raise OverQuota("Quota exceeded, too many servers in group.")


def _read(tx: Tx, rows: Any) -> list[Group]:
    members: dict[str, list[str]] = {row.id: [] for row in rows}
    inside = sa.select(server.c.id, server.c.group_id).where(
        server.c.group_id.in_(members), server.c.deleted.is_(False)
    ).order_by(server.c.seq)
    for row in tx.all(inside):
        members[row.group_id].append(row.id)
    return [
        Group(id=row.id, name=row.name, project_id=row.project_id, user_id=row.user_id, policy=row.policy,
              rules=row.rules, members=members[row.id])
        for row in rows
    ]


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /os-server-groups: 200; `all_projects` is for administrators."""
    query: GroupQuery = call.query
    statement = sa.select(server_group).order_by(server_group.c.seq).offset(query.offset).limit(page_size(query.limit))
    if query.all_projects is None or not call.allows("os_compute_api:os-server-groups:index:all_projects"):
        statement = statement.where(server_group.c.project_id == call.context.project_id)
    return {"server_groups": _VIEW.render_all(_read(call.tx, call.tx.all(statement)), call.version)}


def _find(call: Call, action: str) -> Group:
    group = find(call.tx, None, call.params["group_id"])
    rule = f"os_compute_api:os-server-groups:{action}"
    if group.project_id != call.context.project_id and not call.allows(rule, project_id=group.project_id):
        raise NotFound(f"Instance group {group.id} could not be found.")
    call.enforce(rule, project_id=group.project_id)
    return group


def show(call: Call) -> dict[str, Any]:
    """GET /os-server-groups/{group_id}: 200. Members of its project and administrators see it."""
    return {"server_group": _VIEW.render(_find(call, "show"), call.version)}


def create(call: Call) -> dict[str, Any]:
    """POST /os-server-groups: 200."""
    new: GroupNew = call.body.server_group
    if call.context.project_id is None:
        raise Forbidden("A server group belongs to a project: use a token with a project's scope.")
    policy = new.policies[0] if new.policies is not UNSET else new.policy
    if policy is UNSET:
        raise BadRequest("Invalid input: a policy is required.")
    if policy.startswith("soft-") and (call.version or (2, 1)) < (2, 15):
        raise BadRequest(f"Invalid input: the policy {policy} exists from 2.15 on.")
    rules = _rules(policy, new)
    _check_room(call, call.context.project_id)
    group_id = call.cloud.world.uuid()
    call.tx.execute(server_group.insert().values(
        id=group_id, name=new.name, project_id=call.context.project_id, user_id=call.context.user_id, policy=policy,
        rules=rules, created=call.now,
    ))
    return {"server_group": _VIEW.render(find(call.tx, None, group_id), call.version)}


def _rules(policy: str, new: GroupNew) -> dict[str, int]:
    if new.rules is UNSET or new.rules.max_server_per_host is UNSET:
        return {}
    if policy != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    return {"max_server_per_host": number(new.rules.max_server_per_host, "max_server_per_host", 1)}


def _check_room(call: Call, project_id: str) -> None:
    call.tx.serialize(f"compute groups {project_id}")
    most = quotas.limits(call.tx, call.cloud, project_id)["server_groups"]
    has = call.tx.scalar(sa.select(sa.func.count()).where(server_group.c.project_id == project_id))
    if 0 <= most <= has:
        raise OverQuota("Quota exceeded, too many server groups.")


def delete(call: Call) -> None:
    """DELETE /os-server-groups/{group_id}: 204. Its servers stay, and are free of the policy."""
    group = _find(call, "delete")
    call.tx.execute(server.update().where(server.c.group_id == group.id).values(group_id=None))
    call.tx.execute(server_group.delete().where(server_group.c.id == group.id))
