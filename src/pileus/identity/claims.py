"""What a token says, and the verified context that it becomes.

A token holds ids and times only. Everything else (enabled, names, roles) is read when it is verified, so that a
disabled user or a withdrawn role counts at once. Verified tokens are remembered together with the identity
revision, a counter that every change to identity bumps in its own transaction: one indexed select
tells that a remembered token is still what it was, on every controller.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa

from pileus.auth.context import Context
from pileus.db.locks import bump_revision, read_revision
from pileus.identity import assignments, keys
from pileus.identity.redelegation import chain
from pileus.identity.tables import application_credential, domain, project, revoked, trust, user
from pileus.web.errors import Unauthorized

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

T = TypeVar("T")

REVISION = "identity"
_MOST = 10_000


class Claims(msgspec.Struct, frozen=True, array_like=True):
    """The sealed content of a token. `scope` is project, domain, system or empty. Only adds fields."""

    user_id: str
    methods: tuple[str, ...]
    scope: str
    scope_id: str
    issued: float
    expires: float
    audit_ids: tuple[str, ...]
    application_credential_id: str | None = None
    trust_id: str | None = None


class Verified(msgspec.Struct):
    """A token that was good at `revision`."""

    revision: int
    claims: Claims
    context: Context
    body: bytes | None = None  # the rendered reply of GET /auth/tokens, once made


class TokenMemory:
    """Verified tokens of this process, the least recently used forgotten first; and, for one revision of identity,
    what was worked out for whole scopes."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Verified] = OrderedDict()
        self._revision = -1
        self._notes: dict[tuple[str, ...], tuple[int, Any]] = {}

    def note(self, revision: int, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` returned for this key since identity last changed."""
        if revision != self._revision or len(self._notes) > _MOST:
            self._notes.clear()
            self._revision = revision
        found = self._notes.get(key)
        if found is None or found[0] != revision:
            # Each note keeps its revision: with a database server, other threads make theirs at the same time.
            found = self._notes[key] = (revision, make())
        made: T = found[1]
        return made

    def get(self, token: str, revision: int, now: float) -> Verified | None:
        """A remembered token, if nothing in identity has changed since and it has not expired."""
        found = self._known.get(token)
        if found is None:
            return None
        if found.revision != revision or found.claims.expires <= now:
            self._known.pop(token, None)
            return None
        return found

    def put(self, token: str, verified: Verified) -> None:
        """Remember."""
        self._known[token] = verified
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def changed(tx: Tx) -> None:
    """To be called in every transaction that changes anything a token's meaning depends on."""
    bump_revision(tx, REVISION)


def audit_id() -> str:
    """A random id of a token, safe to show and to log."""
    return secrets.token_urlsafe(16)


def seal(tx: Tx, cloud: Cloud, claims: Claims) -> str:
    """The token's text."""
    return keys.ring(tx, cloud, "token").seal(msgspec.msgpack.encode(claims), claims.issued)


def verify_context(tx: Tx, token: str, call: Call) -> Context:
    """The caller behind a token, for the kernel; an application credential's access rules are applied."""
    verified = verify(tx, call.cloud, token)
    if verified.claims.application_credential_id:
        from pileus.identity.access_rules import check

        check(tx, verified.claims.application_credential_id, call)
    return verified.context


def verify(tx: Tx, cloud: Cloud, token: str) -> Verified:
    """A token's verified content. Raises Unauthorized, with one text for every reason."""
    memory = memory_of(cloud)
    revision = read_revision(tx, REVISION)
    found = memory.get(token, revision, cloud.world.now())
    if found is None:
        claims = open_token(tx, cloud, token)
        found = Verified(revision, claims, context_of(tx, cloud, claims))
        memory.put(token, found)
    return found


def memory_of(cloud: Cloud) -> TokenMemory:
    """This process's memory of tokens."""
    found = cloud.memory.get("identity.tokens")
    if found is None:
        found = cloud.memory["identity.tokens"] = TokenMemory()
    memory: TokenMemory = found
    return memory


def noted(tx: Tx, cloud: Cloud, key: tuple[str, ...], make: Callable[[], T]) -> T:
    """What `make` returns, worked out once per key and revision of identity."""
    return memory_of(cloud).note(read_revision(tx, REVISION), key, make)


def context_of(tx: Tx, cloud: Cloud, claims: Claims) -> Context:
    """The context that claims mean now, with what is the same for all tokens of a user and scope worked out once.

    Raises Unauthorized."""
    if claims.trust_id or claims.application_credential_id:
        return resolve(tx, claims)
    key = ("context", claims.user_id, claims.scope, claims.scope_id)
    whole, tokens_from = noted(
        tx, cloud, key, lambda: (resolve(tx, claims), tx.scalar(_TOKENS_FROM, {"u": claims.user_id}) or 0.0)
    )
    if claims.issued < tokens_from:
        raise _refused()
    return msgspec.structs.replace(
        whole, token_expires=claims.expires, audit_ids=claims.audit_ids, methods=claims.methods
    )


def open_token(tx: Tx, cloud: Cloud, token: str) -> Claims:
    """The claims of a token that is ours, not expired and not revoked. Raises Unauthorized."""
    data = keys.ring(tx, cloud, "token").open(token)
    if data is None:
        raise _refused()
    try:
        claims = msgspec.msgpack.decode(data, type=Claims)
    except msgspec.MsgspecError:
        raise _refused() from None
    if claims.expires <= cloud.world.now():
        raise _refused()
    void = sa.select(revoked.c.audit_id).where(
        sa.or_(
            sa.and_(revoked.c.audit_id == claims.audit_ids[0], revoked.c.chain.is_(False)),
            sa.and_(revoked.c.audit_id == claims.audit_ids[-1], revoked.c.chain.is_(True)),
        )
    )
    if tx.first(void) is not None:
        raise _refused()
    return claims


def _refused() -> Unauthorized:
    return Unauthorized("The request you have made requires authentication: the token is not valid (any more).")


_USER = (
    sa.select(user, domain.c.name.label("domain_name"), domain.c.enabled.label("domain_enabled"))
    .join(domain, domain.c.id == user.c.domain_id)
    .where(user.c.id == sa.bindparam("u"))
)
_TOKENS_FROM = sa.select(user.c.tokens_from).where(user.c.id == sa.bindparam("u"))
_PROJECT = (
    sa.select(project, domain.c.name.label("domain_name"), domain.c.enabled.label("domain_enabled"))
    .join(domain, domain.c.id == project.c.domain_id)
    .where(project.c.id == sa.bindparam("p"))
)


def resolve(tx: Tx, claims: Claims) -> Context:
    """The context that claims mean now. Raises Unauthorized when the user, scope or roles are gone or disabled."""
    holder = tx.first(_USER, {"u": claims.user_id})
    if holder is None or not holder.enabled or not holder.domain_enabled or claims.issued < holder.tokens_from:
        raise _refused()
    roles: list[tuple[str, str]] = []
    scope: dict[str, object] = {}
    acting = claims.user_id
    if claims.trust_id:
        acting, scope = _trust(tx, claims)
    if claims.scope == "project":
        target = tx.first(_PROJECT, {"p": claims.scope_id})
        if target is None or not target.enabled or not target.domain_enabled:
            raise _refused()
        scope |= {"project_id": target.id, "project_name": target.name, "project_domain_id": target.domain_id}
        roles = assignments.roles_on_project(tx, acting, target.id, target.domain_id)
    elif claims.scope == "domain":
        target = tx.first(sa.select(domain).where(domain.c.id == claims.scope_id))
        if target is None or not target.enabled:
            raise _refused()
        scope |= {"domain_id": target.id}
        roles = assignments.roles_on_domain(tx, acting, target.id)
    elif claims.scope == "system":
        scope |= {"system": True}
        roles = assignments.roles_on_system(tx, acting)
    roles, unrestricted = _limit(tx, claims, roles)
    if claims.scope and not roles:
        raise _refused()
    return Context(
        user_id=holder.id, user_name=holder.name, user_domain_id=holder.domain_id,
        roles=tuple(name for _, name in roles), role_ids=tuple(role_id for role_id, _ in roles),
        token_expires=claims.expires, audit_ids=claims.audit_ids, methods=claims.methods,
        application_credential_id=claims.application_credential_id, trust_id=claims.trust_id,
        unrestricted=unrestricted, **scope,  # type: ignore[arg-type]
    )


def _trust(tx: Tx, claims: Claims) -> tuple[str, dict[str, object]]:
    """Whose roles a trust-scoped token has: the trustor's, who must still be enabled."""
    given = tx.first(sa.select(trust).where(trust.c.id == claims.trust_id, trust.c.deleted_at.is_(None)))
    if given is None:
        raise _refused()
    above = chain(tx, given.redelegated_trust_id)
    first = above[-1] if above else given
    if first.redelegated_trust_id is not None:
        raise _refused()  # what it was passed on from is gone
    agents = {given.trustee_user_id, *(row.trustor_user_id for row in (given, *above))}
    for agent in agents:
        person = tx.first(_USER, {"u": agent})
        if person is None or not person.enabled or not person.domain_enabled:
            raise _refused()
    return first.trustor_user_id, {"trustor_id": given.trustor_user_id, "trustee_id": given.trustee_user_id}


def _limit(tx: Tx, claims: Claims, roles: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], bool]:
    """Roles cut down to those that a trust or an application credential names."""
    if claims.trust_id:
        allowed = tx.scalar(sa.select(trust.c.roles).where(trust.c.id == claims.trust_id))
        if not set(allowed) <= {role_id for role_id, _ in roles}:
            raise _refused()
        return assignments.with_implied(tx, allowed), False
    if claims.application_credential_id:
        given = tx.first(
            sa.select(application_credential).where(application_credential.c.id == claims.application_credential_id)
        )
        if given is None or (given.expires_at is not None and given.expires_at <= claims.issued):
            raise _refused()
        kept = set(given.roles) & {role_id for role_id, _ in roles}
        return assignments.with_implied(tx, kept), given.unrestricted
    return roles, True
