"""Passwords: bcrypt at rest, and for some minutes a keyed digest in memory of what bcrypt has accepted.

The digest lets the same user get the next token without another quarter second of bcrypt (Dovecot and CouchDB do
so). It is bound to the stored hash, so a changed password ends it, and never leaves this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import bcrypt
import sqlalchemy as sa

from pileus.identity.tables import password_history, user
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_MOST = 10_000
_LONGEST = 4096


def hash_password(password: str, rounds: int) -> str:
    """The bcrypt hash to store. Passwords over bcrypt's 72 bytes are digested first, so every byte counts."""
    return bcrypt.hashpw(_material(password), bcrypt.gensalt(rounds)).decode()


def check_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed; takes as long as bcrypt takes."""
    try:
        return bcrypt.checkpw(_material(password), stored.encode())
    except ValueError:
        return False


async def make_hash(cloud: Cloud, password: str) -> str:
    """The hash to store, made in a thread: bcrypt takes a quarter of a second on purpose."""
    return await asyncio.to_thread(hash_password, password, cloud.settings.bcrypt_rounds)


def check_rules(cloud: Cloud, password: str) -> None:
    """Raises BadRequest for a new password that the setting `password_pattern` does not allow, or is too long."""
    if len(password) > _LONGEST:
        raise BadRequest(f"The password has {len(password)} characters; at most {_LONGEST} are taken.")
    pattern = cloud.settings.password_pattern
    if pattern and not re.match(pattern, password):
        raise BadRequest(f"The password does not match the requirements: it must match {pattern}.")


def store(tx: Tx, cloud: Cloud, user_id: str, hashed: str, options: dict[str, Any]) -> None:
    """Make `hashed` the user's password from now on. Tokens issued before are void."""
    now, settings = cloud.world.now(), cloud.settings
    expires = now + settings.password_days * 86400 if settings.password_days else None
    if options.get("ignore_password_expiry"):
        expires = None
    tx.execute(user.update().where(user.c.id == user_id).values(
        password_hash=hashed, password_changed=now, password_expires=expires, tokens_from=now, failures=0,
        failed_at=None,
    ))
    tx.execute(password_history.insert().values(user_id=user_id, password_hash=hashed, created=now))
    kept = earlier(tx, user_id, max(settings.password_history, 1))
    oldest = min((row.id for row in kept), default=0)
    tx.execute(
        password_history.delete().where(password_history.c.user_id == user_id, password_history.c.id < oldest)
    )


def clear(tx: Tx, cloud: Cloud, user_id: str) -> None:
    """Take the password away: nobody gets in by one until a new one is set. Tokens issued before are void."""
    tx.execute(user.update().where(user.c.id == user_id).values(
        password_hash=None, password_expires=None, password_changed=None, tokens_from=cloud.world.now(),
    ))


def earlier(tx: Tx, user_id: str, count: int) -> list[Any]:
    """The user's last passwords' rows, the present one first."""
    query = sa.select(password_history).where(password_history.c.user_id == user_id)
    return list(tx.all(query.order_by(password_history.c.id.desc()).limit(count)))


def _material(password: str) -> bytes:
    data = password.encode("utf-8", "surrogatepass")
    if len(data) <= 72 and b"\0" not in data:
        return data
    return hashlib.sha512(data).hexdigest()[:72].encode()


class PasswordMemory:
    """Keyed digests of accepted passwords: user id to (digest, until)."""

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def _digest(self, password: str, stored: str) -> bytes:
        text = f"{stored}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")

    def knows(self, user_id: str, password: str, stored: str, now: float) -> bool:
        """Whether this password was accepted lately for this stored hash."""
        found = self._known.get(user_id)
        if found is None or found[1] < now:
            return False
        return hmac.compare_digest(found[0], self._digest(password, stored))

    def learn(self, user_id: str, password: str, stored: str, now: float) -> None:
        """Remember an accepted password."""
        if self._seconds <= 0:
            return
        self._known[user_id] = (self._digest(password, stored), now + self._seconds)
        self._known.move_to_end(user_id)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Drop a user: the password changed or the user is disabled."""
        self._known.pop(user_id, None)


def memory(cloud: Cloud) -> PasswordMemory:
    """This process's memory of passwords."""
    found = cloud.memory.get("identity.passwords")
    if found is None:
        found = cloud.memory["identity.passwords"] = PasswordMemory(cloud.settings.password_memory_minutes)
    known: PasswordMemory = found
    return known


async def verify(cloud: Cloud, user_id: str, password: str, stored: str) -> bool:
    """Check a password without holding up the event loop."""
    known = memory(cloud)
    if known.knows(user_id, password, stored, cloud.world.now()):
        return True
    if not await asyncio.to_thread(check_password, password, stored):
        return False
    known.learn(user_id, password, stored, cloud.world.now())
    return True
