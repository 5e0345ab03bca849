"""Users: created, listed, changed, removed. What a caller sends beyond the known attributes is kept and returned.

Passwords are hashed off the event loop and outside of transactions, so the handlers that may carry one are
coroutines of three steps: check, hash, write.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, domains, listing, options, passwords, removal
from pileus.identity.policy import target
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_people import UserChange, UserNew
from pileus.identity.tables import group, group_member, user
from pileus.identity.views import collection, group_view, user_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.world import parse_iso

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, user_id: str) -> Any:
    """The row of a user. Raises NotFound."""
    row = tx.first(sa.select(user).where(user.c.id == user_id))
    if row is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return row


def allowed(call: Call, tx: Tx, rule: str) -> Any:
    """The user of the path, if the caller passes the rule. Raises Forbidden before NotFound."""
    user_id = call.params["user_id"]
    row = tx.first(sa.select(user).where(user.c.id == user_id))
    call.enforce(rule, user_id=user_id, **target(user=row))
    return row if row is not None else get(tx, user_id)


def _check_name(tx: Tx, domain_id: str, name: str) -> None:
    here = sa.and_(user.c.domain_id == domain_id, user.c.name == name)
    if tx.first(sa.select(user.c.id).where(here)) is not None:
        raise Conflict(f"Conflict occurred attempting to store user - Duplicate entry found with name {name} at "
                       f"domain ID {domain_id}.")


async def create(call: Call) -> dict[str, Any]:
    """POST /v3/users: 201."""
    new, extra = split_extra(UserNew, call.body.user)

    def check(tx: Tx) -> str:
        found = new.domain_id or call.context.domain_id or call.context.project_domain_id or "default"
        call.enforce("identity:create_user", **{"target.user.domain_id": found, "target.user.name": new.name})
        domain_id = domains.of_new(call, tx, new.domain_id)
        _check_name(tx, domain_id, new.name)
        return domain_id

    domain_id = await call.db.run(check, write=False)
    hashed = None
    if new.password is not None:
        passwords.check_rules(call.cloud, new.password)
        hashed = await passwords.make_hash(call.cloud, new.password)
    return await call.db.run(lambda tx: _insert(tx, call, new, extra, domain_id, hashed))


def _insert(
    tx: Tx, call: Call, new: UserNew, extra: dict[str, Any], domain_id: str, hashed: str | None
) -> dict[str, Any]:
    _check_name(tx, domain_id, new.name)
    user_id = call.cloud.world.hex_id()
    chosen = options.merge({}, new.options)
    tx.execute(user.insert().values(
        id=user_id, name=new.name, domain_id=domain_id, enabled=new.enabled, description=new.description,
        default_project_id=new.default_project_id, created=call.now, options=chosen, extra=extra, tokens_from=0.0,
        failures=0,
    ))
    if hashed is not None:
        passwords.store(tx, call.cloud, user_id, hashed, chosen)
    return {"user": user_view(call, get(tx, user_id))}


_EXPIRY = {
    "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge, "eq": operator.eq, "neq": operator.ne,
}


def by_password_expiry(call: Call) -> sa.ColumnElement[bool]:
    """The filter `password_expires_at=lt:2030-01-01T00:00:00Z`. Raises BadRequest when it cannot be read."""
    clauses: list[sa.ColumnElement[bool]] = []
    for name, text in call.query_pairs:
        if name != "password_expires_at":
            continue
        comparison, _, moment = text.partition(":")
        try:
            clauses.append(_EXPIRY[comparison](user.c.password_expires, parse_iso(moment)))
        except (KeyError, ValueError):
            raise BadRequest("password_expires_at is filtered by OPERATOR:TIME, with lt, lte, gt, gte, eq or neq and "
                             "a time such as 2030-01-01T00:00:00Z.") from None
    return sa.and_(sa.true(), *clauses)


_FILTERS: dict[str, sa.ColumnElement[Any]] = {
    "id": user.c.id, "name": user.c.name, "domain_id": user.c.domain_id, "enabled": user.c.enabled,
    "default_project_id": user.c.default_project_id,
}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/users: 200. A domain-scoped token lists its domain's users only."""
    own = call.context.domain_id
    call.enforce("identity:list_users", **({"target.domain_id": own} if own else {}))
    statement = sa.select(user).where(by_password_expiry(call))
    if own:
        statement = statement.where(user.c.domain_id == own)
    page = listing.find(call, user, _FILTERS, statement)
    return collection(call, "users", [user_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}: 200."""
    return {"user": user_view(call, allowed(call, call.tx, "identity:get_user"))}


async def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/users/{user_id}: 200. A new password or `enabled: false` voids the user's tokens."""
    change, extra = split_extra(UserChange, call.body.user)

    def check(tx: Tx) -> Any:
        row = allowed(call, tx, "identity:update_user")
        same_id(call.body.user, row.id)
        if change.domain_id not in (UNSET, row.domain_id):
            raise BadRequest("The domain of a user cannot be changed.")
        return row

    row = await call.db.run(check, write=False)
    hashed = None
    if isinstance(change.password, str):
        passwords.check_rules(call.cloud, change.password)
        hashed = await passwords.make_hash(call.cloud, change.password)
    return await call.db.run(lambda tx: _change(tx, call, row.id, change, extra, hashed))


def _change(
    tx: Tx, call: Call, user_id: str, change: UserChange, extra: dict[str, Any], hashed: str | None
) -> dict[str, Any]:
    row = get(tx, user_id)
    given = msgspec.structs.asdict(change)
    values: dict[str, Any] = {
        name: given[name] for name in ("name", "default_project_id", "description", "enabled")
        if given[name] is not UNSET
    }
    if values.get("name", row.name) != row.name:
        _check_name(tx, row.domain_id, values["name"])
    values["extra"] = {**row.extra, **extra}
    values["options"] = options.merge(row.options, change.options)
    if values.get("enabled") is False:
        values["tokens_from"] = call.now
    elif values.get("enabled") is True and not row.enabled:
        values.update(failures=0, failed_at=None)
    tx.execute(user.update().where(user.c.id == user_id).values(**values))
    if hashed is not None:
        passwords.store(tx, call.cloud, user_id, hashed, values["options"])
    elif change.password is None:
        passwords.clear(tx, call.cloud, user_id)
    if hashed is not None or change.password is None or values.get("enabled") is False:
        tx.after_commit(lambda: passwords.memory(call.cloud).forget(user_id))
    claims.changed(tx)
    return {"user": user_view(call, get(tx, user_id))}


def delete(call: Call) -> None:
    """DELETE /v3/users/{user_id}: 204, with assignments, memberships, credentials and trusts."""
    row = allowed(call, call.tx, "identity:delete_user")
    removal.remove_users(call.tx, [row.id])
    call.tx.after_commit(lambda: passwords.memory(call.cloud).forget(row.id))


def groups_of(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/groups: 200."""
    row = allowed(call, call.tx, "identity:list_groups_for_user")
    mine = sa.select(group_member.c.group_id).where(group_member.c.user_id == row.id)
    statement = sa.select(group).where(group.c.id.in_(mine))
    if call.context.domain_id:
        statement = statement.where(group.c.domain_id == call.context.domain_id)
    page = listing.find(call, group, {"name": group.c.name}, statement)
    return collection(call, "groups", [group_view(call, found) for found in page.rows], page.next)
