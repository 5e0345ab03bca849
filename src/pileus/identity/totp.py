"""One-time passcodes by the clock (RFC 6238), checked against the user's `totp` credentials."""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.identity import credentials
from pileus.identity.tables import credential

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_STEP = 30  # seconds
_BACK = 1  # how many earlier steps are still taken


def passcode(secret: str, step: int) -> str:
    """The six digits of a base32 secret in one step of thirty seconds. Raises ValueError for a broken secret."""
    text = secret.replace(" ", "").upper()
    try:
        key = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    mac = hmac.digest(key, struct.pack(">Q", step), "sha1")
    at = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


def check(tx: Tx, cloud: Cloud, user_id: str, given: str) -> bool:
    """Whether a passcode is right now, or was a step ago, for any of the user's secrets."""
    now = int(cloud.world.now()) // _STEP
    mine = sa.select(credential).where(credential.c.user_id == user_id, credential.c.type == "totp")
    good = False
    for row in tx.all(mine):
        secret = credentials.unseal(tx, cloud, row)
        for step in range(now - _BACK, now + 1):
            try:
                good |= hmac.compare_digest(passcode(secret, step).encode(), given.encode("utf-8", "replace"))
            except ValueError:
                break
    return good
