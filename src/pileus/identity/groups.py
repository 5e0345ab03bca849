"""Groups of users and who is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, domains, listing, removal, users
from pileus.identity.policy import target
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_people import GroupChange, GroupNew
from pileus.identity.tables import group, group_member, user
from pileus.identity.views import collection, group_view, user_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, group_id: str) -> Any:
    """The row of a group. Raises NotFound."""
    row = tx.first(sa.select(group).where(group.c.id == group_id))
    if row is None:
        raise NotFound(f"Could not find group: {group_id}.")
    return row


def _allowed(call: Call, rule: str) -> Any:
    row = call.tx.first(sa.select(group).where(group.c.id == call.params["group_id"]))
    call.enforce(rule, **target(group=row))
    return row if row is not None else get(call.tx, call.params["group_id"])


def _check_name(tx: Tx, domain_id: str, name: str) -> None:
    here = sa.and_(group.c.domain_id == domain_id, group.c.name == name)
    if tx.first(sa.select(group.c.id).where(here)) is not None:
        raise Conflict(f"Conflict occurred attempting to store group - Duplicate entry found with name {name} at "
                       f"domain ID {domain_id}.")


def create(call: Call) -> dict[str, Any]:
    """POST /v3/groups: 201."""
    new, extra = split_extra(GroupNew, call.body.group)
    found = new.domain_id or call.context.domain_id or call.context.project_domain_id or "default"
    call.enforce("identity:create_group", **{"target.group.domain_id": found})
    domain_id = domains.of_new(call, call.tx, new.domain_id)
    _check_name(call.tx, domain_id, new.name)
    group_id = call.cloud.world.hex_id()
    call.tx.execute(group.insert().values(
        id=group_id, name=new.name, domain_id=domain_id, description=new.description or "", extra=extra,
    ))
    return {"group": group_view(call, get(call.tx, group_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/groups: 200. A domain-scoped token lists its domain's groups only."""
    own = call.context.domain_id
    call.enforce("identity:list_groups", **({"target.group.domain_id": own} if own else {}))
    statement = sa.select(group)
    if own:
        statement = statement.where(group.c.domain_id == own)
    filters = {"id": group.c.id, "name": group.c.name, "domain_id": group.c.domain_id}
    page = listing.find(call, group, filters, statement)
    return collection(call, "groups", [group_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/groups/{group_id}: 200."""
    return {"group": group_view(call, _allowed(call, "identity:get_group"))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/groups/{group_id}: 200."""
    row = _allowed(call, "identity:update_group")
    same_id(call.body.group, row.id)
    change, extra = split_extra(GroupChange, call.body.group)
    if change.domain_id not in (UNSET, row.domain_id):
        raise BadRequest("The domain of a group cannot be changed.")
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    if change.name is not UNSET and change.name != row.name:
        _check_name(call.tx, row.domain_id, change.name)
        values["name"] = change.name
    if change.description is not UNSET:
        values["description"] = change.description or ""
    call.tx.execute(group.update().where(group.c.id == row.id).values(**values))
    return {"group": group_view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/groups/{group_id}: 204."""
    row = _allowed(call, "identity:delete_group")
    removal.remove_groups(call.tx, [row.id])


# -- membership


class Membership(msgspec.Struct):
    """Both ends of a membership."""

    group: Any
    user: Any


def _pair(call: Call, rule: str) -> Membership:
    """Group and user of the path. Raises Forbidden before NotFound."""
    row = call.tx.first(sa.select(group).where(group.c.id == call.params["group_id"]))
    who = call.tx.first(sa.select(user).where(user.c.id == call.params["user_id"]))
    call.enforce(rule, **target(group=row, user=who))
    return Membership(get(call.tx, call.params["group_id"]), users.get(call.tx, call.params["user_id"]))


def _is_member(tx: Tx, found: Membership) -> bool:
    here = sa.and_(group_member.c.group_id == found.group.id, group_member.c.user_id == found.user.id)
    return tx.first(sa.select(group_member).where(here)) is not None


def members(call: Call) -> dict[str, Any]:
    """GET /v3/groups/{group_id}/users: 200."""
    row = _allowed(call, "identity:list_users_in_group")
    inside = sa.select(group_member.c.user_id).where(group_member.c.group_id == row.id)
    statement = sa.select(user).where(user.c.id.in_(inside), users.by_password_expiry(call))
    if call.context.domain_id:
        statement = statement.where(user.c.domain_id == call.context.domain_id)
    filters = {"name": user.c.name, "enabled": user.c.enabled, "domain_id": user.c.domain_id}
    page = listing.find(call, user, filters, statement)
    return collection(call, "users", [user_view(call, found) for found in page.rows], page.next)


def add_member(call: Call) -> None:
    """PUT /v3/groups/{group_id}/users/{user_id}: 204, also when the user is in it already."""
    found = _pair(call, "identity:add_user_to_group")
    if not _is_member(call.tx, found):
        call.tx.execute(group_member.insert().values(group_id=found.group.id, user_id=found.user.id))
        claims.changed(call.tx)


def has_member(call: Call) -> None:
    """GET and HEAD /v3/groups/{group_id}/users/{user_id}: 204, or 404."""
    found = _pair(call, "identity:check_user_in_group")
    if not _is_member(call.tx, found):
        raise NotFound(f"User {found.user.id} is not a member of group {found.group.id}.")


def remove_member(call: Call) -> None:
    """DELETE /v3/groups/{group_id}/users/{user_id}: 204, or 404."""
    found = _pair(call, "identity:remove_user_from_group")
    if not _is_member(call.tx, found):
        raise NotFound(f"User {found.user.id} is not a member of group {found.group.id}.")
    call.tx.execute(group_member.delete().where(
        group_member.c.group_id == found.group.id, group_member.c.user_id == found.user.id
    ))
    claims.changed(call.tx)
