"""Trunks: a parent port whose tagged frames are those of other ports, the subports, each on a network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import lists, ports, quotas, sharing, subports, tags, touch, views
from pileus.network.faults import conflict, invalid, not_found
from pileus.network.ports import PortInfo
from pileus.network.schemas import Subport, TrunkChange, TrunkNew, number
from pileus.network.tables import network, port, subport, trunk
from pileus.web.call import Call
from pileus.web.schemas import as_bool

_c = trunk.c
_VLANS = range(1, 4095)  # IEEE 802.1Q, 9.6
_SUBPORTS = sa.select(subport).where(
    subport.c.trunk_id.in_(sa.bindparam("ids", expanding=True))
).order_by(subport.c.trunk_id, subport.c.segmentation_id)
_PORTS = (
    sa.select(port, network.c.mtu, network.c.network_type, network.c.segmentation_id)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.id.in_(sa.bindparam("ids", expanding=True)))
)
Segments = dict[str, tuple[str, int]]  # of subports, by port id: segmentation type and id


def _visible(call: Call) -> lists.Clause:
    return _c.project_id == sharing.own(call.context)


def _subports(call: Call, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {}
    for at in range(0, len(ids), 5000):
        for row in call.tx.all(_SUBPORTS, {"ids": list(ids[at : at + 5000])}):
            found.setdefault(row.trunk_id, []).append(row)
    return found


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    below, named = _subports(call, ids), tags.of(call.tx, ids)
    return [views.trunk(row, below.get(row.id, ()), named.get(row.id, [])) for row in rows]


NOUN = lists.Noun(
    name="trunk", plural="trunks", title="Trunk", error="TrunkNotFound", table=trunk, visible=_visible, render=_render,
    filters={
        **lists.standard(trunk), "port_id": lists.text(_c.port_id), "status": lists.text(_c.status),
        "admin_state_up": lists.flag(_c.admin_state_up),
    },
    sorts=lists.sorts(trunk, "name", "port_id", "status", "admin_state_up"),
)


# -- what may be


def _serialize(call: Call) -> None:
    """A port is in one trunk at most, as its parent or a subport: two transactions must not find it free."""
    call.tx.serialize("network-trunks")


def _check_free(call: Call, port_id: str) -> None:
    if subports.trunk_above(call.tx, port_id) is not None:
        raise conflict("TrunkPortInUse", f"Port {port_id} is in use by another trunk.")
    if subports.trunk_of(call.tx, port_id) is not None:
        raise _no_parent(port_id)


def _no_parent(port_id: str) -> Exception:
    return conflict(
        "ParentPortInUse", f"Port {port_id} is currently in use and is not eligible for use as a parent port."
    )


def _check_enabled(row: Row[Any]) -> None:
    if not row.admin_state_up:
        raise conflict("TrunkDisabled", f"Trunk {row.id} is currently disabled; set its admin_state_up to true first.")


def _segments(sent: Sequence[Subport], rows: dict[str, Row[Any]]) -> Segments:
    """The tags of new subports. Raises BadRequest."""
    found: Segments = {}
    for one in sent:
        kind, tag = one.segmentation_type, one.segmentation_id
        if kind == "inherit":
            kind, tag = rows[one.port_id].network_type, rows[one.port_id].segmentation_id
        if kind is None or tag is None:
            raise invalid(f"subport {one.port_id} lacks segmentation information; both segmentation_type and "
                          "segmentation_id must be given, or the type 'inherit' for a port on a VLAN network.")
        if kind != "vlan":
            raise invalid(f"Unknown segmentation_type '{kind}' of subport {one.port_id}; only 'vlan' is known here.")
        if number(tag) not in _VLANS:
            raise invalid(f"segmentation_id {tag} of subport {one.port_id} is not in range: VLANs are 1 to 4094.")
        if (kind, number(tag)) in found.values():
            raise invalid(f"segmentation_id {tag} is given to two subports.")
        found[one.port_id] = kind, number(tag)
    return found


def _found(call: Call, sent: Sequence[Subport]) -> dict[str, Row[Any]]:
    """The ports named, which the caller may put into a trunk. Raises NotFound, BadRequest."""
    ids = [one.port_id for one in sent]
    if len(set(ids)) != len(ids):
        raise invalid("a port is given twice among the subports.")
    own = call.context.project_id
    rows = {row.id: row for row in call.tx.all(_PORTS, {"ids": ids})}
    for identity in ids:
        row = rows.get(identity)
        if row is None or (row.project_id != own and not call.context.is_admin):
            raise ports.missing(identity)
    return rows


def _check_subport(call: Call, row: Row[Any], parent: PortInfo, trunk_id: str) -> None:
    """May this port become a subport of the parent's trunk? Raises Conflict."""
    if row.id == parent.id:
        raise _no_parent(row.id)
    if row.mtu > parent.mtu:
        raise conflict(
            "SubPortMtuGreaterThanTrunkPortMtu",
            f"MTU {row.mtu} of subport {row.id} cannot be greater than MTU {parent.mtu} of trunk {trunk_id}.",
        )
    _check_free(call, row.id)
    if row.device_id:
        raise conflict(
            "PortInUse", f"Unable to complete operation on port {row.id} for network {row.network_id}. "
                         f"Port already has an attached device {row.device_id}.",
        )


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/trunks: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/trunks/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/trunks: 201."""
    return lists.create_all(call, NOUN, _create)


def _create(call: Call, new: TrunkNew) -> str:
    project_id = lists.owner(call, new, "create_trunk")
    _serialize(call)
    parent = ports.visible(call.tx, call.context, new.port_id)
    _check_free(call, parent.id)
    if parent.device_owner.startswith("network:"):
        raise _no_parent(parent.id)
    quotas.room(call.tx, call.cloud, project_id, {"trunk": 1})
    row = lists.base(call, project_id, new.description) | {
        "name": new.name, "admin_state_up": as_bool(new.admin_state_up), "status": "DOWN", "port_id": parent.id,
    }
    call.tx.execute(trunk.insert(), row)
    _add(call, str(row["id"]), parent, new.sub_ports)
    # Its node hears also of a trunk without subports: what has a tag is of no network from now on.
    touch.hold(call.tx, parent.id)
    touch.network(call.tx, call.cloud, parent.network_id)
    return str(row["id"])


def _add(call: Call, trunk_id: str, parent: PortInfo, sent: Sequence[Subport]) -> None:
    rows = _found(call, sent)
    segments = _segments(sent, rows)
    have = {(row.segmentation_type, row.segmentation_id) for row in _subports(call, [trunk_id]).get(trunk_id, ())}
    for identity, (kind, tag) in segments.items():
        _check_subport(call, rows[identity], parent, trunk_id)
        if (kind, tag) in have:
            raise conflict("DuplicateSubPort", f"segmentation_type {kind} and segmentation_id {tag} already in use on "
                                               f"trunk {trunk_id}.")
    if segments:
        call.tx.execute(subport.insert(), [
            {"port_id": identity, "trunk_id": trunk_id, "segmentation_type": kind, "segmentation_id": tag}
            for identity, (kind, tag) in segments.items()
        ])
        _take(call, trunk_id, list(rows.values()))
        subports.bind(call.tx, call.cloud, list(rows.values()), parent.host, parent.moving_to)
        if parent.status == "ACTIVE":
            subports.went_up(call.tx, call.cloud, [parent.id])
    subports.settle(call.tx, [trunk_id])


def _take(call: Call, trunk_id: str, rows: Sequence[Row[Any]]) -> None:
    taken = call.tx.execute(
        port.update().where(port.c.id.in_([row.id for row in rows]), port.c.device_id == "").values(
            device_id=trunk_id, device_owner=subports.OWNER, status="DOWN", updated=call.now,
            revision=port.c.revision + 1,
        )
    )
    if taken.rowcount != len(rows):
        raise conflict("PortInUse", "One of the subports was taken by a device at the same time.")


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/trunks/{id}: 200."""
    sent: TrunkChange = call.body.trunk
    row = lists.find_for(call, NOUN, "update", call.params["id"])
    values = lists.given(sent)
    if sent.description is not UNSET:
        values["description"] = sent.description or ""
    if sent.admin_state_up is not UNSET:
        values["admin_state_up"] = as_bool(sent.admin_state_up)
    lists.update(call, trunk, row.id, values)
    return lists.shown(call, NOUN, row.id)


def delete(call: Call) -> None:
    """DELETE /v2.0/trunks/{id}: 204, while its parent is at no guest. The ports stay."""
    row = lists.find_for(call, NOUN, "delete", call.params["id"])
    _serialize(call)
    _check_enabled(row)
    parent = ports.get(call.tx, row.port_id)
    if parent.host:
        raise conflict("TrunkInUse", f"Trunk {row.id} is currently in use: its parent port {parent.id} is bound to "
                                     f"{parent.device_id or 'a node'}; detach that first.")
    _release(call, [found.port_id for found in _subports(call, [row.id]).get(row.id, ())])
    tags.drop(call.tx, row.id)
    call.tx.execute(trunk.delete().where(_c.id == row.id))
    touch.hold(call.tx, parent.id)
    touch.network(call.tx, call.cloud, parent.network_id)


def _release(call: Call, ids: Sequence[str]) -> None:
    """These ports are subports no longer."""
    if not ids:
        return
    rows = call.tx.all(_PORTS, {"ids": list(ids)})
    call.tx.execute(subport.delete().where(subport.c.port_id.in_(ids)))
    subports.bind(
        call.tx, call.cloud, rows, "", None, device_id="", device_owner="", updated=call.now,
        revision=port.c.revision + 1,
    )


# -- subports


def get_subports(call: Call) -> dict[str, Any]:
    """GET /v2.0/trunks/{id}/get_subports: 200."""
    row = lists.find(call, NOUN, call.params["id"])
    call.enforce("get_subports", project_id=row.project_id)
    return {"sub_ports": [views.subport(found) for found in _subports(call, [row.id]).get(row.id, ())]}


def add_subports(call: Call) -> dict[str, Any]:
    """PUT /v2.0/trunks/{id}/add_subports: 200, the trunk itself."""
    row = _changing(call, "add_subports")
    if row.status == "ERROR":
        raise conflict("TrunkInErrorState", f"Trunk {row.id} is in error state. Attempt to resolve the error "
                                            "condition before proceeding: its node's log has the reason.")
    _add(call, row.id, ports.get(call.tx, row.port_id), call.body.sub_ports)
    return _changed(call, row)


def remove_subports(call: Call) -> dict[str, Any]:
    """PUT /v2.0/trunks/{id}/remove_subports: 200, the trunk itself."""
    row = _changing(call, "remove_subports")
    ids = list(dict.fromkeys(one.port_id for one in call.body.sub_ports))
    have = {found.port_id for found in _subports(call, [row.id]).get(row.id, ())}
    for identity in ids:
        if identity not in have:
            raise not_found("SubPortNotFound", f"SubPort on trunk {row.id} with port", identity)
    _release(call, ids)
    subports.settle(call.tx, [row.id])
    return _changed(call, row)


def _changing(call: Call, rule: str) -> Row[Any]:
    row = lists.find(call, NOUN, call.params["id"])
    call.enforce(rule, project_id=row.project_id)
    _serialize(call)
    _check_enabled(row)
    return row


def _changed(call: Call, row: Row[Any]) -> dict[str, Any]:
    lists.update(call, trunk, row.id, {})
    shown: dict[str, Any] = lists.shown(call, NOUN, row.id)["trunk"]
    return shown
