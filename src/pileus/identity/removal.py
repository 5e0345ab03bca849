"""Removal of users, groups, projects, roles and domains, with all that means nothing without them.

What a foreign key cascades (memberships, password history, tags, application credentials of a user) is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.identity import claims
from pileus.identity.tables import (
    application_credential,
    assignment,
    credential,
    domain,
    group,
    implied_role,
    limit,
    project,
    role,
    trust,
    user,
)

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_AT_ONCE = 500


def _pieces(ids: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), _AT_ONCE):
        yield ids[at : at + _AT_ONCE]


def remove_users(tx: Tx, ids: list[str]) -> None:
    """Users with their assignments, credentials and trusts, given and taken."""
    for some in _pieces(ids):
        _unassign_actors(tx, "user", some)
        tx.execute(credential.delete().where(credential.c.user_id.in_(some)))
        tx.execute(
            trust.delete().where(sa.or_(trust.c.trustor_user_id.in_(some), trust.c.trustee_user_id.in_(some)))
        )
        tx.execute(user.delete().where(user.c.id.in_(some)))
    claims.changed(tx)


def remove_groups(tx: Tx, ids: list[str]) -> None:
    """Groups with their assignments."""
    for some in _pieces(ids):
        _unassign_actors(tx, "group", some)
        tx.execute(group.delete().where(group.c.id.in_(some)))
    claims.changed(tx)


def _unassign_actors(tx: Tx, kind: str, ids: list[str]) -> None:
    tx.execute(assignment.delete().where(assignment.c.actor_kind == kind, assignment.c.actor_id.in_(ids)))


def remove_projects(tx: Tx, ids: list[str]) -> None:
    """Projects with the assignments on them, and the credentials, trusts and limits for them."""
    for some in _pieces(ids):
        _unassign_target(tx, "project", some)
        tx.execute(credential.delete().where(credential.c.project_id.in_(some)))
        tx.execute(trust.delete().where(trust.c.project_id.in_(some)))
        tx.execute(application_credential.delete().where(application_credential.c.project_id.in_(some)))
        tx.execute(limit.delete().where(limit.c.project_id.in_(some)))
        tx.execute(user.update().where(user.c.default_project_id.in_(some)).values(default_project_id=None))
        tx.execute(project.delete().where(project.c.id.in_(some)))
    claims.changed(tx)


def _unassign_target(tx: Tx, kind: str, ids: list[str]) -> None:
    tx.execute(assignment.delete().where(assignment.c.target_kind == kind, assignment.c.target_id.in_(ids)))


def remove_roles(tx: Tx, ids: list[str]) -> None:
    """Roles with every assignment of them and what they imply."""
    for some in _pieces(ids):
        tx.execute(assignment.delete().where(assignment.c.role_id.in_(some)))
        linked = sa.or_(implied_role.c.prior_id.in_(some), implied_role.c.implied_id.in_(some))
        tx.execute(implied_role.delete().where(linked))
        tx.execute(role.delete().where(role.c.id.in_(some)))
    claims.changed(tx)


def remove_domain(tx: Tx, domain_id: str) -> None:
    """A domain with its users, groups, projects and roles."""
    for table, remove in (
        (project, remove_projects), (group, remove_groups), (user, remove_users), (role, remove_roles),
    ):
        remove(tx, tx.scalars(sa.select(table.c.id).where(table.c.domain_id == domain_id)))
    _unassign_target(tx, "domain", [domain_id])
    tx.execute(limit.delete().where(limit.c.domain_id == domain_id))
    tx.execute(domain.delete().where(domain.c.id == domain_id))
    claims.changed(tx)
