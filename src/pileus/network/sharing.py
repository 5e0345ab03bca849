"""Which networks a project sees besides its own: shared with all, shared with it by RBAC, or external."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.auth.context import Context
from pileus.network.tables import network, rbac

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

SHARED = "access_as_shared"
EXTERNAL = "access_as_external"
ALL = "*"

Project = str | sa.BindParameter[str]


def own(context: Context) -> str:
    """The project whose resources the context sees; what no project is called where the token has none."""
    return context.project_id or "(none)"


def _given(project_id: Project, *actions: str) -> sa.Select[tuple[str]]:
    return sa.select(rbac.c.object_id).where(rbac.c.target_project == project_id, rbac.c.action.in_(actions))


def usable(project_id: Project) -> sa.ColumnElement[bool]:
    """Networks on which the project may have ports: its own and those shared with it."""
    return sa.or_(
        network.c.project_id == project_id, network.c.shared.is_(True), network.c.id.in_(_given(project_id, SHARED))
    )


def visible(project_id: Project) -> sa.ColumnElement[bool]:
    """Networks that the project sees."""
    return sa.or_(
        network.c.project_id == project_id, network.c.shared.is_(True), network.c.external.is_(True),
        network.c.id.in_(_given(project_id, SHARED, EXTERNAL)),
    )


def shared_ids(tx: Tx, project_id: str | None) -> set[str]:
    """Networks that others share with this project alone."""
    return set(tx.scalars(_given(project_id, SHARED))) if project_id else set()


def external_ids(tx: Tx, project_id: str | None) -> set[str]:
    """Networks that are external for this project alone."""
    return set(tx.scalars(_given(project_id, EXTERNAL))) if project_id else set()


def set_for_all(tx: Tx, cloud: Cloud, row_id: str, project_id: str, action: str, on: bool) -> None:
    """Keep the RBAC entry for every project equal to the network's `shared` or `router:external`."""
    mine = sa.and_(rbac.c.object_id == row_id, rbac.c.action == action, rbac.c.target_project == ALL)
    if not on:
        tx.execute(rbac.delete().where(mine))
    elif tx.first(sa.select(rbac.c.id).where(mine)) is None:
        tx.execute(rbac.insert().values(
            id=cloud.world.uuid(), project_id=project_id, object_type="network", object_id=row_id, action=action,
            target_project=ALL,
        ))
