"""What a user can ask a token for: projects, domains, the system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity import assignments, listing, projects, users
from pileus.identity.tables import assignment, domain, group_member, project
from pileus.identity.views import collection, domain_view, links, project_view
from pileus.web.call import Call

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def _grants(tx: Tx, user_id: str) -> set[tuple[str, str, bool]]:
    """(target kind, target id, inherited) of every grant to the user or one of the user's groups."""
    mine = sa.select(group_member.c.group_id).where(group_member.c.user_id == user_id)
    query = sa.select(assignment.c.target_kind, assignment.c.target_id, assignment.c.inherited).where(sa.or_(
        sa.and_(assignment.c.actor_kind == "user", assignment.c.actor_id == user_id),
        sa.and_(assignment.c.actor_kind == "group", assignment.c.actor_id.in_(mine)),
    ))
    return {(row.target_kind, row.target_id, row.inherited) for row in tx.all(query)}


def _project_is(tx: Tx, user_id: str) -> sa.ColumnElement[bool]:
    """Which projects the user has a role on: direct, through groups, or inherited."""
    grants = _grants(tx, user_id)
    direct = {one for kind, one, inherited in grants if kind == "project" and not inherited}
    above = [one for kind, one, inherited in grants if kind == "project" and inherited]
    whole = [one for kind, one, inherited in grants if kind == "domain" and inherited]
    direct |= set(projects.below(tx, above))
    return sa.or_(project.c.id.in_(sorted(direct)), project.c.domain_id.in_(sorted(whole)))


def _listed(call: Call, clauses: list[sa.ColumnElement[bool]]) -> dict[str, Any]:
    statement = sa.select(project).join(domain, domain.c.id == project.c.domain_id).where(*clauses)
    filters = {"name": project.c.name, "domain_id": project.c.domain_id, "enabled": project.c.enabled}
    page = listing.find(call, project, filters, statement)
    tags = projects.tags_of(call.tx, [row.id for row in page.rows])
    return collection(call, "projects", [project_view(call, row, tags[row.id]) for row in page.rows], page.next)


def of_user(call: Call) -> dict[str, Any]:
    """GET /v3/users/{user_id}/projects: 200, also disabled ones."""
    row = users.allowed(call, call.tx, "identity:list_user_projects")
    return _listed(call, [_project_is(call.tx, row.id)])


def own_projects(call: Call) -> dict[str, Any]:
    """GET /v3/auth/projects (and OS-FEDERATION's older path): 200, what the caller can get a token for."""
    mine = _project_is(call.tx, call.context.user_id)
    return _listed(call, [mine, project.c.enabled.is_(True), domain.c.enabled.is_(True)])


def own_domains(call: Call) -> dict[str, Any]:
    """GET /v3/auth/domains: 200, what the caller can get a token for."""
    ids = sorted(one for kind, one, inherited in _grants(call.tx, call.context.user_id)
                 if kind == "domain" and not inherited)
    statement = sa.select(domain).where(domain.c.id.in_(ids), domain.c.enabled.is_(True))
    page = listing.find(call, domain, {"name": domain.c.name}, statement)
    return collection(call, "domains", [domain_view(call, row) for row in page.rows], page.next)


def own_system(call: Call) -> dict[str, Any]:
    """GET /v3/auth/system: 200, whether the caller can get a token for the system."""
    reached = assignments.roles_on_system(call.tx, call.context.user_id)
    return {"system": [{"all": True}] if reached else [], "links": links(call, "auth", "system")}
