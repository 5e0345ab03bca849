"""Subports of trunks: bound where the trunk's parent port is, and the trunk's status, which follows from theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import port_rows, touch
from pileus.network.tables import fault, port, subport, trunk

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

OWNER = "trunk:subport"
"""The device_owner of subports; their device_id is the trunk's id."""

_parent = port.alias("parent")
_OF_PARENTS = (
    sa.select(
        trunk.c.id.label("trunk_id"), _parent.c.host.label("at"), _parent.c.moving_to.label("going"),
        port.c.id, port.c.host, port.c.moving_to, port.c.network_id,
    )
    .join(_parent, _parent.c.id == trunk.c.port_id)
    .outerjoin(subport, subport.c.trunk_id == trunk.c.id)
    .outerjoin(port, port.c.id == subport.c.port_id)
    .where(trunk.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(trunk.c.id, port.c.id)
)
_TRUNK_OF = sa.select(trunk.c.id).where(trunk.c.port_id == sa.bindparam("p"))
_TRUNK_ABOVE = sa.select(subport.c.trunk_id).where(subport.c.port_id == sa.bindparam("p"))
_PARENTS_AT = (
    sa.select(trunk.c.port_id).join(_parent, _parent.c.id == trunk.c.port_id)
    .where(sa.or_(_parent.c.host == sa.bindparam("n"), _parent.c.moving_to == sa.bindparam("n")))
)
_DETAILS = (
    sa.select(
        trunk.c.id.label("trunk_id"), trunk.c.port_id.label("parent_id"), subport.c.port_id,
        subport.c.segmentation_type, subport.c.segmentation_id, port.c.mac,
    )
    .outerjoin(subport, subport.c.trunk_id == trunk.c.id).outerjoin(port, port.c.id == subport.c.port_id)
    .where(trunk.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(trunk.c.id, subport.c.segmentation_id)
)
_BRANCHES = (
    sa.select(
        trunk.c.port_id.label("parent_id"), _parent.c.network_id, subport.c.port_id, subport.c.segmentation_id,
    )
    .join(_parent, _parent.c.id == trunk.c.port_id)
    .outerjoin(subport, subport.c.trunk_id == trunk.c.id)
    .where(sa.or_(_parent.c.host == sa.bindparam("n"), _parent.c.moving_to == sa.bindparam("n")))
    .order_by(trunk.c.id, subport.c.segmentation_id)
)
_STATUSES = (
    sa.select(trunk.c.id, trunk.c.status, _parent.c.host, _parent.c.status.label("parent_status"))
    .join(_parent, _parent.c.id == trunk.c.port_id)
    .where(trunk.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_MEMBERS = (
    sa.select(subport.c.trunk_id, port.c.id, port.c.network_id, port.c.status, port.c.admin_state_up, fault.c.node)
    .join(port, port.c.id == subport.c.port_id)
    .outerjoin(fault, sa.or_(fault.c.resource_id == port.c.id, fault.c.resource_id == port.c.network_id))
    .where(subport.c.trunk_id.in_(sa.bindparam("ids", expanding=True)))
)
_CHUNK = 5000


def trunk_of(tx: Tx, port_id: str) -> str | None:
    """The trunk whose parent the port is."""
    found: str | None = tx.scalar(_TRUNK_OF, {"p": port_id})
    return found


def trunk_above(tx: Tx, port_id: str) -> str | None:
    """The trunk whose subport the port is."""
    found: str | None = tx.scalar(_TRUNK_ABOVE, {"p": port_id})
    return found


def parents_at(tx: Tx, node: str) -> list[str]:
    """The parent ports of trunks that are at a node, or on their way there."""
    return tx.scalars(_PARENTS_AT, {"n": node})


def branches(tx: Tx, node: str) -> Sequence[Row[Any]]:
    """The trunks at a node, or on their way there: a row for each subport, and one for a trunk without any."""
    return tx.all(_BRANCHES, {"n": node})


def details(tx: Tx, port_ids: Sequence[str]) -> dict[str, tuple[str, list[Row[Any]]]]:
    """Of those ports that are parents, by their ids: the trunk's id and its subports."""
    found: dict[str, tuple[str, list[Row[Any]]]] = {}
    for at in range(0, len(port_ids), _CHUNK):
        for row in tx.all(_DETAILS, {"ids": list(port_ids[at : at + _CHUNK])}):
            below = found.setdefault(row.parent_id, (row.trunk_id, []))[1]
            if row.port_id is not None:
                below.append(row)
    return found


def follow(tx: Tx, cloud: Cloud, parent_ids: Collection[str]) -> None:
    """Bind the subports of these ports where they are themselves, now that they may be elsewhere.

    One that its new node has wired already, as the guest was on its way there, stays as it is."""
    if not parent_ids:
        return
    trunks: dict[str, list[Row[Any]]] = {}
    for row in tx.all(_OF_PARENTS, {"ids": list(parent_ids)}):
        strays = trunks.setdefault(row.trunk_id, [])
        if row.id is not None and (row.host, row.moving_to or "") != (row.at, row.going or ""):
            strays.append(row)
    for strays in trunks.values():
        if strays:
            bind(tx, cloud, strays, strays[0].at, strays[0].going)
    settle(tx, trunks)


def bind(tx: Tx, cloud: Cloud, rows: Sequence[Row[Any]], host: str, moving_to: str | None, **also: Any) -> None:
    """Bind ports (rows with id, host, moving_to and network_id) to a node, "": to none; all who must hear of it do."""
    ids = [row.id for row in rows]
    unwired = [row.id for row in rows if not host or host not in (row.host, row.moving_to)]
    tx.execute(port.update().where(port.c.id.in_(ids)).values(host=host, moving_to=moving_to or None, **also))
    tx.execute(port.update().where(port.c.id.in_(unwired)).values(status="DOWN"))
    nodes = {name for row in rows for name in (row.host, row.moving_to, host, moving_to) if name}
    fake = cloud.settings.hypervisor == "fake"
    touch.mark(tx, ids)
    touch.networks(tx, cloud, {row.network_id for row in rows}, *(() if fake else nodes))
    if not fake:
        groups = port_rows.groups_of(tx, ids)
        touch.security_groups(tx, cloud, {group for found in groups.values() for group in found})


def went_up(tx: Tx, cloud: Cloud, parent_ids: Collection[str]) -> None:
    """These ports are wired now. A fake guest's subports are so with it; of others their node tells."""
    _with_parents(tx, parent_ids, "ACTIVE" if cloud.settings.hypervisor == "fake" else None)


def went_down(tx: Tx, parent_ids: Collection[str]) -> None:
    """These ports carry nothing any more, and their subports neither."""
    _with_parents(tx, parent_ids, "DOWN")


def _with_parents(tx: Tx, parent_ids: Collection[str], status: str | None) -> None:
    rows = tx.all(_OF_PARENTS, {"ids": list(parent_ids)}) if parent_ids else ()
    if not rows:
        return
    ids = [row.id for row in rows if row.id is not None]
    if status is not None and ids:
        changed = port.update().where(port.c.id.in_(ids), port.c.status != status)
        if status == "ACTIVE":
            changed = changed.where(port.c.admin_state_up.is_(True), port.c.host != "")
        tx.execute(changed.values(status=status))
    settle(tx, {row.trunk_id for row in rows})


def reported(tx: Tx, cloud: Cloud, node: str, broken: Collection[str]) -> None:
    """A node has told what it carries; `broken` are the ports and networks that it could not make."""
    parents = parents_at(tx, node)
    if not parents:
        return
    if broken:
        failed = sa.or_(port.c.id.in_(broken), port.c.network_id.in_(broken))
        tx.execute(port.update().where(
            port.c.host == node, port.c.device_owner == OWNER, port.c.status == "ACTIVE", failed
        ).values(status="DOWN"))
    follow(tx, cloud, parents)


def settle(tx: Tx, trunk_ids: Iterable[str]) -> None:
    """Give trunks the status that follows from their ports.

    DOWN: the parent is at no running guest; BUILD: some subport is not wired yet; DEGRADED: some could not be wired;
    ERROR: none could; ACTIVE: all are."""
    ids = list(trunk_ids)
    if not ids:
        return
    members: dict[str, dict[str, list[Row[Any]]]] = {}
    for row in tx.all(_MEMBERS, {"ids": ids}):
        members.setdefault(row.trunk_id, {}).setdefault(row.id, []).append(row)
    for row in tx.all(_STATUSES, {"ids": ids}):
        status = _status(row, members.get(row.id, {}))
        if status != row.status:
            tx.execute(trunk.update().where(trunk.c.id == row.id).values(status=status))


def _status(row: Row[Any], members: dict[str, list[Row[Any]]]) -> str:
    if not row.host:
        return "DOWN"
    failed = [found for found in members.values() if any(one.node == row.host for one in found)]
    if failed:
        return "ERROR" if len(failed) == len(members) else "DEGRADED"
    if row.parent_status != "ACTIVE":
        return "DOWN"
    waiting = any(found[0].admin_state_up and found[0].status != "ACTIVE" for found in members.values())
    return "BUILD" if waiting else "ACTIVE"
