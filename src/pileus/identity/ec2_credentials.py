"""EC2 credentials by their own path, /v3/users/{user_id}/credentials/OS-EC2: key pairs of access and secret."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.identity import credentials, delegated, projects, users
from pileus.identity.policy import target
from pileus.identity.schemas_delegation import CredentialNew
from pileus.identity.tables import credential
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import NotFound


def _view(call: Call, row: Any) -> dict[str, Any]:
    blob = msgspec.json.decode(credentials.unseal(call.tx, call.cloud, row), type=dict[str, Any])
    return {
        "user_id": row.user_id, "tenant_id": row.project_id, "access": blob.get("access"),
        "secret": blob.get("secret"), "trust_id": blob.get("trust_id"),
        "links": links(call, "users", row.user_id, "credentials", "OS-EC2", str(blob.get("access"))),
    }


def _allowed(call: Call, rule: str) -> Any:
    """The credential of the path; it must be the path's user's. Raises Forbidden before NotFound."""
    row = call.tx.first(sa.select(credential).where(
        credential.c.id == credentials.ec2_id(call.params["access"]), credential.c.type == "ec2",
        credential.c.user_id == call.params["user_id"],
    ))
    owner = {"target.credential.user_id": call.params["user_id"]}
    call.enforce(rule, **(target(credential=row) if row is not None else owner))
    if row is None:
        raise NotFound(f"Could not find credential: {call.params['access']}.")
    delegated.check_reach(call, row.project_id)
    return row


def create(call: Call) -> dict[str, Any]:
    """POST /v3/users/{user_id}/credentials/OS-EC2: 201."""
    user_id, project_id = call.params["user_id"], call.body.tenant_id
    call.enforce("identity:ec2_create_credential", **{"target.credential.user_id": user_id})
    delegated.forbid_restricted(call)
    delegated.check_reach(call, project_id)
    users.get(call.tx, user_id)
    projects.get(call.tx, project_id)
    blob = {"access": call.cloud.world.hex_id(), "secret": call.cloud.world.hex_id()}
    scope = {"trust_id": call.context.trust_id, "app_cred_id": call.context.application_credential_id}
    blob |= {name: value for name, value in scope.items() if value}
    text = msgspec.json.encode(blob).decode()
    new = CredentialNew(type="ec2", blob=text, user_id=user_id, project_id=project_id)
    credential_id = credentials.ec2_id(blob["access"])
    credentials.insert(call.tx, call.cloud, credential_id, new, text, {})
    row = call.tx.first(sa.select(credential).where(credential.c.id == credential_id))
    return {"credential": _view(call, row)}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/credentials/OS-EC2: 200."""
    user_id = call.params["user_id"]
    call.enforce("identity:ec2_list_credentials", user_id=user_id)
    users.get(call.tx, user_id)
    mine = sa.select(credential).where(credential.c.user_id == user_id, credential.c.type == "ec2")
    rows = [row for row in call.tx.all(mine.order_by(credential.c.id)) if delegated.in_reach(call, row.project_id)]
    return collection(call, "credentials", [_view(call, row) for row in rows])


def show(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/credentials/OS-EC2/{access}: 200."""
    return {"credential": _view(call, _allowed(call, "identity:ec2_get_credential"))}


def delete(call: Call) -> None:
    """DELETE /v3/users/{user_id}/credentials/OS-EC2/{access}: 204."""
    row = _allowed(call, "identity:ec2_delete_credential")
    delegated.forbid_restricted(call)
    call.tx.execute(credential.delete().where(credential.c.id == row.id))
