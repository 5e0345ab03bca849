"""EC2 credentials in use: whose a signature is, and what its maker may do.

A signature acts as the credential's user, in the credential's project alone, with the roles that he has there at the
moment (OSSA-2020-004); one that was made with a trust or an application credential within the bounds of that. Other
services ask by POST /v3/ec2tokens and /v3/s3tokens, which are for administrators and services only (OSSA-2025-002):
whoever has seen a signature could otherwise change it into a token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.identity import access_rules, claims, credentials, signatures, trusts
from pileus.identity.claims import Claims
from pileus.identity.schemas_delegation import Ec2Signature, Ec2TokenBody, S3TokenBody
from pileus.identity.signatures import Claim, Request
from pileus.identity.tables import application_credential, credential
from pileus.identity.views import token_body
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound, Unauthorized

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.db.engine import Tx

METHOD = "ec2credential"


class Unknown(Unauthorized):
    """No such access key, or one whose user, project or roles are gone or disabled."""


class _Blob(msgspec.Struct):
    access: str
    secret: str
    trust_id: str | None = None
    app_cred_id: str | None = None
    access_token_id: str | None = None  # of OAuth 1, which there is not
    access_id: str | None = None


# -- for other rooms


def context_of(tx: Tx, call: Call, claim: Claim) -> Context:
    """The caller behind a signature; an application credential's access rules are applied to the request.

    Raises Unknown, and what `signatures.check` raises."""
    given = _verify(tx, call, claim)
    try:
        if given.application_credential_id:
            access_rules.check(tx, given.application_credential_id, call)
        return claims.context_of(tx, call.cloud, given)
    except Unauthorized:
        raise _unknown() from None


# -- handlers


def ec2_token(call: Call) -> Reply:
    """POST /v3/ec2tokens: 200, a token for the maker of a signature. For services and administrators."""
    body: Ec2TokenBody = call.body
    given = body.credentials or body.old
    if given is None:
        raise BadRequest("Expecting to find 'credentials', the parts of a signed request.")
    return _issue(call, lambda: _claim(given))


def s3_token(call: Call) -> Reply:
    """POST /v3/s3tokens: 200, the same for a string that S3's rules, version 4, have signed."""
    body: S3TokenBody = call.body
    given = body.credentials
    try:
        text = base64.b64decode(given.token, validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadRequest("credentials.token must be the string that was signed, in base64.") from None
    return _issue(call, lambda: signatures.string_claim(given.access, given.signature, text))


def _claim(given: Ec2Signature) -> Claim:
    claim = signatures.read(_request(given))
    if (claim.access, claim.signature) != (given.access, given.signature):
        raise signatures.Mismatch("The signature is not the one that the request has.")
    return claim


def _request(given: Ec2Signature) -> Request:
    headers = {name.lower(): value for name, value in given.headers.items()}
    if "authorization" not in headers and "X-Amz-Algorithm" not in given.params:
        given.params.setdefault("AWSAccessKeyId", given.access)
        given.params.setdefault("Signature", given.signature)
    return Request(
        verb=given.verb, host=given.host, path=given.path, params=list(given.params.items()), headers=headers,
        body_hash=given.body_hash,
    )


def _issue(call: Call, read: Callable[[], Claim]) -> Reply:
    try:
        given = _verify(call.tx, call, read())
        context = claims.context_of(call.tx, call.cloud, given)
    except Unauthorized:
        raise Unauthorized("The signature is not right, too old, or of nobody who may use it.") from None
    rendered = token_body(call.tx, call.cloud, context, given, include_catalog=True)
    text = claims.seal(call.tx, call.cloud, given)
    return Reply(rendered, headers={"X-Subject-Token": text, "Vary": "X-Auth-Token"})


# -- what a credential means


def _unknown() -> Unknown:
    return Unknown("The access key is unknown, or its user may not act in its project (any more).")


def _verify(tx: Tx, call: Call, claim: Claim) -> Claims:
    """What a token of the signature's maker would say."""
    row = tx.first(sa.select(credential).where(
        credential.c.id == credentials.ec2_id(claim.access), credential.c.type == "ec2"
    ))
    blob = _blob(tx, call, row) if row is not None else None
    if row is None or blob is None or blob.access != claim.access:
        raise _unknown()
    signatures.check(claim, blob.secret, call.now)
    until = call.now + call.cloud.settings.token_hours * 3600
    bound = _bound(tx, row, blob, call.now)
    return Claims(
        row.user_id, (METHOD,), "project", row.project_id or "", issued=call.now, expires=min(until, bound),
        audit_ids=(claims.audit_id(),), application_credential_id=blob.app_cred_id, trust_id=blob.trust_id,
    )


def _blob(tx: Tx, call: Call, row: Any) -> _Blob | None:
    """A credential's content; None for one that its user has written so that it can sign nothing."""
    try:
        found = msgspec.json.decode(credentials.unseal(tx, call.cloud, row), type=_Blob)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return found if found.secret and not found.access_token_id and not found.access_id else None


def _bound(tx: Tx, row: Any, blob: _Blob, now: float) -> float:
    """When the delegation ends that a credential hangs on. What its user has written into it himself binds nobody
    else: the trust and the application credential must be his, and for the credential's project. Raises Unknown."""
    ends = [float("inf")]
    if blob.trust_id:
        try:
            trust = trusts.current(tx, blob.trust_id, now)
        except NotFound:
            raise _unknown() from None
        holder = trust.trustor_user_id if trust.impersonation else trust.trustee_user_id
        # Uses that are counted are counted by tokens; a signature would be a use without end.
        if (holder, trust.project_id, trust.remaining_uses) != (row.user_id, row.project_id, None):
            raise _unknown()
        ends.append(trust.expires_at or float("inf"))
    if blob.app_cred_id:
        program = tx.first(
            sa.select(application_credential).where(application_credential.c.id == blob.app_cred_id)
        )
        if program is None or (program.user_id, program.project_id) != (row.user_id, row.project_id):
            raise _unknown()
        ends.append(program.expires_at or float("inf"))
    return min(ends)
