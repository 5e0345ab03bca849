"""Grants: a role for a user or group on a project, a domain or the system, also for what is below (OS-INHERIT).

One set of handlers serves every path; who and where are told by the names of the path's parameters.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.identity import claims, domains, groups, projects, roles, users
from pileus.identity.assignments import SYSTEM
from pileus.identity.policy import target
from pileus.identity.tables import application_credential, assignment, domain, group, project, role, user
from pileus.identity.views import collection, role_view
from pileus.web.call import Call
from pileus.web.errors import Forbidden, NotFound

_TABLES = {"user": user, "group": group, "project": project, "domain": domain, "role": role}
_GET = {"user": users.get, "group": groups.get, "project": projects.get, "domain": domains.get, "role": roles.get}


class Grant(msgspec.Struct):
    """What a path names."""

    actor_kind: str
    actor_id: str
    target_kind: str
    target_id: str
    inherited: bool
    role: Any = None
    place: Any = None  # the project's or domain's row

    def where(self) -> list[sa.ColumnElement[bool]]:
        """The rows of this actor on this target."""
        return [
            assignment.c.actor_kind == self.actor_kind, assignment.c.actor_id == self.actor_id,
            assignment.c.target_kind == self.target_kind, assignment.c.target_id == self.target_id,
            assignment.c.inherited.is_(self.inherited),
        ]


def _read(call: Call, verb: str) -> Grant:
    """What the path names, if the caller may do `verb` to it. Raises Forbidden before NotFound."""
    given = call.params
    actor = "user" if "user_id" in given else "group"
    place = next((kind for kind in ("project", "domain") if f"{kind}_id" in given), SYSTEM)
    named = [kind for kind in (actor, place, "role") if f"{kind}_id" in given]
    rows = {
        kind: call.tx.first(sa.select(_TABLES[kind]).where(_TABLES[kind].c.id == given[f"{kind}_id"]))
        for kind in named
    }
    known = {kind: row for kind, row in rows.items() if row is not None}
    if place == SYSTEM:
        suffix = f"system_grants_for_{actor}" if verb == "list" else f"system_grant_for_{actor}"
    else:
        suffix = "grants" if verb == "list" else "grant"
    call.enforce(f"identity:{verb}_{suffix}", **target(**known))
    for kind in named:
        if kind not in known:
            _GET[kind](call.tx, given[f"{kind}_id"])
    return Grant(
        actor, given[f"{actor}_id"], place, given.get(f"{place}_id", "all"),
        call.path.strip("/").split("/")[1] == "OS-INHERIT", rows.get("role"), rows.get(place),
    )


def _exists(call: Call, grant: Grant) -> bool:
    query = sa.select(assignment.c.role_id).where(*grant.where(), assignment.c.role_id == grant.role.id)
    return call.tx.first(query) is not None


def _missing(grant: Grant) -> NotFound:
    return NotFound(
        f"Could not find role assignment with role: {grant.role.id}, {grant.actor_kind}: {grant.actor_id}, "
        f"{grant.target_kind}: {grant.target_id}."
    )


def index(call: Call) -> dict[str, Any]:
    """GET …/roles: 200, the roles granted there directly."""
    grant = _read(call, "list")
    ids = call.tx.scalars(sa.select(assignment.c.role_id).where(*grant.where()))
    return collection(call, "roles", [role_view(call, row) for row in roles.rows_of(call.tx, ids)])


def put(call: Call) -> None:
    """PUT …/roles/{role_id}: 204, also when it is granted already."""
    grant = _read(call, "create")
    own = grant.role.domain_id
    if own:
        there = grant.target_id if grant.target_kind == "domain" else getattr(grant.place, "domain_id", None)
        if own != there:
            raise Forbidden(f"Role {grant.role.id} belongs to domain {own} and can be assigned only within it.")
    if not _exists(call, grant):
        call.tx.execute(assignment.insert().values(
            actor_kind=grant.actor_kind, actor_id=grant.actor_id, target_kind=grant.target_kind,
            target_id=grant.target_id, role_id=grant.role.id, inherited=grant.inherited,
        ))
        claims.changed(call.tx)


def check(call: Call) -> None:
    """GET and HEAD …/roles/{role_id}: 204, or 404."""
    grant = _read(call, "check")
    if not _exists(call, grant):
        raise _missing(grant)


def revoke(call: Call) -> None:
    """DELETE …/roles/{role_id}: 204, or 404. Counts at once for tokens that are out.

    A user's application credentials for the project end with any role that they may have been given."""
    grant = _read(call, "revoke")
    if not _exists(call, grant):
        raise _missing(grant)
    call.tx.execute(assignment.delete().where(*grant.where(), assignment.c.role_id == grant.role.id))
    if grant.actor_kind == "user" and grant.target_kind == "project":
        call.tx.execute(application_credential.delete().where(
            application_credential.c.user_id == grant.actor_id,
            application_credential.c.project_id == grant.target_id,
        ))
    claims.changed(call.tx)
