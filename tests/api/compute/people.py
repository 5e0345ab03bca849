"""Users with a project of their own, for specifications about who may see what."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.identity.passwords import hash_password
from pileus.identity.tables import assignment, project, role, user
from tests.api.conftest import PASSWORD, Client


class Person:
    """A client with a token, and the ids behind it."""

    def __init__(self, client: Client, user_id: str, project_id: str) -> None:
        self.client, self.user_id, self.project_id = client, user_id, project_id


def join(cloud: Cloud, anonymous: Client, role_name: str = "member", project_id: str | None = None) -> Person:
    """A new user with one role in a new project, or in the one given."""
    user_id, name = uuid.uuid4().hex, "user-" + uuid.uuid4().hex
    project_name = "project-" + uuid.uuid4().hex
    made = project_id or uuid.uuid4().hex

    def write(tx: Tx) -> str:
        if project_id is None:
            tx.execute(project.insert().values(
                id=made, name=project_name, domain_id="default", description="", enabled=True, options={}, extra={},
            ))
        tx.execute(user.insert().values(
            id=user_id, name=name, domain_id="default", enabled=True, created=0.0, options={}, extra={},
            password_hash=hash_password(PASSWORD, 4), password_changed=0.0, tokens_from=0.0, failures=0,
        ))
        role_id = tx.scalar(sa.select(role.c.id).where(role.c.name == role_name))
        tx.execute(assignment.insert().values(
            actor_kind="user", actor_id=user_id, target_kind="project", target_id=made, role_id=role_id,
            inherited=False,
        ))
        return str(tx.scalar(sa.select(project.c.name).where(project.c.id == made)))

    called = cloud.db.run_sync(write)
    return Person(anonymous.login(name, PASSWORD, called), user_id, made)
