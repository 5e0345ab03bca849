"""Role assignments: who has which role where, inheritance and implication worked out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.identity.tables import assignment, group_member, implied_role, project, role

if TYPE_CHECKING:
    from pileus.db.engine import Tx

SYSTEM = "system"

_DEPTH = 8

_DIRECT = sa.select(assignment.c.role_id).where(
    sa.or_(
        sa.and_(assignment.c.actor_kind == "user", assignment.c.actor_id == sa.bindparam("user")),
        sa.and_(
            assignment.c.actor_kind == "group",
            assignment.c.actor_id.in_(
                sa.select(group_member.c.group_id).where(group_member.c.user_id == sa.bindparam("user"))
            ),
        ),
    )
)
_HERE = _DIRECT.where(
    assignment.c.target_kind == sa.bindparam("kind"),
    assignment.c.target_id == sa.bindparam("target"),
    assignment.c.inherited.is_(False),
)
_ABOVE = _DIRECT.where(
    assignment.c.inherited.is_(True),
    sa.or_(
        sa.and_(assignment.c.target_kind == "domain", assignment.c.target_id == sa.bindparam("domain")),
        sa.and_(
            assignment.c.target_kind == "project",
            assignment.c.target_id.in_(sa.bindparam("parents", expanding=True)),
        ),
    ),
)
_ROLE_NAMES = sa.select(role.c.id, role.c.name, role.c.domain_id).where(
    role.c.id.in_(sa.bindparam("ids", expanding=True))
)
_IMPLIED = sa.select(implied_role.c.prior_id, implied_role.c.implied_id)
_PARENT = sa.select(project.c.parent_id).where(project.c.id == sa.bindparam("project"))


def parents(tx: Tx, project_id: str) -> list[str]:
    """The ids of the projects above a project, nearest first; the domain is not among them."""
    found: list[str] = []
    at: str | None = project_id
    while len(found) < _DEPTH:
        at = tx.scalar(_PARENT, {"project": at})
        if not at:
            break
        found.append(at)
    return found


def roles_on_project(tx: Tx, user_id: str, project_id: str, domain_id: str) -> list[tuple[str, str]]:
    """(id, name) of the user's roles on a project: direct, through groups, inherited, implied."""
    direct = tx.scalars(_HERE, {"user": user_id, "kind": "project", "target": project_id})
    above = tx.scalars(
        _ABOVE, {"user": user_id, "domain": domain_id, "parents": parents(tx, project_id)}
    )
    return with_implied(tx, {*direct, *above})


def roles_on_domain(tx: Tx, user_id: str, domain_id: str) -> list[tuple[str, str]]:
    """(id, name) of the user's roles on a domain."""
    return with_implied(tx, set(tx.scalars(_HERE, {"user": user_id, "kind": "domain", "target": domain_id})))


def roles_on_system(tx: Tx, user_id: str) -> list[tuple[str, str]]:
    """(id, name) of the user's roles on the whole cloud."""
    return with_implied(tx, set(tx.scalars(_HERE, {"user": user_id, "kind": SYSTEM, "target": "all"})))


def with_implied(tx: Tx, role_ids: Iterable[str]) -> list[tuple[str, str]]:
    """(id, name) of roles and of all that they imply, sorted by name; domain roles only imply."""
    ids = set(role_ids)
    if not ids:
        return []
    follows: dict[str, list[str]] = {}
    for row in tx.all(_IMPLIED):
        follows.setdefault(row.prior_id, []).append(row.implied_id)
    todo = list(ids)
    while todo:
        for implied in follows.get(todo.pop(), ()):
            if implied not in ids:
                ids.add(implied)
                todo.append(implied)
    rows = tx.all(_ROLE_NAMES, {"ids": list(ids)})
    return sorted(((r.id, r.name) for r in rows if not r.domain_id), key=lambda pair: pair[1])
