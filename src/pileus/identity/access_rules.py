"""Access rules: what an application credential may call, by service, method and path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity import delegated, listing, users
from pileus.identity.tables import access_rule, application_credential
from pileus.identity.views import collection, links
from pileus.web.errors import BadRequest, Forbidden, NotFound, Unauthorized

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.identity.schemas_delegation import AccessRuleNew
    from pileus.web.call import Call


def check(tx: Tx, credential_id: str, call: Call) -> None:
    """Raises Unauthorized when the credential has rules and none of them covers this request."""
    ids = tx.scalar(
        sa.select(application_credential.c.access_rules).where(application_credential.c.id == credential_id)
    )
    if not ids:
        return
    path = call.path
    for rule in tx.all(sa.select(access_rule).where(access_rule.c.id.in_(ids))):
        here = rule.service in (call.service.catalog_type, call.service.name) and rule.method == call.method
        if here and re.fullmatch(_pattern(rule.path), path):
            return
    raise Unauthorized("The application credential's access rules do not cover this request.")


def _pattern(path: str) -> str:
    """`*` is one segment, `**` any number, `{name}` one segment, as keystonemiddleware reads them."""
    out = ""
    for piece in re.split(r"(\*\*|\*|\{[^}]*\})", path):
        out += ".*" if piece == "**" else "[^/]+" if piece == "*" or piece.startswith("{") else re.escape(piece)
    return out


def _fields(row: Any) -> dict[str, Any]:
    return {"id": row.id, "service": row.service, "method": row.method, "path": row.path}


def of_ids(tx: Tx, ids: list[str]) -> list[dict[str, Any]]:
    """The rules of an application credential, as they are shown in it."""
    return [_fields(row) for row in tx.all(sa.select(access_rule).where(access_rule.c.id.in_(ids)).order_by(
        access_rule.c.service, access_rule.c.path, access_rule.c.method))]


def ensure(tx: Tx, cloud: Cloud, user_id: str, given: list[AccessRuleNew]) -> list[str]:
    """The ids of rules given by id or content; what the user has no rule for yet is made. Raises BadRequest."""
    return list(dict.fromkeys(_ensure(tx, cloud, user_id, rule) for rule in given))


def _ensure(tx: Tx, cloud: Cloud, user_id: str, given: AccessRuleNew) -> str:
    mine = sa.select(access_rule.c.id).where(access_rule.c.user_id == user_id)
    if given.id is not None and given.path is None:
        if tx.first(mine.where(access_rule.c.id == given.id)) is None:
            raise BadRequest(f"Could not find access rule: {given.id}.")
        return given.id
    if given.service is None or given.method is None or given.path is None:
        raise BadRequest("An access rule has service, method and path, or the id of an earlier one.")
    if not given.path.startswith("/"):
        raise BadRequest(f"An access rule's path begins with a slash: {given.path}.")
    known: str | None = tx.scalar(mine.where(
        access_rule.c.service == given.service, access_rule.c.method == given.method, access_rule.c.path == given.path
    ))
    if known is not None:
        return known
    made = cloud.world.hex_id()
    tx.execute(access_rule.insert().values(
        id=made, user_id=user_id, service=given.service, method=given.method, path=given.path,
    ))
    return made


# -- handlers


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {**_fields(row), "links": links(call, "users", row.user_id, "access_rules", row.id)}


def _allowed(call: Call, rule: str) -> Any:
    owner = users.allowed(call, call.tx, rule)
    delegated.forbid_trust(call)
    mine = sa.and_(access_rule.c.user_id == owner.id, access_rule.c.id == call.params["rule_id"])
    row = call.tx.first(sa.select(access_rule).where(mine))
    if row is None:
        raise NotFound(f"Could not find access rule: {call.params['rule_id']}.")
    return row


def index(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/access_rules: 200."""
    owner = users.allowed(call, call.tx, "identity:list_access_rules")
    delegated.forbid_trust(call)
    filters = {"service": access_rule.c.service, "method": access_rule.c.method, "path": access_rule.c.path}
    page = listing.find(call, access_rule, filters, sa.select(access_rule).where(access_rule.c.user_id == owner.id))
    return collection(call, "access_rules", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/access_rules/{rule_id}: 200."""
    return {"access_rule": _view(call, _allowed(call, "identity:get_access_rule"))}


def delete(call: Call) -> None:
    """DELETE /v3/users/{user_id}/access_rules/{rule_id}: 204; 403 while an application credential uses it."""
    row = _allowed(call, "identity:delete_access_rule")
    delegated.forbid_restricted(call)
    used = call.tx.scalars(
        sa.select(application_credential.c.access_rules).where(application_credential.c.user_id == row.user_id)
    )
    if any(row.id in ids for ids in used):
        raise Forbidden(f"Unable to delete access rule {row.id}: it is in use by one or more application credentials.")
    call.tx.execute(access_rule.delete().where(access_rule.c.id == row.id))
