"""Trusts: a trustor lets a trustee act with some of the trustor's roles on one project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from pileus.identity.tables import trust
from pileus.web.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.identity.authenticate import Proof
    from pileus.web.call import Call


def take(tx: Tx, call: Call, trust_id: str, proof: Proof) -> tuple[str, tuple[str, str], Proof]:
    """Use a trust for a token: its id, the scope, and the proof as the user whom the token will be for.

    Counts a use where uses are limited. Raises NotFound, or Forbidden when the caller is not the trustee."""
    row = tx.first(sa.select(trust).where(trust.c.id == trust_id, trust.c.deleted_at.is_(None)).with_for_update())
    if row is None or (row.expires_at is not None and row.expires_at <= call.now):
        raise NotFound(f"Could not find trust: {trust_id}.")
    if row.trustee_user_id != proof.user_id:
        raise Forbidden("User is not a trustee.")
    if row.remaining_uses is not None:
        if row.remaining_uses < 1:
            raise NotFound(f"Could not find trust: {trust_id}.")
        tx.execute(trust.update().where(trust.c.id == trust_id).values(remaining_uses=row.remaining_uses - 1))
    expires = min(proof.expires, row.expires_at) if row.expires_at is not None else proof.expires
    holder = row.trustor_user_id if row.impersonation else proof.user_id
    scope = ("project", row.project_id) if row.project_id else ("", "")
    return trust_id, scope, msgspec.structs.replace(proof, user_id=holder, expires=expires)
