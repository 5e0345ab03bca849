"""Access rules: what an application credential may call, by service, method and path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.identity.tables import access_rule, application_credential
from pileus.web.errors import Unauthorized

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.web.call import Call


def check(tx: Tx, credential_id: str, call: Call) -> None:
    """Raises Unauthorized when the credential has rules and none of them covers this request."""
    ids = tx.scalar(
        sa.select(application_credential.c.access_rules).where(application_credential.c.id == credential_id)
    )
    if not ids:
        return
    path = call.path
    for rule in tx.all(sa.select(access_rule).where(access_rule.c.id.in_(ids))):
        here = rule.service in (call.service.catalog_type, call.service.name) and rule.method == call.method
        if here and re.fullmatch(_pattern(rule.path), path):
            return
    raise Unauthorized("The application credential's access rules do not cover this request.")


def _pattern(path: str) -> str:
    """`*` is one segment, `**` any number, `{name}` one segment, as keystonemiddleware reads them."""
    out = ""
    for piece in re.split(r"(\*\*|\*|\{[^}]*\})", path):
        out += ".*" if piece == "**" else "[^/]+" if piece == "*" or piece.startswith("{") else re.escape(piece)
    return out
