"""Nodes that have joined: who they are, what they may be, where they are, and which controller has their connection.

A node that is part of a controller's own process (`pileus up`) has no row here: it has every role.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.cluster import authority, controllers, tokens
from pileus.cluster.invitation import ROLES
from pileus.cluster.tables import node
from pileus.db.locks import bump_revision
from pileus.db.transaction import Retry
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

COUNTER = "cluster.connections"
"""Counts what makes a connection of another controller worthless: a removal, or another connection of the node."""

_c = node.c
_LONGEST = 64
_NAME = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._-]{{0,{_LONGEST - 1}}}", re.ASCII)
_INSTANCE = re.compile("[0-9a-f]{1,31}", re.ASCII)
_AT_ONCE = 500
_ROW = sa.select(node).where(_c.name == sa.bindparam("n"))
_SESSION = sa.select(_c.session).where(_c.name == sa.bindparam("n"))


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
    _check(name, address)
    digest = authority.digest_of_request(request)
    before = tx.first(_ROW, {"n": name})
    again = before is not None and before.key_digest == digest and before.token_id == token_id
    row = tokens.redeem(tx, cloud, token_id, secret, again=again)
    mine = tuple(role for role in ROLES if role in (roles or row.roles))
    beyond = [role for role in roles if role not in row.roles]
    if beyond or not mine:
        raise Forbidden(f"The join token allows the roles {', '.join(row.roles)}; asked for: {', '.join(roles)}.")
    if before is not None and before.key_digest != digest:
        raise Conflict(
            f"A node named {name} has joined already, with another key. Is it another machine? Set node_name. Is it "
            f"the same one, set up anew? Then first: pileus node remove {name}"
        )
    values: dict[str, Any] = {
        "roles": list(mine), "key_digest": digest, "token_id": token_id, "address": address,
        "version": version[:_LONGEST],
    }
    if before is None:
        _insert(tx, cloud, name, **values)
    else:
        tx.execute(node.update().where(_c.name == name).values(**values))
        _moved(tx, cloud, before, address)
    return authority.issue(tx, cloud, request, "node", name), mine


def _check(name: str, address: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"'{name[:80]}' cannot be a node's name: at most {_LONGEST} letters, digits, '-', '.' and '_', and a "
            "letter or digit first. Set node_name."
        )
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise BadRequest(f"'{address[:80]}' is no IP address. Set address.") from None


def _insert(tx: Tx, cloud: Cloud, name: str, **values: Any) -> None:
    new = {"controller": "", "session": "", "seen": 0.0, "joined": cloud.world.now(), "draining": False, **values}
    try:
        with tx.savepoint():
            tx.execute(node.insert().values(name=name, **new))
    except sa.exc.IntegrityError:
        raise Retry(f"node {name} has just been made by another") from None


def _moved(tx: Tx, cloud: Cloud, before: Any, address: str) -> None:
    if address and address != before.address and "network" in cloud.rooms:
        from pileus.network import wiring

        wiring.node_moved(tx, cloud, before.name)


def own(tx: Tx, cloud: Cloud, name: str, address: str) -> None:
    """A node of a controller's own process: it has every role, needs no certificate, and nobody else can be it."""
    values: dict[str, Any] = {
        "roles": list(ROLES), "key_digest": "", "address": address, "controller": cloud.controller,
        "seen": cloud.world.now(),
    }
    if not tx.execute(node.update().where(_c.name == name).values(**values)).rowcount:
        _insert(tx, cloud, name, token_id="", version="", **values)


def admit(
    tx: Tx, cloud: Cloud, name: str, key_digest: str, *, instance: str, address: str = "", version: str = ""
) -> tuple[Any, str]:
    """A node that shows its certificate is connected to this controller from now on; its row, and the session.

    `instance` is of the agent's process. Two that live with one certificate (a copied state folder) would both make
    the same guests: the first one stays, and the second is not let in while another controller has the first's
    connection and lives; this one's own connections are for the caller to look at.

    Raises Forbidden when the node has been removed, or is not the one that joined, and Conflict."""
    row = tx.first(_ROW, {"n": name})
    if row is None or row.key_digest != key_digest:
        raise Forbidden(f"Node {name} is not part of this cloud (any more); a join token lets it in again.")
    if not _INSTANCE.fullmatch(instance):
        raise BadRequest("An agent's process names itself by up to 31 digits and letters from a to f.")
    if address:
        _check(name, address)
    now = cloud.world.now()
    elsewhere = row.session and row.controller != cloud.controller
    if elsewhere and not row.session.startswith(f"{instance}.") and row.controller in controllers.live(tx, now):
        raise taken(name, row.address)
    session = f"{instance}.{cloud.world.hex_id()}"
    values = {"controller": cloud.controller, "session": session, "seen": now, "version": version[:_LONGEST]}
    if address:
        values["address"] = address
        _moved(tx, cloud, row, address)
    tx.execute(node.update().where(_c.name == name).values(**values))
    if elsewhere:
        bump_revision(tx, COUNTER)  # the other controller ends its connection
    return row, session


def taken(name: str, address: str) -> Conflict:
    """What a second agent with the same certificate is told."""
    return Conflict(
        f"Node {name} is connected already, by another agent (address {address or 'unknown'}) with this node's "
        "certificate. If this machine is a copy of that one, give it a node_name and a state folder of its own, and "
        "let it join by a token; it is let in once the other has stopped."
    )


def holds(tx: Tx, name: str, session: str) -> bool:
    """Whether a connection is still the node's: it was not removed, and has no other one."""
    return session != "" and bool(tx.scalar(_SESSION, {"n": name}) == session)


def left(tx: Tx, name: str, session: str) -> None:
    """A connection has ended; nothing, when the node has another one by now."""
    tx.execute(node.update().where(_c.name == name, _c.session == session).values(controller="", session=""))


def all_left(tx: Tx, controller: str) -> None:
    """A controller has no connections: it stops, or has just started."""
    tx.execute(node.update().where(_c.controller == controller, _c.session != "").values(controller="", session=""))


def sessions(tx: Tx, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """The session and the key digest of those of the nodes that are part of the cloud."""
    found: dict[str, tuple[str, str]] = {}
    wanted = sorted(names)
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        rows = tx.all(sa.select(_c.name, _c.session, _c.key_digest).where(_c.name.in_(some)))
        found.update((row.name, (row.session, row.key_digest)) for row in rows)
    return found


def controller_of(tx: Tx, name: str) -> str:
    """The controller that has a node's connection; "" when none has."""
    return tx.scalar(sa.select(_c.controller).where(_c.name == name)) or ""


def seen(tx: Tx, names: Sequence[str], now: float) -> list[str]:
    """These nodes were heard of; those of them that are part of the cloud."""
    known = tx.scalars(sa.select(_c.name).where(_c.name.in_(names)))
    tx.execute(node.update().where(_c.name.in_(names)).values(seen=now))
    return known


def remove(tx: Tx, name: str) -> None:
    """A node is no part of the cloud any more: its certificate counts for nothing. Raises NotFound."""
    find(tx, name)
    tx.execute(node.delete().where(_c.name == name))
    bump_revision(tx, COUNTER)


def set_draining(tx: Tx, name: str, value: bool) -> None:
    """Whether the node shall be emptied. Raises NotFound."""
    find(tx, name)
    tx.execute(node.update().where(_c.name == name).values(draining=value))
