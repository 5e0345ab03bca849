"""Tags of resources: /v2.0/{plural}/{id}/tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.network.tables import tag

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_CHUNK = 5000

_OF = sa.select(tag).where(tag.c.resource_id.in_(sa.bindparam("ids", expanding=True))).order_by(tag.c.name)


def of(tx: Tx, ids: Sequence[str]) -> dict[str, list[str]]:
    """The tags of resources, by id; those without any are not in it."""
    found: dict[str, list[str]] = {}
    for at in range(0, len(ids), _CHUNK):
        for row in tx.all(_OF, {"ids": ids[at : at + _CHUNK]}):
            found.setdefault(row.resource_id, []).append(row.name)
    return found


def add(tx: Tx, identity: str, names: Iterable[str]) -> None:
    """Give a resource these tags besides those that it has."""
    here = set(of(tx, [identity]).get(identity, ()))
    new = [{"resource_id": identity, "name": name} for name in dict.fromkeys(names) if name not in here]
    if new:
        tx.execute(tag.insert(), new)


def replace(tx: Tx, identity: str, names: Iterable[str]) -> None:
    """Give a resource exactly these tags."""
    drop(tx, identity)
    rows = [{"resource_id": identity, "name": name} for name in dict.fromkeys(names)]
    if rows:
        tx.execute(tag.insert(), rows)


def remove(tx: Tx, identity: str, name: str) -> bool:
    """Take one tag away; whether it was there."""
    gone = tx.execute(tag.delete().where(tag.c.resource_id == identity, tag.c.name == name))
    return bool(gone.rowcount)


_DROP = tag.delete().where(tag.c.resource_id == sa.bindparam("r"))


def drop(tx: Tx, identity: str) -> None:
    """Forget all tags of a resource that goes away."""
    tx.execute(_DROP, {"r": identity})


def clause(column: sa.ColumnElement[Any], how: str, values: Sequence[str]) -> sa.ColumnElement[bool]:
    """The filters `tags` (has all), `tags-any`, `not-tags` (lacks one of them), `not-tags-any`; comma separated."""
    names = [name for value in values for name in value.split(",") if name]
    one = [sa.exists().where(tag.c.resource_id == column, tag.c.name == name) for name in names]
    found = sa.and_(sa.true(), *one) if how in ("tags", "not-tags") else sa.or_(sa.false(), *one)
    return ~found if how.startswith("not") else found
