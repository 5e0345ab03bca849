"""A user's own change of password, which needs the old password and no token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity import claims, lockout, passwords
from pileus.identity.tables import domain, user
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Unauthorized

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_NOBODY = "$2b$12$" + "." * 53

_USER = (
    sa.select(user, domain.c.enabled.label("domain_enabled"))
    .join(domain, domain.c.id == user.c.domain_id)
    .where(user.c.id == sa.bindparam("id"))
)


async def change(call: Call) -> None:
    """POST /v3/users/{user_id}/password: 204; also for a password that has expired.

    Raises Unauthorized for a wrong old password, BadRequest for a new one that the rules do not allow."""
    user_id, given = call.params["user_id"], call.body.user
    row: Any = await call.db.run(lambda tx: tx.first(_USER, {"id": user_id}), write=False)
    await _prove(call, row, given.original_password)
    passwords.check_rules(call.cloud, given.password)
    _check_age(call, row)
    await _check_history(call, row, given.password)
    hashed = await passwords.make_hash(call.cloud, given.password)

    def write(tx: Tx) -> None:
        # Whoever changed it in the meantime has made the old password wrong.
        if tx.scalar(sa.select(user.c.password_hash).where(user.c.id == user_id)) != row.password_hash:
            raise Unauthorized("Error when changing user password: it has changed just now.")
        passwords.store(tx, call.cloud, user_id, hashed, row.options)
        claims.changed(tx)

    await call.db.run(write)
    passwords.memory(call.cloud).forget(user_id)


async def _prove(call: Call, row: Any, original: str) -> None:
    refused = Unauthorized("Error when changing user password: the user or the original password is not right.")
    if row is None or row.password_hash is None:
        await passwords.verify(call.cloud, "", original, _NOBODY)
        raise refused
    lockout.check(call, row)
    if not await passwords.verify(call.cloud, row.id, original, row.password_hash):
        await call.db.run(lambda tx: lockout.failed(tx, call, row.id))
        raise refused
    if not row.enabled or not row.domain_enabled:
        raise refused
    if row.options.get("lock_password"):
        raise BadRequest("Password validation error: the option lock_password keeps this user's password as it is.")


def _check_age(call: Call, row: Any) -> None:
    least = call.cloud.settings.password_minimum_days * 86400
    if least and row.password_changed is not None and call.now < row.password_changed + least:
        days = call.cloud.settings.password_minimum_days
        raise BadRequest(f"Password validation error: a password is kept for at least {days} day(s) before the next.")


async def _check_history(call: Call, row: Any, password: str) -> None:
    count = call.cloud.settings.password_history
    if not count:
        return
    rows = await call.db.run(lambda tx: passwords.earlier(tx, row.id, count), write=False)
    known = [row.password_hash, *(old.password_hash for old in rows if old.password_hash != row.password_hash)]
    for stored in known[:count]:
        if await asyncio.to_thread(passwords.check_password, password, stored):
            raise BadRequest(
                f"Password validation error: the new password cannot be identical to a previous one; the last {count} "
                "are remembered."
            )
