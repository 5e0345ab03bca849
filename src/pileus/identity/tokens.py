"""Tokens as a resource: validated, checked, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pileus.identity import catalog as catalogs
from pileus.identity import claims
from pileus.identity.tables import revoked
from pileus.identity.views import token_body
from pileus.web.call import Call, Reply
from pileus.web.errors import Forbidden, NotFound, Unauthorized

if TYPE_CHECKING:
    from pileus.identity.claims import Verified


def _subject(call: Call, rule: str) -> tuple[str, Verified]:
    text = call.headers.get("x-subject-token")
    if not text:
        raise Unauthorized("The request you have made requires a token in X-Subject-Token.")
    try:
        verified = claims.verify(call.tx, call.cloud, text)
    except Unauthorized:
        raise NotFound("Could not find token: it is unknown, expired or revoked.") from None
    if verified.claims.user_id != call.context.user_id:
        call.enforce(rule, **{"target.token.user_id": verified.claims.user_id})
    return text, verified


def show(call: Call) -> Reply:
    """GET (and HEAD) /v3/auth/tokens: 200, the description of the token in X-Subject-Token."""
    text, verified = _subject(call, "identity:validate_token")
    headers = {"X-Subject-Token": text, "Vary": "X-Auth-Token"}
    if any(name == "nocatalog" for name, _ in call.query_pairs):
        return Reply(token_body(call.tx, call.cloud, verified.context, verified.claims, False), headers=headers)
    if verified.body is None:
        rendered = token_body(call.tx, call.cloud, verified.context, verified.claims, True)
        verified.body = msgspec.json.encode(rendered)
    return Reply(verified.body, headers=headers)


def revoke(call: Call) -> None:
    """DELETE /v3/auth/tokens: 204, the token in X-Subject-Token is void at once, on every controller."""
    _, verified = _subject(call, "identity:revoke_token")
    given = verified.claims
    call.tx.execute(revoked.delete().where(revoked.c.until < call.now))
    call.tx.execute(revoked.delete().where(revoked.c.audit_id == given.audit_ids[0]))
    call.tx.execute(revoked.insert().values(audit_id=given.audit_ids[0], chain=False, until=given.expires))
    claims.changed(call.tx)


def show_catalog(call: Call) -> dict[str, object]:
    """GET /v3/auth/catalog: 200. Raises Forbidden for a token without a scope, which has none."""
    context = call.context
    if context.project_id is None and context.domain_id is None and not context.system:
        raise Forbidden("A token without a scope has no catalog; ask for a token of a project, domain or the system.")
    rows = catalogs.catalog(call.tx, context.project_id, context.user_id)
    return {"catalog": rows, "links": {"self": f"{call.url}/v3/auth/catalog", "previous": None, "next": None}}
