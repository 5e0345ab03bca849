"""Security groups. Every project has one named `default`, made when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.auth.context import Context
from pileus.network import lists, quotas, sharing, tags, touch, views
from pileus.network.faults import conflict, not_found
from pileus.network.schemas import SecurityGroupChange, SecurityGroupNew
from pileus.network.tables import port_group, security_group, security_group_rule
from pileus.web.call import Call
from pileus.web.errors import Conflict
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_c = security_group.c
_r = security_group_rule.c

_DEFAULT = sa.select(_c.id).where(_c.default_of == sa.bindparam("p"))


# -- for other modules and rooms


def ensure_default(tx: Tx, cloud: Cloud, project_id: str) -> str:
    """The id of the project's default group, made with Neutron's rules when it is missing: everything may
    leave, and only members of the group may come in."""
    found: str | None = tx.scalar(_DEFAULT, {"p": project_id})
    if found is not None:
        return found
    try:
        with tx.savepoint():
            return insert(tx, cloud, project_id, "default", "Default security group", True, default=True)
    except sa.exc.IntegrityError:
        return str(tx.scalar(_DEFAULT, {"p": project_id}))


def resolve(tx: Tx, cloud: Cloud, context: Context, names_or_ids: Sequence[str]) -> list[str]:
    """The ids of groups of the context's project, named by name or id, in order, without repeats.

    Raises NotFound, and Conflict where a name is not unique. None named: the default group."""
    project_id = context.project_id or ""
    default = ensure_default(tx, cloud, project_id)
    if not names_or_ids:
        return [default]
    rows = tx.all(
        sa.select(_c.id, _c.name).where(
            _c.project_id == project_id, sa.or_(_c.id.in_(names_or_ids), _c.name.in_(names_or_ids))
        )
    )
    found: dict[str, None] = {}
    for wanted in names_or_ids:
        ids = [row.id for row in rows if row.id == wanted] or [row.id for row in rows if row.name == wanted]
        if not ids:
            raise _missing(wanted)
        if len(ids) > 1:
            raise Conflict(
                f"Multiple security_group matches found for name '{wanted}', use an ID to be more specific.",
                type="NoUniqueMatch",
            )
        found[ids[0]] = None
    return list(found)


def _missing(identity: str) -> Exception:
    return not_found("SecurityGroupNotFound", "Security group", identity)


def check_ids(tx: Tx, context: Context, ids: Sequence[str], project_id: str) -> list[str]:
    """Groups that a port of the project may be in. Raises NotFound for any other."""
    if not ids:
        return []
    mine = sa.select(_c.id).where(_c.id.in_(ids))
    if not context.is_admin:
        mine = mine.where(_c.project_id.in_([project_id, sharing.own(context)]))
    here = set(tx.scalars(mine))
    for identity in ids:
        if identity not in here:
            raise _missing(identity)
    return list(dict.fromkeys(ids))


def names_of(tx: Tx, ids: Sequence[str]) -> dict[str, str]:
    """The names of groups by id."""
    return {row.id: row.name for row in tx.all(sa.select(_c.id, _c.name).where(_c.id.in_(ids)))}


def insert(
    tx: Tx, cloud: Cloud, project_id: str, name: str, description: str, stateful: bool, default: bool = False
) -> str:
    """Make a group with the rules that a new one has; its id."""
    now = cloud.world.now()
    identity = cloud.world.uuid()
    tx.execute(security_group.insert(), {
        "id": identity, "project_id": project_id, "description": description, "created": now, "updated": now,
        "revision": 1, "name": name, "stateful": stateful, "default_of": project_id if default else None,
    })
    rules = []
    for ethertype in ("IPv4", "IPv6"):
        directions = (("ingress", identity), ("egress", None)) if default else (("egress", None),)
        for direction, remote in directions:
            rules.append({
                "id": cloud.world.uuid(), "project_id": project_id, "description": "", "created": now,
                "updated": now, "revision": 0, "security_group_id": identity, "direction": direction,
                "ethertype": ethertype, "protocol": None, "port_range_min": None, "port_range_max": None,
                "remote_group_id": remote, "remote_ip_prefix": None,
                "identity": sameness(direction, ethertype, None, None, None, remote, None),
            })
    tx.execute(security_group_rule.insert(), rules)
    return identity


def sameness(
    direction: str, ethertype: str, protocol: str | None, low: int | None, high: int | None,
    group: str | None, prefix: str | None,
) -> str:
    """What makes two rules of a group the same."""
    return "|".join("" if v is None else str(v) for v in (direction, ethertype, protocol, low, high, group, prefix))


# -- the noun


def _visible(call: Call) -> lists.Clause:
    return _c.project_id == sharing.own(call.context)


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    named = tags.of(call.tx, ids)
    rules: dict[str, list[dict[str, Any]]] = {}
    statement = sa.select(security_group_rule).order_by(_r.created, _r.id)
    for at in range(0, len(ids), 5000):
        for rule in call.tx.all(statement.where(_r.security_group_id.in_(ids[at : at + 5000]))):
            rules.setdefault(rule.security_group_id, []).append(views.rule(rule))
    return [views.security_group(row, rules.get(row.id, []), named.get(row.id, [])) for row in rows]


def ensure_own_default(call: Call) -> None:
    """The caller's project has its default group from the first time that it looks."""
    if call.context.project_id:
        ensure_default(call.tx, call.cloud, call.context.project_id)


NOUN = lists.Noun(
    name="security_group", plural="security_groups", title="Security group", error="SecurityGroupNotFound",
    table=security_group, visible=_visible, render=_render, before_list=ensure_own_default,
    filters={
        **lists.standard(security_group), "stateful": lists.flag(_c.stateful),
        "shared": lambda call, values: sa.or_(*(sa.false() if as_bool(v) else sa.true() for v in values)),
    },
    sorts=lists.sorts(security_group, "name", "stateful"),
)


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/security-groups: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/security-groups/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/security-groups: 201."""
    return lists.create_all(call, NOUN, make)


def make(call: Call, new: SecurityGroupNew) -> str:
    """A new group of the caller's, for other rooms too; its id. Raises Forbidden, Conflict, OverQuota."""
    project_id = lists.owner(call, new, "create_security_group")
    ensure_default(call.tx, call.cloud, project_id)
    if new.name == "default":
        raise conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
    quotas.room(call.tx, call.cloud, project_id, {"security_group": 1})
    return insert(call.tx, call.cloud, project_id, new.name, new.description or "", as_bool(new.stateful))


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/security-groups/{id}: 200."""
    sent: SecurityGroupChange = call.body.security_group
    row = lists.find_for(call, NOUN, "update", call.params["id"])
    values = lists.given(sent)
    if row.default_of and values.get("name", row.name) != row.name:
        raise conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
    if values.get("name") == "default" and not row.default_of:
        raise conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
    if "description" in values:
        values["description"] = values["description"] or ""
    if "stateful" in values:
        values["stateful"] = as_bool(values["stateful"])
        if values["stateful"] != row.stateful and _used(call.tx, row.id):
            raise _in_use(row.id)
    lists.update(call, security_group, row.id, values)
    touch.security_groups(call.tx, call.cloud, [row.id])
    return lists.shown(call, NOUN, row.id)


def _used(tx: Tx, identity: str) -> bool:
    return tx.first(sa.select(port_group).where(port_group.c.group_id == identity).limit(1)) is not None


def _in_use(identity: str) -> Exception:
    return conflict("SecurityGroupInUse", f"Security Group {identity} in use.")


def delete(call: Call) -> None:
    """DELETE /v2.0/security-groups/{id}: 204. Only an administrator deletes a project's default group."""
    drop(call, call.params["id"])


def drop(call: Call, identity: str) -> None:
    """Delete a group, for other rooms too. Raises NotFound, Forbidden, Conflict."""
    row = lists.find_for(call, NOUN, "delete", identity)
    if row.default_of and not lists.is_admin(call):
        raise conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
    if _used(call.tx, row.id):
        raise _in_use(row.id)
    touch.security_groups(call.tx, call.cloud, [row.id])
    tags.drop(call.tx, row.id)
    call.tx.execute(security_group_rule.delete().where(sa.or_(
        _r.security_group_id == row.id, _r.remote_group_id == row.id
    )))
    call.tx.execute(security_group.delete().where(_c.id == row.id))
