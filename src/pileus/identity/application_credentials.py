"""Application credentials: secrets that a program logs in with, for some of its owner's roles on one project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity import access_rules, assignments, claims, delegated, listing, passwords, roles, users
from pileus.identity.schemas_delegation import ApplicationCredentialNew
from pileus.identity.tables import application_credential
from pileus.identity.trusts import moment, role_ids
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound
from pileus.world import iso_micro

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def _view(call: Call, tx: Tx, row: Any, secret: str | None = None) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": row.id, "name": row.name, "description": row.description, "project_id": row.project_id,
        "user_id": row.user_id, "unrestricted": row.unrestricted,
        "expires_at": iso_micro(row.expires_at) if row.expires_at is not None else None,
        "roles": [
            {"id": found.id, "name": found.name, "domain_id": found.domain_id or None}
            for found in roles.rows_of(tx, row.roles)
        ],
        "links": links(call, "users", row.user_id, "application_credentials", row.id),
    }
    if row.access_rules:
        view["access_rules"] = access_rules.of_ids(tx, row.access_rules)
    if secret is not None:
        view["secret"] = secret
    return view


def _check_name(tx: Tx, user_id: str, name: str) -> None:
    mine = sa.and_(application_credential.c.user_id == user_id, application_credential.c.name == name)
    if tx.first(sa.select(application_credential.c.id).where(mine)) is not None:
        raise Conflict(f"Conflict occurred attempting to store application_credential - Duplicate entry found with "
                       f"name {name}.")


async def create(call: Call) -> dict[str, Any]:
    """POST /v3/users/{user_id}/application_credentials: 201; the secret is shown this once."""
    new: ApplicationCredentialNew = call.body.credential
    expires = moment(new.expires_at, call.now)

    def check(tx: Tx) -> list[str]:
        _check_caller(call)
        _check_name(tx, call.context.user_id, new.name)
        return _roles(tx, call, new)

    given = await call.db.run(check, write=False)
    secret = new.secret or call.cloud.world.secret(64)
    hashed = await passwords.make_hash(call.cloud, secret)

    def write(tx: Tx) -> dict[str, Any]:
        _check_name(tx, call.context.user_id, new.name)
        credential_id = call.cloud.world.hex_id()
        tx.execute(application_credential.insert().values(
            id=credential_id, user_id=call.context.user_id, project_id=call.context.project_id, system=False,
            name=new.name, description=new.description, secret_hash=hashed, expires_at=expires,
            unrestricted=bool(new.unrestricted), roles=given,
            access_rules=access_rules.ensure(tx, call.cloud, call.context.user_id, new.access_rules),
        ))
        return {"application_credential": _view(call, tx, _get(tx, credential_id), secret)}

    return await call.db.run(write)


def _check_caller(call: Call) -> None:
    """Raises Forbidden for anybody but the owner with a token of his own, BadRequest without a project."""
    user_id = call.params["user_id"]
    call.enforce("identity:create_application_credential", user_id=user_id)
    delegated.forbid_trust(call)
    delegated.forbid_restricted(call)
    if user_id != call.context.user_id:
        raise Forbidden("Cannot create an application credential for another user.")
    if call.context.project_id is None:
        raise BadRequest("An application credential is for a project: use a token that is scoped to one.")


def _roles(tx: Tx, call: Call, new: ApplicationCredentialNew) -> list[str]:
    """The roles asked for and what they imply, or all of the token's. Raises BadRequest for one that it lacks."""
    has = set(call.context.role_ids)
    if not new.roles:
        return sorted(has)
    try:
        asked = role_ids(tx, new.roles)
    except NotFound as problem:
        raise BadRequest(f"Invalid application credential: {problem.message}") from None
    wanted = {one for one, _ in assignments.with_implied(tx, asked)} | set(asked)
    if not wanted <= has:
        raise BadRequest("Invalid application credential: Cannot create an application credential with unassigned "
                         "role.")
    return sorted(wanted)


def _get(tx: Tx, credential_id: str) -> Any:
    return tx.first(sa.select(application_credential).where(application_credential.c.id == credential_id))


def _allowed(call: Call, rule: str) -> Any:
    """The credential of the path; whose it is says the row, not the path. Raises Forbidden before NotFound."""
    credential_id = call.params["credential_id"]
    row = _get(call.tx, credential_id)
    call.enforce(rule, user_id=row.user_id if row is not None else call.params["user_id"])
    delegated.forbid_trust(call)
    if row is None or row.user_id != call.params["user_id"]:
        raise NotFound(f"Could not find application credential: {credential_id}.")
    return row


def index(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/application_credentials: 200."""
    user_id = call.params["user_id"]
    call.enforce("identity:list_application_credentials", user_id=user_id)
    delegated.forbid_trust(call)
    users.get(call.tx, user_id)
    statement = sa.select(application_credential).where(application_credential.c.user_id == user_id)
    page = listing.find(call, application_credential, {"name": application_credential.c.name}, statement)
    rows = [_view(call, call.tx, row) for row in page.rows]
    return collection(call, "application_credentials", rows, page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/application_credentials/{credential_id}: 200, without the secret."""
    row = _allowed(call, "identity:get_application_credential")
    return {"application_credential": _view(call, call.tx, row)}


def delete(call: Call) -> None:
    """DELETE /v3/users/{user_id}/application_credentials/{credential_id}: 204. Its tokens end at once."""
    row = _allowed(call, "identity:delete_application_credential")
    delegated.forbid_restricted(call)
    call.tx.execute(application_credential.delete().where(application_credential.c.id == row.id))
    claims.changed(call.tx)
    call.tx.after_commit(lambda: passwords.memory(call.cloud).forget("app:" + row.id))
