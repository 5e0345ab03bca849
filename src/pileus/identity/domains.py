"""Domains: what users, groups, projects and roles belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import claims, listing, options, removal
from pileus.identity.policy import target
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_people import DomainChange, DomainNew
from pileus.identity.tables import domain
from pileus.identity.views import collection, domain_view
from pileus.web.call import Call
from pileus.web.errors import Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def get(tx: Tx, domain_id: str) -> Any:
    """The row of a domain. Raises NotFound."""
    row = tx.first(sa.select(domain).where(domain.c.id == domain_id))
    if row is None:
        raise NotFound(f"Could not find domain: {domain_id}.")
    return row


def of_new(call: Call, tx: Tx, domain_id: str | None) -> str:
    """The domain of a new user, group or project: the one named, or the token's. Raises NotFound."""
    found = domain_id or call.context.domain_id or call.context.project_domain_id or "default"
    if tx.first(sa.select(domain.c.id).where(domain.c.id == found)) is None:
        raise NotFound(f"Could not find domain: {found}.")
    return found


def _allowed(call: Call, rule: str) -> Any:
    """The domain of the path, if the caller passes the rule. Raises Forbidden before NotFound."""
    row = call.tx.first(sa.select(domain).where(domain.c.id == call.params["domain_id"]))
    call.enforce(rule, **target(domain=row))
    return row if row is not None else get(call.tx, call.params["domain_id"])


def _check_name(tx: Tx, name: str) -> None:
    if tx.first(sa.select(domain.c.id).where(domain.c.name == name)) is not None:
        raise Conflict(f"Conflict occurred attempting to store domain - Duplicate entry found with name {name}.")


def create(call: Call) -> dict[str, Any]:
    """POST /v3/domains: 201."""
    call.enforce("identity:create_domain")
    new, extra = split_extra(DomainNew, call.body.domain)
    _check_name(call.tx, new.name)
    wanted = new.explicit_domain_id
    if wanted is not None and call.tx.first(sa.select(domain.c.id).where(domain.c.id == wanted)) is not None:
        raise Conflict(f"Conflict occurred attempting to store domain - Duplicate ID, {wanted}.")
    domain_id = wanted or call.cloud.world.hex_id()
    call.tx.execute(domain.insert().values(
        id=domain_id, name=new.name, description=new.description or "", enabled=new.enabled,
        options=options.merge({}, new.options), extra=extra,
    ))
    return {"domain": domain_view(call, get(call.tx, domain_id))}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/domains: 200. A domain's reader sees that domain only."""
    own = call.context.domain_id
    call.enforce("identity:list_domains", **({"target.domain.id": own} if own else {}))
    statement = sa.select(domain)
    if own and not call.allows("admin_required"):
        statement = statement.where(domain.c.id == own)
    page = listing.find(
        call, domain, {"id": domain.c.id, "name": domain.c.name, "enabled": domain.c.enabled}, statement
    )
    return collection(call, "domains", [domain_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/domains/{domain_id}: 200."""
    return {"domain": domain_view(call, _allowed(call, "identity:get_domain"))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/domains/{domain_id}: 200. A disabled domain voids the tokens of its users and projects at once."""
    row = _allowed(call, "identity:update_domain")
    same_id(call.body.domain, row.id)
    change, extra = split_extra(DomainChange, call.body.domain)
    options.guard_change("domain", row, change.options)
    if row.id == "default" and change.enabled is False:
        raise Forbidden("The default domain cannot be disabled: it holds the administrator.")
    values: dict[str, Any] = {"extra": {**row.extra, **extra}, "options": options.merge(row.options, change.options)}
    if change.name is not UNSET and change.name != row.name:
        _check_name(call.tx, change.name)
        values["name"] = change.name
    if change.description is not UNSET:
        values["description"] = change.description or ""
    if change.enabled is not UNSET:
        values["enabled"] = change.enabled
    call.tx.execute(domain.update().where(domain.c.id == row.id).values(**values))
    claims.changed(call.tx)
    return {"domain": domain_view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/domains/{domain_id}: 204 with all that is in it; 403 while it is enabled."""
    row = _allowed(call, "identity:delete_domain")
    options.guard_removal("domain", row)
    if row.id == "default" or row.enabled:
        raise Forbidden(f"Cannot delete a domain that is enabled, please disable it first: {row.id}.")
    removal.remove_domain(call.tx, row.id)
