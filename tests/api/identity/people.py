"""People and places for the tests of identity: made through the API, as an administrator would."""

from __future__ import annotations

import itertools
from typing import Any

from tests.api.conftest import Client

V3 = "/identity/v3"
_NUMBER = itertools.count()


def name(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}-{next(_NUMBER)}"


def made(client: Client, plural: str, **fields: Any) -> dict[str, Any]:
    """A resource, made by POST; fails the test unless that answers 201."""
    singular = {"policies": "policy"}.get(plural, plural[:-1])
    reply = client.post(f"{V3}/{plural}", {singular: {"name": name(singular), **fields}})
    assert reply.status_code == 201, reply.text
    resource: dict[str, Any] = reply.json()[singular]
    return resource


def role_id(admin: Client, role: str) -> str:
    """The id of a global role."""
    found: str = admin.get(f"{V3}/roles?name={role}").json()["roles"][0]["id"]
    return found


def grant(admin: Client, place: str, actor: str, role: str) -> None:
    """`grant(admin, "projects/ID", "users/ID", "member")`."""
    assert admin.put(f"{V3}/{place}/{actor}/roles/{role_id(admin, role)}").status_code == 204


def auth(client: Client, user: dict[str, Any], scope: Any = None, password: str = "secret") -> Any:
    """The reply of POST /v3/auth/tokens."""
    body: dict[str, Any] = {
        "identity": {"methods": ["password"], "password": {"user": {"id": user["id"], "password": password}}}
    }
    if scope is not None:
        body["scope"] = scope
    return client.post(f"{V3}/auth/tokens", {"auth": body})


def session(client: Client, user: dict[str, Any], scope: Any = None) -> Client:
    """A client with that user's token."""
    reply = auth(client, user, scope)
    assert reply.status_code == 201, reply.text
    return Client(client.app, client.loop, reply.headers["x-subject-token"])


def on_project(project_id: str) -> dict[str, Any]:
    return {"project": {"id": project_id}}


def on_domain(domain_id: str) -> dict[str, Any]:
    return {"domain": {"id": domain_id}}


SYSTEM: dict[str, Any] = {"system": {"all": True}}
