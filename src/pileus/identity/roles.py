"""Roles, global and of a domain, and what they imply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, domains, listing, options, removal
from pileus.identity.policy import target
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_roles import RoleChange, RoleNew
from pileus.identity.tables import implied_role, role
from pileus.identity.views import collection, links, role_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, role_id: str) -> Any:
    """The row of a role. Raises NotFound."""
    row = tx.first(sa.select(role).where(role.c.id == role_id))
    if row is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return row


def by_name(tx: Tx, name: str) -> Any:
    """The global role of this name. Raises NotFound."""
    row = tx.first(sa.select(role).where(role.c.name == name, role.c.domain_id == ""))
    if row is None:
        raise NotFound(f"Could not find role: {name}.")
    return row


def rows_of(tx: Tx, ids: list[str]) -> list[Any]:
    """The rows of roles, by name; unknown ids are left out."""
    return list(tx.all(sa.select(role).where(role.c.id.in_(ids)).order_by(role.c.name, role.c.id)))


def _allowed(call: Call, verb: str) -> Any:
    """The role of the path, if the caller passes `verb` on it; domain roles have rules of their own."""
    row = call.tx.first(sa.select(role).where(role.c.id == call.params["role_id"]))
    kind = "domain_role" if row is not None and row.domain_id else "role"
    call.enforce(f"identity:{verb}_{kind}", **(target(role=row) if row is not None else {}))
    return row if row is not None else get(call.tx, call.params["role_id"])


def _check_name(tx: Tx, domain_id: str, name: str) -> None:
    if tx.first(sa.select(role.c.id).where(role.c.domain_id == domain_id, role.c.name == name)) is not None:
        raise Conflict(f"Conflict occurred attempting to store role - Duplicate entry found with name {name}.")


def create(call: Call) -> dict[str, Any]:
    """POST /v3/roles: 201; with domain_id a role that only implies others, within that domain."""
    new, extra = split_extra(RoleNew, call.body.role)
    call.enforce("identity:create_domain_role" if new.domain_id else "identity:create_role")
    if new.domain_id:
        domains.get(call.tx, new.domain_id)
    _check_name(call.tx, new.domain_id or "", new.name)
    role_id = call.cloud.world.hex_id()
    call.tx.execute(role.insert().values(
        id=role_id, name=new.name, domain_id=new.domain_id or "", description=new.description,
        options=options.merge({}, new.options), extra=extra,
    ))
    return {"role": role_view(call, get(call.tx, role_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/roles: 200; global roles, or with domain_id those of a domain."""
    domain_id = next((text for name, text in call.query_pairs if name == "domain_id"), "")
    call.enforce("identity:list_domain_roles" if domain_id else "identity:list_roles")
    statement = sa.select(role).where(role.c.domain_id == domain_id)
    page = listing.find(call, role, {"id": role.c.id, "name": role.c.name}, statement)
    rows = page.rows
    if not call.allows("admin_required") and not call.context.system and not domain_id:
        rows = [row for row in rows if call.allows("identity:get_role", **target(role=row))]
    return collection(call, "roles", [role_view(call, row) for row in rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/roles/{role_id}: 200."""
    return {"role": role_view(call, _allowed(call, "get"))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/roles/{role_id}: 200."""
    row = _allowed(call, "update")
    same_id(call.body.role, row.id)
    change, extra = split_extra(RoleChange, call.body.role)
    options.guard_change("role", row, change.options)
    if change.domain_id is not UNSET and (change.domain_id or "") != row.domain_id:
        raise BadRequest("The domain of a role cannot be changed.")
    values: dict[str, Any] = {"extra": {**row.extra, **extra}, "options": options.merge(row.options, change.options)}
    if change.name is not UNSET and change.name != row.name:
        _check_name(call.tx, row.domain_id, change.name)
        values["name"] = change.name
    if change.description is not UNSET:
        values["description"] = change.description
    call.tx.execute(role.update().where(role.c.id == row.id).values(**values))
    claims.changed(call.tx)
    return {"role": role_view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/roles/{role_id}: 204, with every assignment of it."""
    row = _allowed(call, "delete")
    options.guard_removal("role", row)
    removal.remove_roles(call.tx, [row.id])


# -- implied roles


def _short(call: Call, row: Any) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "links": links(call, "roles", row.id)}


def _inference(call: Call, prior: Any, implies: Any) -> dict[str, Any]:
    return {"role_inference": {"prior_role": _short(call, prior), "implies": implies}}


def _both(call: Call, rule: str) -> tuple[Any, Any]:
    call.enforce(rule)
    return get(call.tx, call.params["role_id"]), get(call.tx, call.params["implied_id"])


def _implies(tx: Tx, prior_id: str, implied_id: str) -> bool:
    here = sa.and_(implied_role.c.prior_id == prior_id, implied_role.c.implied_id == implied_id)
    return tx.first(sa.select(implied_role).where(here)) is not None


def list_implied(call: Call) -> dict[str, Any]:
    """GET /v3/roles/{role_id}/implies: 200."""
    call.enforce("identity:list_implied_roles")
    prior = get(call.tx, call.params["role_id"])
    ids = call.tx.scalars(sa.select(implied_role.c.implied_id).where(implied_role.c.prior_id == prior.id))
    found = _inference(call, prior, [_short(call, row) for row in rows_of(call.tx, ids)])
    return {**found, "links": links(call, "roles", prior.id, "implies")}


def show_implied(call: Call) -> dict[str, Any]:
    """GET /v3/roles/{role_id}/implies/{implied_id}: 200, or 404."""
    prior, implied = _both(call, "identity:get_implied_role")
    if not _implies(call.tx, prior.id, implied.id):
        raise NotFound(f"{prior.id} does not imply {implied.id}.")
    found = _inference(call, prior, _short(call, implied))
    return {**found, "links": links(call, "roles", prior.id, "implies", implied.id)}


def check_implied(call: Call) -> None:
    """HEAD /v3/roles/{role_id}/implies/{implied_id}: 204, or 404."""
    show_implied(call)


def add_implied(call: Call) -> dict[str, Any]:
    """PUT /v3/roles/{role_id}/implies/{implied_id}: 201. The role admin can be implied by none."""
    prior, implied = _both(call, "identity:create_implied_role")
    if implied.name == "admin" and not implied.domain_id:
        raise Forbidden(f"{implied.id} cannot be an implied role: it is the administrator's.")
    if implied.domain_id and not prior.domain_id:
        raise Forbidden(f"{implied.id} cannot be an implied role of {prior.id}: a global role implies global ones "
                        "only.")
    if not _implies(call.tx, prior.id, implied.id):
        call.tx.execute(implied_role.insert().values(prior_id=prior.id, implied_id=implied.id))
        claims.changed(call.tx)
    return show_implied(call)


def remove_implied(call: Call) -> None:
    """DELETE /v3/roles/{role_id}/implies/{implied_id}: 204, or 404."""
    prior, implied = _both(call, "identity:delete_implied_role")
    if not _implies(call.tx, prior.id, implied.id):
        raise NotFound(f"{prior.id} does not imply {implied.id}.")
    call.tx.execute(implied_role.delete().where(
        implied_role.c.prior_id == prior.id, implied_role.c.implied_id == implied.id
    ))
    claims.changed(call.tx)


def inferences(call: Call) -> dict[str, Any]:
    """GET /v3/role_inferences: 200, all that implies something."""
    by_id = {row.id: row for row in call.tx.all(sa.select(role))}
    rules: dict[str, list[dict[str, Any]]] = {}
    for pair in call.tx.all(sa.select(implied_role).order_by(implied_role.c.prior_id, implied_role.c.implied_id)):
        rules.setdefault(pair.prior_id, []).append(_short(call, by_id[pair.implied_id]))
    return {"role_inferences": [
        {"prior_role": _short(call, by_id[prior]), "implies": implied} for prior, implied in rules.items()
    ]}
