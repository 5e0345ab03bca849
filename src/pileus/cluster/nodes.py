"""Nodes that have joined: who they are, what they may be, where they are, and which controller has their connection.

A node that is part of a controller's own process (`pileus up`) has no row here: it has every role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster import authority, tokens
from pileus.cluster.tables import node
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_c = node.c
_LONGEST = 200
_ROW = sa.select(node).where(_c.name == sa.bindparam("n"))


# -- for rooms


def addresses(tx: Tx) -> dict[str, str]:
    """The underlay address of every node that has joined."""
    return {row.name: row.address for row in tx.all(sa.select(_c.name, _c.address)) if row.address}


def with_role(tx: Tx, role: str) -> set[str] | None:
    """The nodes that have a role. None: no node has ever joined, so that every node has every role."""
    rows = tx.all(sa.select(_c.name, _c.roles))
    return {row.name for row in rows if role in row.roles} if rows else None


def has_role(tx: Tx, name: str, role: str) -> bool:
    """Whether a node has a role; one without a row has all."""
    row = tx.first(_ROW, {"n": name})
    return row is None or role in row.roles


def draining(tx: Tx) -> set[str]:
    """The nodes that shall be emptied, and get nothing new."""
    return set(tx.scalars(sa.select(_c.name).where(_c.draining.is_(True))))


def find(tx: Tx, name: str) -> Any:
    """A node's row. Raises NotFound."""
    row = tx.first(_ROW, {"n": name})
    if row is None:
        raise NotFound(f"No node {name} has joined; `pileus node list` shows those that have.")
    return row


def listing(tx: Tx) -> list[Any]:
    """All rows, by name."""
    return list(tx.all(sa.select(node).order_by(_c.name)))


# -- joining and leaving


def join(
    tx: Tx, cloud: Cloud, *, token_id: str, secret: str, name: str, request: str, roles: Sequence[str], address: str,
    version: str,
) -> tuple[str, tuple[str, ...]]:
    """Let a node in: its certificate, PEM, and its roles. The same node with the same key may ask again.

    Raises Forbidden for a token that is not good, Conflict for a name that another has, BadRequest."""
    _check_name(name)
    digest = authority.digest_of_request(request)
    before = tx.first(_ROW, {"n": name})
    again = before is not None and before.key_digest == digest and before.token_id == token_id
    row = tokens.redeem(tx, cloud, token_id, secret, again=again)
    mine = tuple(role for role in tokens.ROLES if role in (roles or row.roles))
    beyond = [role for role in roles if role not in row.roles]
    if beyond or not mine:
        raise Forbidden(f"The join token allows the roles {', '.join(row.roles)}; asked for: {', '.join(roles)}.")
    if before is not None and before.key_digest != digest:
        raise Conflict(
            f"A node named {name} has joined already, with another key. Is it another machine? Set node_name. Is it "
            f"the same one, set up anew? Then first: pileus node remove {name}"
        )
    now = cloud.world.now()
    values: dict[str, Any] = {
        "roles": list(mine), "key_digest": digest, "token_id": token_id, "address": address, "version": version,
    }
    if before is None:
        tx.execute(node.insert().values(
            name=name, controller="", session="", seen=0.0, joined=now, draining=False, **values
        ))
    else:
        tx.execute(node.update().where(_c.name == name).values(**values))
    return authority.issue(tx, cloud, request, "node", name), mine


def _check_name(name: str) -> None:
    good = name and len(name) <= _LONGEST and all(c.isascii() and (c.isalnum() or c in "-._") for c in name)
    if not good:
        raise BadRequest(f"'{name[:80]}' cannot be a node's name: letters, digits, '-', '.' and '_', at most 200.")


def own(tx: Tx, cloud: Cloud, name: str, address: str) -> None:
    """A node of a controller's own process: it has every role, needs no certificate, and nobody else can be it."""
    now = cloud.world.now()
    values: dict[str, Any] = {
        "roles": list(tokens.ROLES), "key_digest": "", "address": address, "controller": cloud.controller, "seen": now,
    }
    if not tx.execute(node.update().where(_c.name == name).values(**values)).rowcount:
        tx.execute(node.insert().values(
            name=name, token_id="", session="", joined=now, draining=False, version="", **values
        ))


def admit(tx: Tx, cloud: Cloud, name: str, key_digest: str, *, session: str, address: str, version: str) -> Any:
    """A node that shows its certificate is connected to this controller from now on; its row.

    Raises Forbidden when it has been removed, or is not the one that joined."""
    row = tx.first(_ROW, {"n": name})
    if row is None or row.key_digest != key_digest:
        raise Forbidden(f"Node {name} is not part of this cloud (any more); a join token lets it in again.")
    values = {"controller": cloud.controller, "session": session, "seen": cloud.world.now(), "version": version}
    if address:
        values["address"] = address
    tx.execute(node.update().where(_c.name == name).values(**values))
    return row


def left(tx: Tx, name: str, session: str) -> None:
    """A connection has ended; nothing, when the node has another one by now."""
    tx.execute(node.update().where(_c.name == name, _c.session == session).values(controller="", session=""))


def sessions(tx: Tx, controller: str) -> dict[str, tuple[str, str]]:
    """The nodes that are connected to a controller, as the database has it: name to session and key digest."""
    rows = tx.all(sa.select(_c.name, _c.session, _c.key_digest).where(_c.controller == controller))
    return {row.name: (row.session, row.key_digest) for row in rows}


def controller_of(tx: Tx, name: str) -> str:
    """The controller that has a node's connection; "" when none has."""
    return tx.scalar(sa.select(_c.controller).where(_c.name == name)) or ""


def seen(tx: Tx, names: Sequence[str], now: float) -> None:
    """These nodes were heard of."""
    tx.execute(node.update().where(_c.name.in_(names)).values(seen=now))


def remove(tx: Tx, name: str) -> None:
    """A node is no part of the cloud any more: its certificate counts for nothing. Raises NotFound."""
    find(tx, name)
    tx.execute(node.delete().where(_c.name == name))


def set_draining(tx: Tx, name: str, value: bool) -> None:
    """Whether the node shall be emptied. Raises NotFound."""
    find(tx, name)
    tx.execute(node.update().where(_c.name == name).values(draining=value))
