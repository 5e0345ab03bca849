"""Trusts passed on: what a trustee may hand to a third, out of what he was given himself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.identity.tables import trust
from pileus.web.errors import Forbidden

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.identity.schemas_delegation import TrustNew

MOST = 3
"""How often a trust may be passed on at most."""


def chain(tx: Tx, trust_id: str | None) -> list[Any]:
    """The trust and those that it came from, nearest first; ends where one is gone."""
    found: list[Any] = []
    while trust_id is not None and len(found) <= MOST:
        row = tx.first(sa.select(trust).where(trust.c.id == trust_id, trust.c.deleted_at.is_(None)))
        if row is None:
            break
        found.append(row)
        trust_id = row.redelegated_trust_id
    return found


def root(tx: Tx, trust_id: str | None) -> Any:
    """The first trust of a chain; None for no trust."""
    found = chain(tx, trust_id)
    return found[-1] if found else None


def check_redelegation(tx: Tx, source: Any, new: TrustNew, row: dict[str, Any]) -> dict[str, Any]:
    """What a trust made with a trust's token takes over from that. Raises Forbidden for more than was given."""
    if source.redelegation_count < 1:
        raise Forbidden(f"Trust {source.id} may not be passed on (any further).")
    if new.remaining_uses is not None:
        raise Forbidden("remaining_uses must not be set in order to redelegate a trust.")
    left = source.redelegation_count - 1
    redelegatable = new.allow_redelegation and new.redelegation_count != 0
    if redelegatable and new.redelegation_count not in (None, left):
        raise Forbidden('Modifying "redelegation_count" upon redelegation is forbidden; leave it out.')
    expires = row["expires_at"]
    for above in chain(tx, source.id):
        if above.expires_at is not None:
            if expires is not None and new.expires_at is not None and expires > above.expires_at:
                raise Forbidden("Requested expiration time is more than redelegated trust can provide.")
            expires = min(expires, above.expires_at) if expires is not None else above.expires_at
        if not set(row["roles"]) <= set(above.roles):
            raise Forbidden("Some of requested roles are not in redelegated trust.")
        if new.impersonation and not above.impersonation:
            raise Forbidden("Impersonation is not allowed because redelegated trust does not specify impersonation.")
        if new.project_id != above.project_id:
            raise Forbidden(f"Trust {above.id} is for another project.")
    return {
        "redelegated_trust_id": source.id, "expires_at": expires,
        "redelegation_count": left if redelegatable else 0,
    }
