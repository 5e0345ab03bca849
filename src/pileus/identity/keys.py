"""The keys that tokens and stored credentials are sealed with; shared by all controllers through the database.

The highest number seals, every kept one opens, so that a rotation voids nothing that is still valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pileus.identity.tables import key

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_KEPT = 3


class KeyRing:
    """All keys of one purpose."""

    def __init__(self, secrets: list[str]) -> None:
        self._fernet = MultiFernet([Fernet(secret) for secret in secrets])

    def seal(self, data: bytes, now: float) -> str:
        """Encrypted, authenticated, URL-safe."""
        return self._fernet.encrypt_at_time(data, int(now)).decode()

    def open(self, text: str) -> bytes | None:
        """The sealed bytes; None when it was not sealed by any of these keys."""
        try:
            return self._fernet.decrypt(text.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError, ValueError):
            return None


def ring(tx: Tx, cloud: Cloud, purpose: str) -> KeyRing:
    """The key ring of a purpose (token, credential), from memory after the first time."""
    name = f"identity.keys.{purpose}"
    found = cloud.memory.get(name)
    if found is None:
        rows = tx.scalars(
            sa.select(key.c.secret).where(key.c.purpose == purpose).order_by(key.c.number.desc())
        )
        found = cloud.memory[name] = KeyRing(rows)
    ready: KeyRing = found
    return ready


def forget(cloud: Cloud) -> None:
    """Read the keys anew at the next use."""
    for name in [n for n in cloud.memory if n.startswith("identity.keys.")]:
        del cloud.memory[name]


def ensure(tx: Tx, cloud: Cloud, purpose: str) -> None:
    """Make the first key of a purpose if there is none."""
    if tx.first(sa.select(key.c.number).where(key.c.purpose == purpose).limit(1)) is None:
        _add(tx, cloud, purpose, 1)


def rotate(tx: Tx, cloud: Cloud, purpose: str) -> None:
    """A new key seals from now on; the oldest beyond three goes."""
    newest = tx.scalar(sa.select(sa.func.max(key.c.number)).where(key.c.purpose == purpose)) or 0
    _add(tx, cloud, purpose, newest + 1)
    tx.execute(key.delete().where(key.c.purpose == purpose, key.c.number <= newest + 1 - _KEPT))
    forget(cloud)


def _add(tx: Tx, cloud: Cloud, purpose: str, number: int) -> None:
    tx.execute(
        key.insert().values(
            purpose=purpose, number=number, secret=Fernet.generate_key().decode(), created=cloud.world.now()
        )
    )
