"""Credentials: secrets kept for users (ec2 keys, TOTP seeds, certificates), sealed with the credential keys at rest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import delegated, keys, listing, projects, users
from pileus.identity.policy import target
from pileus.identity.schemas import same_id, split_extra
from pileus.identity.schemas_delegation import CredentialChange, CredentialNew
from pileus.identity.tables import credential
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_SCOPED = ("trust_id", "app_cred_id", "access_token_id", "access_id")


def seal(tx: Tx, cloud: Cloud, blob: str) -> str:
    """The blob as it is stored."""
    return keys.ring(tx, cloud, "credential").seal(blob.encode(), cloud.world.now())


def unseal(tx: Tx, cloud: Cloud, row: Any) -> str:
    """The blob of a row. Raises RuntimeError when its key is gone, which is an operator's error."""
    found = keys.ring(tx, cloud, "credential").open(row.blob)
    if found is None:
        raise RuntimeError(f"credential {row.id} was sealed with a key that is no longer kept")
    return found.decode()


def rotate_keys(tx: Tx, cloud: Cloud) -> None:
    """A new credential key, and every blob sealed anew with it, so that no old key is needed any more."""
    blobs = {row.id: unseal(tx, cloud, row) for row in tx.all(sa.select(credential))}
    keys.rotate(tx, cloud, "credential")
    for one, blob in blobs.items():
        tx.execute(credential.update().where(credential.c.id == one).values(blob=seal(tx, cloud, blob)))
    tx.after_commit(lambda: keys.forget(cloud))


def ec2_id(access: str) -> str:
    """The id of an EC2 credential: the digest of its access key, so that it is found by that."""
    return hashlib.sha256(access.encode()).hexdigest()


def _text(blob: str | dict[str, Any]) -> str:
    return blob if isinstance(blob, str) else msgspec.json.encode(blob).decode()


def _ec2_blob(text: str) -> dict[str, Any]:
    """The content of an EC2 credential's blob. Raises BadRequest when it holds no access key."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError):
        raise BadRequest("Invalid blob in credential: an ec2 credential's is a JSON object with access and "
                         "secret.") from None
    if not isinstance(found.get("access"), str):
        raise BadRequest("Invalid blob in credential: an ec2 credential's needs 'access'.")
    return found


def _view(call: Call, tx: Tx, row: Any) -> dict[str, Any]:
    return {
        **row.extra,
        "id": row.id, "type": row.type, "user_id": row.user_id, "project_id": row.project_id,
        "blob": unseal(tx, call.cloud, row), "links": links(call, "credentials", row.id),
    }


def _allowed(call: Call, rule: str) -> Any:
    row = call.tx.first(sa.select(credential).where(credential.c.id == call.params["credential_id"]))
    call.enforce(rule, **target(credential=row))
    if row is None:
        raise NotFound(f"Could not find credential: {call.params['credential_id']}.")
    delegated.check_reach(call, row.project_id)
    return row


def insert(tx: Tx, cloud: Cloud, credential_id: str, new: CredentialNew, blob: str, extra: dict[str, Any]) -> None:
    """Store a credential. Raises Conflict for an id that is taken."""
    if tx.first(sa.select(credential.c.id).where(credential.c.id == credential_id)) is not None:
        raise Conflict("Conflict occurred attempting to store credential - there is one for this access key already.")
    tx.execute(credential.insert().values(
        id=credential_id, user_id=new.user_id, project_id=new.project_id, type=new.type, extra=extra,
        blob=seal(tx, cloud, blob),
    ))


def _check_owner(tx: Tx, user_id: Any, project_id: Any) -> None:
    try:
        if user_id is not UNSET:
            users.get(tx, user_id)
        if isinstance(project_id, str):
            projects.get(tx, project_id)
    except NotFound as problem:
        raise BadRequest(problem.message) from None


def create(call: Call) -> dict[str, Any]:
    """POST /v3/credentials: 201."""
    new, extra = split_extra(CredentialNew, call.body.credential)
    call.enforce("identity:create_credential", **target(credential=new))
    delegated.forbid_restricted(call)
    delegated.check_reach(call, new.project_id)
    _check_owner(call.tx, new.user_id, new.project_id)
    blob, credential_id = _text(new.blob), call.cloud.world.hex_id()
    if new.type.lower() == "ec2":
        if new.project_id is None:
            raise BadRequest("An ec2 credential needs a project_id.")
        content = _ec2_blob(blob)
        credential_id = ec2_id(content["access"])
        if call.context.trust_id or call.context.application_credential_id:
            scope = {"trust_id": call.context.trust_id, "app_cred_id": call.context.application_credential_id}
            content |= {name: value for name, value in scope.items() if value}
            blob = _text(content)
    insert(call.tx, call.cloud, credential_id, new, blob, extra)
    row = call.tx.first(sa.select(credential).where(credential.c.id == credential_id))
    return {"credential": _view(call, call.tx, row)}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/credentials: 200; an administrator's list is of all, anybody else's of his own."""
    own = {"target.credential.user_id": call.context.user_id}
    call.enforce("identity:list_credentials", **own)
    statement = sa.select(credential)
    if not call.allows("identity:list_credentials"):
        statement = statement.where(credential.c.user_id == call.context.user_id)
    if delegated.is_delegated(call):
        statement = statement.where(credential.c.project_id == call.context.project_id)
    filters = {"user_id": credential.c.user_id, "type": credential.c.type, "project_id": credential.c.project_id}
    page = listing.find(call, credential, filters, statement)
    return collection(call, "credentials", [_view(call, call.tx, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/credentials/{credential_id}: 200."""
    return {"credential": _view(call, call.tx, _allowed(call, "identity:get_credential"))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/credentials/{credential_id}: 200. Owner and delegation of an ec2 credential stay what they are."""
    row = _allowed(call, "identity:update_credential")
    delegated.forbid_restricted(call)
    same_id(call.body.credential, row.id)
    change, extra = split_extra(CredentialChange, call.body.credential)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}}
    for name in ("type", "user_id", "project_id"):
        if getattr(change, name) is not UNSET:
            values[name] = getattr(change, name)
    owner = {"target.credential.user_id": values.get("user_id", row.user_id)}
    call.enforce("identity:update_credential", **owner)
    delegated.check_reach(call, values.get("project_id", row.project_id))
    _check_owner(call.tx, change.user_id, change.project_id)
    kind = values.get("type", row.type).lower()
    if change.blob is not UNSET or kind != row.type.lower():
        text = _text(change.blob) if not isinstance(change.blob, UNSET.__class__) else unseal(call.tx, call.cloud, row)
        if "ec2" in (kind, row.type.lower()):
            _check_ec2_change(call, row, text)
        values["blob"] = seal(call.tx, call.cloud, text)
    call.tx.execute(credential.update().where(credential.c.id == row.id).values(**values))
    row = call.tx.first(sa.select(credential).where(credential.c.id == row.id))
    return {"credential": _view(call, call.tx, row)}


def _check_ec2_change(call: Call, row: Any, text: str) -> None:
    """Raises BadRequest where a change would turn a delegated key into another."""
    new = _ec2_blob(text)
    old = _ec2_blob(unseal(call.tx, call.cloud, row)) if row.type.lower() == "ec2" else {}
    for name in _SCOPED:
        if old.get(name) != new.get(name):
            raise BadRequest(f"{name} can not be updated for credential {row.id}.")


def delete(call: Call) -> None:
    """DELETE /v3/credentials/{credential_id}: 204."""
    row = _allowed(call, "identity:delete_credential")
    delegated.forbid_restricted(call)
    call.tx.execute(credential.delete().where(credential.c.id == row.id))
