"""What identity's resources look like on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
import sqlalchemy as sa

from pileus.auth.context import Context
from pileus.identity.catalog import catalog
from pileus.identity.claims import Claims, noted
from pileus.identity.tables import application_credential, domain, trust, user
from pileus.web.call import Call
from pileus.world import iso_micro

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


def token_body(tx: Tx, cloud: Cloud, context: Context, claims: Claims, include_catalog: bool) -> dict[str, Any]:
    """The token's description, as POST and GET /v3/auth/tokens return it."""
    domains = {context.user_domain_id, context.project_domain_id or "", context.domain_id or ""}
    names, expires, services = noted(
        tx, cloud, ("body", context.user_id, context.project_id or "", *sorted(domains)),
        lambda: (
            _domain_names(tx, domains), tx.scalar(_PASSWORD_EXPIRES, {"u": context.user_id}),
            msgspec.Raw(msgspec.json.encode(catalog(tx, context.project_id, context.user_id))),
        ),
    )
    token: dict[str, Any] = {
        "methods": list(claims.methods),
        "user": {
            "id": context.user_id, "name": context.user_name,
            "domain": {"id": context.user_domain_id, "name": names[context.user_domain_id]},
            "password_expires_at": iso_micro(expires) if expires else None,
        },
        "audit_ids": list(claims.audit_ids),
        "expires_at": iso_micro(claims.expires, "Z"),
        "issued_at": iso_micro(claims.issued, "Z"),
    }
    if context.project_id is not None:
        token["project"] = {
            "id": context.project_id, "name": context.project_name,
            "domain": {"id": context.project_domain_id, "name": names[context.project_domain_id or ""]},
        }
        token["is_domain"] = False
    elif context.domain_id is not None:
        token["domain"] = {"id": context.domain_id, "name": names[context.domain_id]}
    elif context.system:
        token["system"] = {"all": True}
    if claims.scope:
        token["roles"] = [
            {"id": i, "name": n} for i, n in zip(context.role_ids, context.roles, strict=True)
        ]
        if include_catalog:
            token["catalog"] = services
    if claims.trust_id:
        given = tx.first(sa.select(trust).where(trust.c.id == claims.trust_id))
        if given is not None:
            token["OS-TRUST:trust"] = {
                "id": given.id, "impersonation": given.impersonation,
                "trustor_user": {"id": given.trustor_user_id}, "trustee_user": {"id": given.trustee_user_id},
            }
    if claims.application_credential_id:
        named = sa.select(application_credential.c.name).where(
            application_credential.c.id == claims.application_credential_id
        )
        token["application_credential"] = {
            "id": claims.application_credential_id, "name": tx.scalar(named), "restricted": not context.unrestricted,
        }
    return {"token": token}


_PASSWORD_EXPIRES = sa.select(user.c.password_expires).where(user.c.id == sa.bindparam("u"))


def _domain_names(tx: Tx, ids: set[str]) -> dict[str, str]:
    rows = tx.all(sa.select(domain.c.id, domain.c.name).where(domain.c.id.in_([i for i in ids if i])))
    return {row.id: row.name for row in rows}


def links(call: Call, *path: str) -> dict[str, str]:
    """`{"self": URL}` of a resource."""
    return {"self": "/".join((f"{call.url}/v3", *path))}


def collection(
    call: Call, name: str, items: list[Any], next_page: str | None = None, **more: Any
) -> dict[str, Any]:
    """A list with its links; identity does not page unless asked to."""
    query = urlencode(call.query_pairs)
    here = f"{call.url}{call.path.rstrip('/')}" + (f"?{query}" if query else "")
    return {name: items, "links": {"self": here, "previous": None, "next": next_page}, **more}


def domain_view(call: Call, row: Any) -> dict[str, Any]:
    """One domain."""
    return {
        **row.extra,
        "id": row.id, "name": row.name, "description": row.description, "enabled": row.enabled,
        "options": row.options, "tags": [], "links": links(call, "domains", row.id),
    }


def project_view(call: Call, row: Any, tags: list[str]) -> dict[str, Any]:
    """One project."""
    return {
        **row.extra,
        "id": row.id, "name": row.name, "domain_id": row.domain_id, "parent_id": row.parent_id or row.domain_id,
        "description": row.description, "enabled": row.enabled, "is_domain": False, "options": row.options,
        "tags": tags, "links": links(call, "projects", row.id),
    }


def user_view(call: Call, row: Any) -> dict[str, Any]:
    """One user; the same wherever users are shown. The password never is."""
    view = {
        **row.extra,
        "id": row.id, "name": row.name, "domain_id": row.domain_id, "enabled": row.enabled,
        "password_expires_at": iso_micro(row.password_expires) if row.password_expires else None,
        "options": row.options, "links": links(call, "users", row.id),
    }
    if row.default_project_id is not None:
        view["default_project_id"] = row.default_project_id
    if row.description is not None:
        view["description"] = row.description
    return view


def group_view(call: Call, row: Any) -> dict[str, Any]:
    """One group."""
    return {
        **row.extra,
        "id": row.id, "name": row.name, "domain_id": row.domain_id, "description": row.description,
        "links": links(call, "groups", row.id),
    }


def role_view(call: Call, row: Any) -> dict[str, Any]:
    """One role; a global role has no domain."""
    return {
        **row.extra,
        "id": row.id, "name": row.name, "domain_id": row.domain_id or None, "description": row.description,
        "options": row.options, "links": links(call, "roles", row.id),
    }
