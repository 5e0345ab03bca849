"""Join tokens: made, redeemed, revoked. The database has only a digest of a token's secret."""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster import authority, certificates, invitation
from pileus.cluster.invitation import ROLES
from pileus.cluster.tables import token
from pileus.web.errors import BadRequest, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LONGEST = 255


def create(
    tx: Tx, cloud: Cloud, *, roles: tuple[str, ...], hours: float | None, uses: int | None, description: str = ""
) -> str:
    """A new token, which is shown this once. `hours` None: it does not expire; `uses` None: any number of nodes.

    Raises BadRequest for roles that there are not, and for a token by which nobody could ever join."""
    wrong = [role for role in roles if role not in ROLES]
    if wrong or not roles:
        raise BadRequest(f"A token is for some of the roles {', '.join(ROLES)}, not for '{', '.join(wrong)}'.")
    lasts = hours is None or (hours > 0 and math.isfinite(hours))
    if not lasts or (uses is not None and uses < 1):
        raise BadRequest("A token has to be good for some time, and for one node at least.")
    if len(description) > _LONGEST:
        raise BadRequest(f"A description has at most {_LONGEST} characters.")
    fingerprint = certificates.fingerprint(authority.ensure(tx, cloud))
    now = cloud.world.now()
    parts = invitation.Parts(fingerprint, cloud.world.hex_id()[:12], cloud.world.secret(24))
    tx.execute(token.insert().values(
        id=parts.id, digest=_digest(parts.secret), roles=list(roles), description=description, created=now,
        expires=None if hours is None else now + hours * 3600, uses_left=uses, revoked=False,
    ))
    return invitation.text(parts)


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
