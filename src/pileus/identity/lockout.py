"""Accounts and passwords that are not good just now: locked after failures, or expired.

Off by default, as in the security compliance of other clouds: the settings `lockout_failures` and `password_days`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.identity import passwords
from pileus.identity.tables import user
from pileus.web.errors import Unauthorized

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.web.call import Call


def check(call: Call, row: Any) -> None:
    """Raises Unauthorized while an account is locked, in the same words as for a wrong password."""
    settings = call.cloud.settings
    limit = settings.lockout_failures
    if not limit or row.failures < limit or (row.options or {}).get("ignore_lockout_failure_attempts"):
        return
    if row.failed_at is not None and call.now < row.failed_at + settings.lockout_minutes * 60:
        raise Unauthorized("The request you have made requires authentication.")


def failed(tx: Tx, call: Call, user_id: str) -> None:
    """Count a wrong password."""
    if call.cloud.settings.lockout_failures:
        tx.execute(
            user.update().where(user.c.id == user_id).values(failures=user.c.failures + 1, failed_at=call.now)
        )


def passed(tx: Tx, user_id: str) -> None:
    """Forget the failures after a right password."""
    tx.execute(user.update().where(user.c.id == user_id).values(failures=0, failed_at=None))


def check_expiry(call: Call, row: Any) -> None:
    """Raises Unauthorized when the password has expired; its owner may still change it."""
    if row.password_expires is None or row.password_expires > call.now:
        return
    if (row.options or {}).get("ignore_password_expiry"):
        return
    passwords.memory(call.cloud).forget(row.id)
    raise Unauthorized(
        "The password is expired and needs to be changed: use POST /v3/users/{user_id}/password."
    )
