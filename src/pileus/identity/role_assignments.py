"""GET /v3/role_assignments: who has which role where, as granted or as it comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.identity import assignments, projects
from pileus.identity.assignment_view import Names, render
from pileus.identity.schemas_roles import AssignmentQuery, switched_on
from pileus.identity.tables import assignment, group_member, implied_role, project, role
from pileus.identity.views import collection
from pileus.web.call import Call
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.db.engine import Tx


class Assignment(msgspec.Struct, frozen=True):
    """One role assignment; what it came from is told by group_id, source and prior_role_id."""

    actor_kind: str
    actor_id: str
    target_kind: str
    target_id: str
    role_id: str
    inherited: bool
    group_id: str | None = None  # through this group
    source: tuple[str, str] | None = None  # inherited from this (kind, id)
    prior_role_id: str | None = None  # implied by this role


def index(call: Call) -> dict[str, Any]:
    """GET /v3/role_assignments: 200."""
    query: AssignmentQuery = call.query
    effective, tree = switched_on(query.effective), switched_on(query.include_subtree)
    own = call.context.domain_id
    target = {"target.domain_id": own} if own else {}
    if tree:
        if query.project_id is not None:
            target["target.domain_id"] = projects.get(call.tx, query.project_id).domain_id
        call.enforce("identity:list_role_assignments_for_tree", **target)
    else:
        call.enforce("identity:list_role_assignments", **target)
    _check(query, effective, tree)
    places = [query.project_id] if query.project_id is not None else []
    if tree and query.project_id is not None:
        places += projects.below(call.tx, places)
    rows = _effective(call.tx, query, places) if effective else _granted(call.tx, query, places)
    if own:
        rows = _within(call.tx, rows, own)
    names = Names.read(call.tx, rows) if switched_on(query.include_names) else None
    return collection(call, "role_assignments", [render(call, row, names) for row in rows])


def _check(query: AssignmentQuery, effective: bool, tree: bool) -> None:
    """Raises BadRequest for filters that exclude each other."""
    pairs = (
        ("domain", query.domain_id, "project", query.project_id), ("system", query.system, "domain", query.domain_id),
        ("system", query.system, "project", query.project_id), ("user", query.user_id, "group", query.group_id),
    )
    for one, first, other, second in pairs:
        if first and second:
            raise BadRequest(f"Specify a {one} or {other}, not both.")
    if effective and query.group_id:
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    if effective and query.inherited_to == "projects" and query.domain_id:
        raise BadRequest("Combining effective, domain and inherited filters will always result in an empty list.")
    if tree and not query.project_id:
        raise BadRequest("scope.project.id must be specified if include_subtree is also specified.")


def _inherited(query: AssignmentQuery) -> bool | None:
    return None if query.inherited_to is None else query.inherited_to == "projects"


def _target_is(query: AssignmentQuery, places: list[str]) -> list[sa.ColumnElement[bool]]:
    if places:
        return [assignment.c.target_kind == "project", assignment.c.target_id.in_(places)]
    if query.domain_id:
        return [assignment.c.target_kind == "domain", assignment.c.target_id == query.domain_id]
    if query.system:
        return [assignment.c.target_kind == assignments.SYSTEM]
    return []


def _read(tx: Tx, *clauses: sa.ColumnElement[bool]) -> list[Assignment]:
    query = sa.select(assignment).where(*clauses).order_by(
        assignment.c.target_kind, assignment.c.target_id, assignment.c.actor_kind, assignment.c.actor_id,
        assignment.c.role_id, assignment.c.inherited,
    )
    return [
        Assignment(r.actor_kind, r.actor_id, r.target_kind, r.target_id, r.role_id, r.inherited) for r in tx.all(query)
    ]


def _granted(tx: Tx, query: AssignmentQuery, places: list[str]) -> list[Assignment]:
    clauses = _target_is(query, places)
    for kind, actor in (("user", query.user_id), ("group", query.group_id)):
        if actor:
            clauses += [assignment.c.actor_kind == kind, assignment.c.actor_id == actor]
    if query.role_id:
        clauses.append(assignment.c.role_id == query.role_id)
    inherited = _inherited(query)
    if inherited is not None:
        clauses.append(assignment.c.inherited.is_(inherited))
    return _read(tx, *clauses)


def _effective(tx: Tx, query: AssignmentQuery, places: list[str]) -> list[Assignment]:
    """Groups become their members, inheritance its projects, and roles also what they imply."""
    clauses: list[sa.ColumnElement[bool]] = []
    if query.user_id:
        mine = sa.select(group_member.c.group_id).where(group_member.c.user_id == query.user_id)
        clauses.append(sa.or_(
            sa.and_(assignment.c.actor_kind == "user", assignment.c.actor_id == query.user_id),
            sa.and_(assignment.c.actor_kind == "group", assignment.c.actor_id.in_(mine)),
        ))
    rows = _members(tx, _projects(tx, _read(tx, *clauses), places, query), query.user_id)
    rows = _implied(tx, rows)
    inherited = _inherited(query)
    return [
        row for row in dict.fromkeys(rows)
        if (not query.role_id or row.role_id == query.role_id)
        and (inherited is None or (row.source is not None) == inherited)
    ]


def _projects(tx: Tx, rows: list[Assignment], places: list[str], query: AssignmentQuery) -> list[Assignment]:
    wanted = set(places)
    by_domain: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    if any(row.inherited for row in rows):
        for place in tx.all(sa.select(project.c.id, project.c.domain_id, project.c.parent_id).order_by(project.c.id)):
            by_domain.setdefault(place.domain_id, []).append(place.id)
            children.setdefault(place.parent_id or "", []).append(place.id)
    found = []
    for row in rows:
        if not row.inherited:
            if _is_here(row, wanted, query):
                found.append(row)
            continue
        if query.domain_id or query.system:
            continue
        under = by_domain.get(row.target_id, []) if row.target_kind == "domain" else _under(children, row.target_id)
        found += [
            msgspec.structs.replace(
                row, target_kind="project", target_id=at, inherited=False, source=(row.target_kind, row.target_id)
            )
            for at in under if not wanted or at in wanted
        ]
    return found


def _is_here(row: Assignment, wanted: set[str], query: AssignmentQuery) -> bool:
    if wanted:
        return row.target_kind == "project" and row.target_id in wanted
    if query.domain_id:
        return row.target_kind == "domain" and row.target_id == query.domain_id
    return row.target_kind == assignments.SYSTEM or not query.system


def _under(children: dict[str, list[str]], project_id: str) -> list[str]:
    found, todo = [], list(children.get(project_id, ()))
    while todo:
        at = todo.pop(0)
        found.append(at)
        todo += children.get(at, ())
    return found


def _members(tx: Tx, rows: list[Assignment], user_id: str | None) -> list[Assignment]:
    members: dict[str, list[str]] = {}
    if any(row.actor_kind == "group" for row in rows):
        query = sa.select(group_member).order_by(group_member.c.user_id)
        if user_id:
            query = query.where(group_member.c.user_id == user_id)
        for pair in tx.all(query):
            members.setdefault(pair.group_id, []).append(pair.user_id)
    found = []
    for row in rows:
        if row.actor_kind == "user":
            found.append(row)
        else:
            found += [
                msgspec.structs.replace(row, actor_kind="user", actor_id=member, group_id=row.actor_id)
                for member in members.get(row.actor_id, ())
            ]
    return found


def _implied(tx: Tx, rows: list[Assignment]) -> list[Assignment]:
    follows: dict[str, list[str]] = {}
    for pair in tx.all(sa.select(implied_role)):
        follows.setdefault(pair.prior_id, []).append(pair.implied_id)
    local = set(tx.scalars(sa.select(role.c.id).where(role.c.domain_id != "")))
    found = []
    for row in rows:
        seen, todo = {row.role_id}, [row]
        while todo:
            at = todo.pop(0)
            if at.role_id not in local:  # domain roles only imply
                found.append(at)
            for implied in follows.get(at.role_id, ()):
                if implied not in seen:
                    seen.add(implied)
                    todo.append(msgspec.structs.replace(at, role_id=implied, prior_role_id=at.role_id))
    return found


def _within(tx: Tx, rows: list[Assignment], domain_id: str) -> list[Assignment]:
    """Those on the domain and on its projects."""
    inside = set(tx.scalars(sa.select(project.c.id).where(project.c.domain_id == domain_id)))
    return [
        row for row in rows
        if (row.target_kind == "domain" and row.target_id == domain_id)
        or (row.target_kind == "project" and row.target_id in inside)
    ]
