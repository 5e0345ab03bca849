"""Join tokens: `pileus1.FINGERPRINT.ID.SECRET`.

The fingerprint is of the authority's certificate: who joins sends the secret only to a controller that this
authority has vouched for, so that a man in the middle gets nothing. The database has only a digest of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.cluster import authority
from pileus.cluster.tables import token
from pileus.web.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

ROLES = ("compute", "network", "storage")
"""What a node can be; one with none of them cannot join."""

_MARK = "pileus1"


class Parts(msgspec.Struct, frozen=True):
    """A token taken apart."""

    fingerprint: str
    id: str
    secret: str


class BadToken(ValueError):
    """This is no join token."""


def parse(text: str) -> Parts:
    """Raises BadToken."""
    mark, *parts = text.strip().split(".")
    if mark != _MARK or len(parts) != 3 or not all(parts) or len(parts[0]) != 64:
        raise BadToken("this is no join token: one looks like pileus1.….….… and `pileus token create` prints it")
    return Parts(*parts)


def create(
    tx: Tx, cloud: Cloud, *, roles: tuple[str, ...], hours: float | None, uses: int | None, description: str = ""
) -> str:
    """A new token, which is shown this once. `hours` None: it does not expire; `uses` None: any number of nodes."""
    fingerprint = authority.fingerprint(authority.ensure(tx, cloud))
    now = cloud.world.now()
    token_id, secret = cloud.world.hex_id()[:12], cloud.world.secret(24).replace(".", "-")
    tx.execute(token.insert().values(
        id=token_id, digest=_digest(secret), roles=list(roles), description=description, created=now,
        expires=None if hours is None else now + hours * 3600, uses_left=uses, revoked=False,
    ))
    return f"{_MARK}.{fingerprint}.{token_id}.{secret}"


def redeem(tx: Tx, cloud: Cloud, token_id: str, secret: str, *, again: bool) -> Any:
    """The row of a token that is good for one node more; `again`: for one that it has let in already.

    Raises Forbidden, which does not tell an unknown token from a wrong secret."""
    row = tx.first(sa.select(token).where(token.c.id == token_id).with_for_update())
    if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
        raise Forbidden("The join token is not valid here; `pileus token create` on a controller makes one.")
    if row.revoked:
        raise Forbidden(f"The join token {token_id} has been revoked.")
    if row.expires is not None and row.expires < cloud.world.now():
        raise Forbidden(f"The join token {token_id} has expired; `pileus token create` on a controller makes one.")
    if again or row.uses_left is None:
        return row
    taken = tx.execute(
        token.update().where(token.c.id == token_id, token.c.uses_left > 0).values(uses_left=token.c.uses_left - 1)
    )
    if not taken.rowcount:
        raise Forbidden(f"The join token {token_id} has been used as often as it may.")
    return row


def listing(tx: Tx) -> list[Any]:
    """All tokens' rows, newest first."""
    return list(tx.all(sa.select(token).order_by(token.c.created.desc())))


def revoke(tx: Tx, token_id: str) -> None:
    """Nobody joins by it any more; who has, stays. Raises NotFound."""
    if not tx.execute(token.update().where(token.c.id == token_id).values(revoked=True)).rowcount:
        raise NotFound(f"There is no join token {token_id}; `pileus token list` shows all.")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
