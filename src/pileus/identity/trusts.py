"""Trusts: a trustor lets a trustee act with some of the trustor's roles on one project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.identity import assignments, claims, delegated, listing, projects, roles, users
from pileus.identity.policy import target
from pileus.identity.redelegation import MOST, check_redelegation, root
from pileus.identity.schemas_delegation import RoleRef, TrustNew
from pileus.identity.tables import trust
from pileus.identity.views import collection, links, role_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Forbidden, NotFound
from pileus.world import iso_micro, parse_iso

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.identity.authenticate import Proof


def take(tx: Tx, call: Call, trust_id: str, proof: Proof) -> tuple[str, tuple[str, str], Proof]:
    """Use a trust for a token: its id, the scope, and the proof as the user whom the token will be for.

    Counts a use where uses are limited. Raises NotFound, or Forbidden when the caller is not the trustee."""
    row = _find(tx, call, trust_id, lock=True)
    if row.trustee_user_id != proof.user_id:
        raise Forbidden("User is not a trustee.")
    if proof.application_credential is not None:
        raise Forbidden("An application credential may not use trusts.")
    if row.remaining_uses is not None:
        tx.execute(trust.update().where(trust.c.id == trust_id).values(remaining_uses=row.remaining_uses - 1))
    expires = min(proof.expires, row.expires_at) if row.expires_at is not None else proof.expires
    holder = row.trustor_user_id if row.impersonation else proof.user_id
    scope = ("project", row.project_id) if row.project_id else ("", "")
    return trust_id, scope, msgspec.structs.replace(proof, user_id=holder, expires=expires)


def _find(tx: Tx, call: Call, trust_id: str, lock: bool = False) -> Any:
    return current(tx, trust_id, call.now, lock)


def current(tx: Tx, trust_id: str, now: float, lock: bool = False) -> Any:
    """A trust that can still be used. Raises NotFound for an unknown, expired or used up one."""
    query = sa.select(trust).where(trust.c.id == trust_id, trust.c.deleted_at.is_(None))
    row = tx.first(query.with_for_update() if lock else query)
    expired = row is not None and row.expires_at is not None and row.expires_at <= now
    if row is None or expired or (row.remaining_uses is not None and row.remaining_uses < 1):
        raise NotFound(f"Could not find trust: {trust_id}.")
    return row


def _allowed(call: Call, rule: str) -> Any:
    """The trust of the path; here, as in Keystone, unknown ones are told from those that are others'."""
    row = _find(call.tx, call, call.params["trust_id"])
    call.enforce(rule, **target(trust=row))
    delegated.forbid_application_credential(call)
    return row


def _summary(call: Call, row: Any) -> dict[str, Any]:
    view = {
        **row.extra,
        "id": row.id, "trustor_user_id": row.trustor_user_id, "trustee_user_id": row.trustee_user_id,
        "project_id": row.project_id, "impersonation": row.impersonation, "remaining_uses": row.remaining_uses,
        "expires_at": iso_micro(row.expires_at, "Z") if row.expires_at is not None else None,
        "deleted_at": None, "redelegation_count": row.redelegation_count,
        "links": links(call, "OS-TRUST", "trusts", row.id),
    }
    if row.redelegated_trust_id is not None:
        view["redelegated_trust_id"] = row.redelegated_trust_id
    return view


def _view(call: Call, row: Any) -> dict[str, Any]:
    given = [role_view(call, found) for found in roles.rows_of(call.tx, row.roles)]
    there = links(call, "OS-TRUST", "trusts", row.id, "roles")
    return {**_summary(call, row), "roles": given, "roles_links": {**there, "previous": None, "next": None}}


def role_ids(tx: Tx, given: list[RoleRef]) -> list[str]:
    """The ids of roles named by id or by name. Raises NotFound, or BadRequest for a reference to nothing."""
    found = []
    for ref in given:
        if ref.id is None and ref.name is None:
            raise BadRequest("Expecting to find id or name in role.")
        found.append(roles.get(tx, ref.id).id if ref.id is not None else roles.by_name(tx, ref.name or "").id)
    return list(dict.fromkeys(found))


def moment(text: str | None, now: float) -> float | None:
    """When something expires. Raises BadRequest for what is no time or has passed."""
    if text is None:
        return None
    try:
        found = parse_iso(text)
    except (ValueError, OverflowError):
        raise BadRequest(f"expires_at '{text}' is no time in ISO 8601, such as 2030-01-31T12:00:00.000000Z.") from None
    if found <= now:
        raise BadRequest(f"Invalid time format or value: expires_at '{text}' has passed.")
    return found


def create(call: Call) -> dict[str, Any]:
    """POST /v3/OS-TRUST/trusts: 201. Only the trustor may, and only with roles that he has on the project."""
    new: TrustNew = call.body.trust
    call.enforce("identity:create_trust", **target(trust=new))
    delegated.forbid_application_credential(call)
    if new.project_id is not None and not new.roles:
        raise Forbidden("At least one role should be specified.")
    if new.trustor_user_id != call.context.user_id:
        raise Forbidden("The authenticated user should match the trustor.")
    users.get(call.tx, new.trustee_user_id)
    row: dict[str, Any] = {
        "id": call.cloud.world.hex_id(), "trustor_user_id": new.trustor_user_id,
        "trustee_user_id": new.trustee_user_id, "project_id": new.project_id, "impersonation": new.impersonation,
        "expires_at": moment(new.expires_at, call.now), "remaining_uses": new.remaining_uses,
        "roles": role_ids(call.tx, new.roles), "created": call.now, "extra": {}, "redelegated_trust_id": None,
        "redelegation_count": _depth(new),
    }
    if call.context.trust_id:
        row |= check_redelegation(call.tx, _find(call.tx, call, call.context.trust_id), new, row)
    _check_roles(call.tx, row)
    call.tx.execute(trust.insert(), row)
    return {"trust": _view(call, _find(call.tx, call, row["id"]))}


def _depth(new: TrustNew) -> int:
    """How often the trust may be passed on."""
    if not new.allow_redelegation or new.redelegation_count == 0:
        return 0
    if new.redelegation_count is not None and new.redelegation_count > MOST:
        raise Forbidden(f"Requested redelegation depth of {new.redelegation_count} is greater than allowed {MOST}.")
    if new.remaining_uses is not None:
        raise BadRequest("remaining_uses must not be set if redelegation is allowed.")
    return new.redelegation_count or MOST


def _check_roles(tx: Tx, row: dict[str, Any]) -> None:
    """Raises NotFound unless the (first) trustor has every role on the project."""
    if row["project_id"] is None:
        if row["roles"]:
            raise BadRequest("Roles are delegated on a project: project_id is missing.")
        return
    place = projects.get(tx, row["project_id"])
    first = root(tx, row["redelegated_trust_id"])
    trustor = first.trustor_user_id if first is not None else row["trustor_user_id"]
    has = {one for one, _ in assignments.roles_on_project(tx, trustor, place.id, place.domain_id)}
    for role_id in row["roles"]:
        if role_id not in has:
            raise NotFound(f"Could not find role: {role_id}, among those of the trustor on project {place.id}.")


def index(call: Call) -> dict[str, Any]:
    """GET /v3/OS-TRUST/trusts: 200, without roles; of a trustor or trustee by filter, all for administrators."""
    query = dict(call.query_pairs)
    clauses: list[sa.ColumnElement[bool]] = []
    for name in ("trustor", "trustee"):
        one = query.get(f"{name}_user_id")
        if one:
            if not clauses:
                call.enforce(f"identity:list_trusts_for_{name}", **{f"target.trust.{name}_user_id": one})
            clauses.append(trust.c[f"{name}_user_id"] == one)
    if not clauses:
        call.enforce("identity:list_trusts")
    delegated.forbid_application_credential(call)
    page = listing.find(call, trust, {}, sa.select(trust).where(trust.c.deleted_at.is_(None), *clauses))
    return collection(call, "trusts", [_summary(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/OS-TRUST/trusts/{trust_id}: 200."""
    return {"trust": _view(call, _allowed(call, "identity:get_trust"))}


def delete(call: Call) -> None:
    """DELETE /v3/OS-TRUST/trusts/{trust_id}: 204, with all that it was passed on to. Tokens from it end at once."""
    row = _allowed(call, "identity:delete_trust")
    level = [row.id]
    while level:
        below = call.tx.scalars(sa.select(trust.c.id).where(trust.c.redelegated_trust_id.in_(level)))
        call.tx.execute(trust.delete().where(trust.c.id.in_(level)))
        level = below
    claims.changed(call.tx)


def list_roles(call: Call) -> dict[str, Any]:
    """GET /v3/OS-TRUST/trusts/{trust_id}/roles: 200."""
    row = _allowed(call, "identity:list_roles_for_trust")
    return collection(call, "roles", [role_view(call, found) for found in roles.rows_of(call.tx, row.roles)])


def show_role(call: Call) -> dict[str, Any]:
    """GET and HEAD /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}: 200, or 404."""
    row = _allowed(call, "identity:get_role_for_trust")
    if call.params["role_id"] not in row.roles:
        raise NotFound(f"Could not find role: {call.params['role_id']} in trust {row.id}.")
    return {"role": role_view(call, roles.get(call.tx, call.params["role_id"]))}
