"""POST /v3/auth/tokens: proves who asks, settles the scope, and issues a token.

Methods: password, totp, token, application_credential. Nothing is written, so that a token costs no transaction of
its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.identity import assignments, claims, lockout, passwords, totp, trusts
from pileus.identity.claims import Claims, Verified
from pileus.identity.schemas import AuthBody, DomainRef, PasswordUser, ProjectRef, Scope, TotpUser
from pileus.identity.tables import application_credential, domain, project, user
from pileus.identity.views import token_body
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Forbidden, NotFound, Unauthorized

if TYPE_CHECKING:
    from pileus.db.engine import Tx


class Proof(msgspec.Struct):
    """What authentication has shown so far."""

    user_id: str
    methods: tuple[str, ...]
    expires: float
    audit_chain: str | None = None
    application_credential: Any = None
    previous: Verified | None = None
    rules: list[list[str]] = []  # sets of methods, one of which must be complete; none: any method is enough


def refused() -> Unauthorized:
    """One text for every reason: whoever guesses learns nothing (OSSA-2021-003)."""
    return Unauthorized("The request you have made requires authentication.")


async def issue(call: Call) -> Reply:
    """POST /v3/auth/tokens: 201, the token in X-Subject-Token."""
    body: AuthBody = call.body
    proof = await _prove(call, body)
    include_catalog = not any(name == "nocatalog" for name, _ in call.query_pairs)
    uses_trust = isinstance(body.auth.scope, Scope) and body.auth.scope.trust is not None
    text, rendered = await call.db.run(
        lambda tx: _grant(tx, call, body, proof, include_catalog), write=uses_trust
    )
    return Reply(rendered, headers={"X-Subject-Token": text, "Vary": "X-Auth-Token"})


async def _prove(call: Call, body: AuthBody) -> Proof:
    identity = body.auth.identity
    proof: Proof | None = None
    if "totp" in identity.methods and "password" not in identity.methods:
        raise refused()  # six digits alone can be guessed
    for method in sorted(dict.fromkeys(identity.methods), key=lambda name: name == "totp"):
        if method == "password" and identity.password is not None:
            step = await _by_password(call, identity.password.user)
        elif method == "token" and identity.token is not None:
            step = await _by_token(call, identity.token.id)
        elif method == "application_credential" and identity.application_credential is not None:
            step = await _by_application_credential(call, identity.application_credential)
        elif method == "totp" and identity.totp is not None:
            step = await _by_totp(call, identity.totp.user)
        elif method in ("password", "token", "application_credential", "totp"):
            raise BadRequest(f"Expecting to find '{method}' in identity, because methods names it.")
        else:
            raise refused()
        if proof is not None and proof.user_id != step.user_id:
            raise refused()
        proof = step if proof is None else msgspec.structs.replace(
            step, methods=(*proof.methods, *step.methods), expires=min(proof.expires, step.expires),
            rules=step.rules or proof.rules,
        )
    if proof is None:
        raise BadRequest("Expecting at least one method in identity.methods.")
    if proof.rules and not any(set(rule) <= set(proof.methods) for rule in proof.rules):
        raise refused()
    return proof


async def _by_password(call: Call, given: PasswordUser) -> Proof:
    found = await call.db.run(lambda tx: _find_user(tx, given), write=False)
    if found is None or found.password_hash is None:
        # As long as a wrong password takes, so that names cannot be told from the time.
        await passwords.verify(call.cloud, "", given.password, _DUMMY)
        raise refused()
    lockout.check(call, found)
    if not await passwords.verify(call.cloud, found.id, given.password, found.password_hash):
        await call.db.run(lambda tx: lockout.failed(tx, call, found.id))
        raise refused()
    if found.failures:
        await call.db.run(lambda tx: lockout.passed(tx, found.id))
    if not found.enabled or not found.domain_enabled:
        raise refused()
    lockout.check_expiry(call, found)
    return Proof(found.id, ("password",), _expiry(call), rules=_rules(found))


def _rules(found: Any) -> list[list[str]]:
    """The user's multi-factor rules, where they are switched on."""
    chosen = found.options
    if not chosen or not chosen.get("multi_factor_auth_enabled"):
        return []
    return [rule for rule in chosen.get("multi_factor_auth_rules") or [] if rule]


async def _by_totp(call: Call, given: TotpUser) -> Proof:
    person = PasswordUser(password="", id=given.id, name=given.name, domain=given.domain)
    found = await call.db.run(lambda tx: _find_user(tx, person), write=False)
    if found is None:
        raise refused()
    lockout.check(call, found)
    if not await call.db.run(lambda tx: totp.check(tx, call.cloud, found.id, given.passcode), write=False):
        await call.db.run(lambda tx: lockout.failed(tx, call, found.id))
        raise refused()
    if not found.enabled or not found.domain_enabled:
        raise refused()
    return Proof(found.id, ("totp",), _expiry(call), rules=_rules(found))


_DUMMY = "$2b$12$" + "." * 53


_USERS = sa.select(user, domain.c.enabled.label("domain_enabled")).join(domain, domain.c.id == user.c.domain_id)
_USER_BY_ID = _USERS.where(user.c.id == sa.bindparam("id"))
_USER_BY_NAME = _USERS.where(user.c.name == sa.bindparam("name"))
_USER_IN_DOMAIN_ID = _USER_BY_NAME.where(domain.c.id == sa.bindparam("domain"))
_USER_IN_DOMAIN_NAME = _USER_BY_NAME.where(domain.c.name == sa.bindparam("domain"))


def _find_user(tx: Tx, given: PasswordUser) -> Any:
    if given.id is not None:
        return tx.first(_USER_BY_ID, {"id": given.id})
    if given.name is None or given.domain is None:
        raise BadRequest("Expecting to find id, or name and domain, in user.")
    if given.domain.id is not None:
        return tx.first(_USER_IN_DOMAIN_ID, {"name": given.name, "domain": given.domain.id})
    if given.domain.name is None:
        raise BadRequest("Expecting to find id or name in domain.")
    return tx.first(_USER_IN_DOMAIN_NAME, {"name": given.name, "domain": given.domain.name})


def _domain_is(ref: DomainRef) -> sa.ColumnElement[bool]:
    if ref.id is not None:
        return domain.c.id == ref.id
    if ref.name is None:
        raise BadRequest("Expecting to find id or name in domain.")
    return domain.c.name == ref.name


async def _by_token(call: Call, text: str) -> Proof:
    try:
        verified = await call.db.run(lambda tx: claims.verify(tx, call.cloud, text), write=False)
    except Unauthorized:
        raise NotFound("Could not find token: it is unknown, expired or revoked.") from None
    old = verified.claims
    if old.trust_id or old.application_credential_id:
        raise Forbidden("A token of a trust or of an application credential cannot be exchanged for another.")
    methods = old.methods if "token" in old.methods else (*old.methods, "token")
    return Proof(old.user_id, methods, old.expires, old.audit_ids[-1], previous=verified)


async def _by_application_credential(call: Call, given: Any) -> Proof:
    def find(tx: Tx) -> Any:
        query = sa.select(application_credential)
        if given.id is not None:
            return tx.first(query.where(application_credential.c.id == given.id))
        if given.name is None or given.user is None:
            raise BadRequest("Expecting to find id, or name and user, in application_credential.")
        owner = _find_user(tx, PasswordUser(password="", id=given.user.id, name=given.user.name,
                                            domain=given.user.domain))
        if owner is None:
            return None
        return tx.first(query.where(application_credential.c.user_id == owner.id,
                                    application_credential.c.name == given.name))

    row = await call.db.run(find, write=False)
    if row is None:
        await passwords.verify(call.cloud, "", given.secret, _DUMMY)
        raise refused()
    if row.expires_at is not None and row.expires_at <= call.now:
        raise refused()
    if not await passwords.verify(call.cloud, "app:" + row.id, given.secret, row.secret_hash):
        raise refused()
    expires = min(_expiry(call), row.expires_at or float("inf"))
    return Proof(row.user_id, ("application_credential",), expires, application_credential=row)


def _expiry(call: Call) -> float:
    return call.now + call.cloud.settings.token_hours * 3600


def _grant(tx: Tx, call: Call, body: AuthBody, proof: Proof, include_catalog: bool) -> tuple[str, dict[str, Any]]:
    trust_id = None
    scope: tuple[str, str]
    if isinstance(body.auth.scope, Scope) and body.auth.scope.trust is not None:
        trust_id, scope, proof = trusts.take(tx, call, body.auth.scope.trust.id, proof)
    elif proof.application_credential is not None:
        if isinstance(body.auth.scope, Scope):
            raise BadRequest("Application credentials cannot request a scope: they have one already.")
        scope = ("project", proof.application_credential.project_id)
    else:
        scope = _scope(tx, body.auth.scope, proof)
    audit = (claims.audit_id(),) if proof.audit_chain is None else (claims.audit_id(), proof.audit_chain)
    given = Claims(
        proof.user_id, proof.methods, *scope, issued=call.now, expires=proof.expires, audit_ids=audit,
        trust_id=trust_id,
        application_credential_id=proof.application_credential.id if proof.application_credential else None,
    )
    try:
        context = claims.context_of(tx, call.cloud, given)
    except Unauthorized:
        raise refused() from None
    rendered = token_body(tx, call.cloud, context, given, include_catalog)
    return claims.seal(tx, call.cloud, given), rendered


def _scope(tx: Tx, wanted: Any, proof: Proof) -> tuple[str, str]:
    """The scope as (kind, id): what was asked for, or the user's default project, or none."""
    if wanted == "unscoped":
        return "", ""
    if isinstance(wanted, Scope):
        kinds = [k for k in ("project", "domain", "system") if getattr(wanted, k) is not None]
        if len(kinds) != 1:
            raise BadRequest("Expecting exactly one of project, domain, system or OS-TRUST:trust in scope.")
        if wanted.project is not None:
            return "project", _project_id(tx, wanted.project)
        if wanted.domain is not None:
            found = tx.first(sa.select(domain).where(_domain_is(wanted.domain)))
            if found is None:
                raise refused()
            return "domain", found.id
        return "system", "all"
    if proof.previous is not None:
        return "", ""
    default = tx.scalar(sa.select(user.c.default_project_id).where(user.c.id == proof.user_id))
    if default:
        row = tx.first(sa.select(project.c.id, project.c.domain_id, project.c.enabled).where(project.c.id == default))
        if row is not None and row.enabled and assignments.roles_on_project(tx, proof.user_id, row.id, row.domain_id):
            return "project", row.id
    return "", ""


def _project_id(tx: Tx, ref: ProjectRef) -> str:
    if ref.id is not None:
        return ref.id
    if ref.name is None or ref.domain is None:
        raise BadRequest("Expecting to find id, or name and domain, in project.")
    named = ref.domain.id is None
    if named and ref.domain.name is None:
        raise BadRequest("Expecting to find id or name in domain.")
    found = tx.scalar(
        _PROJECT_IN_DOMAIN_NAME if named else _PROJECT_IN_DOMAIN_ID,
        {"name": ref.name, "domain": ref.domain.name if named else ref.domain.id},
    )
    if found is None:
        raise refused()
    return str(found)


_PROJECTS = (
    sa.select(project.c.id)
    .join(domain, domain.c.id == project.c.domain_id)
    .where(project.c.name == sa.bindparam("name"))
)
_PROJECT_IN_DOMAIN_ID = _PROJECTS.where(domain.c.id == sa.bindparam("domain"))
_PROJECT_IN_DOMAIN_NAME = _PROJECTS.where(domain.c.name == sa.bindparam("domain"))
