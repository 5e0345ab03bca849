"""What identity must have before the first request: keys, the default domain, roles, the admin, the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.identity import claims, keys, registration
from pileus.identity.passwords import hash_password
from pileus.identity.tables import assignment, domain, implied_role, project, role, user

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_ROLES = ("admin", "manager", "member", "reader", "service")
_IMPLIES = (("admin", "manager"), ("manager", "member"), ("member", "reader"))


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make what is missing. Nothing that an operator has changed is changed back, but for our own URLs."""
    cloud.verify_token = claims.verify_context
    for purpose in ("token", "credential"):
        keys.ensure(tx, cloud, purpose)
    first = tx.first(sa.select(domain.c.id).limit(1)) is None
    if first:
        _people(tx, cloud)
    registration.register(tx, cloud)


def _people(tx: Tx, cloud: Cloud) -> None:
    world = cloud.world
    tx.execute(domain.insert().values(
        id="default", name="Default", description="The default domain", enabled=True, options={}, extra={},
    ))
    ids = {name: world.hex_id() for name in _ROLES}
    for name in _ROLES:
        tx.execute(role.insert().values(id=ids[name], name=name, domain_id="", options={}, extra={}))
    for prior, implied in _IMPLIES:
        tx.execute(implied_role.insert().values(prior_id=ids[prior], implied_id=ids[implied]))
    project_id = world.hex_id()
    tx.execute(project.insert().values(
        id=project_id, name="admin", domain_id="default", description="The administrator's project", enabled=True,
        options={}, extra={},
    ))
    user_id = world.hex_id()
    password = first_password(cloud)
    tx.execute(user.insert().values(
        id=user_id, name="admin", domain_id="default", enabled=True, created=world.now(), options={}, extra={},
        password_hash=hash_password(password, cloud.settings.bcrypt_rounds), password_changed=world.now(),
        default_project_id=None, tokens_from=0.0, failures=0,
    ))
    for kind, target in (("project", project_id), ("domain", "default"), ("system", "all")):
        tx.execute(assignment.insert().values(
            actor_kind="user", actor_id=user_id, target_kind=kind, target_id=target, role_id=ids["admin"],
            inherited=False,
        ))


def first_password(cloud: Cloud) -> str:
    """The admin's first password: the setting's, or one made up and kept in the state folder (mode 0600)."""
    if cloud.settings.admin_password:
        return cloud.settings.admin_password
    import os

    path = cloud.settings.state / "admin-password"
    if path.exists():
        return path.read_text().strip()
    made = cloud.world.secret(18)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(made + "\n")
    return made
