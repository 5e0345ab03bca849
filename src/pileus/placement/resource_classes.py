"""Resource classes: the standard ones, and CUSTOM_ ones that operators make."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.placement.tables import inventory, resource_class
from pileus.placement.views import class_view, fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx

STANDARD = (
    "VCPU", "MEMORY_MB", "DISK_GB", "PCI_DEVICE", "SRIOV_NET_VF", "NUMA_SOCKET", "NUMA_CORE", "NUMA_THREAD",
    "NUMA_MEMORY_MB", "IPV4_ADDRESS", "VGPU", "VGPU_DISPLAY_HEAD", "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC", "PCPU", "MEM_ENCRYPTION_CONTEXT", "FPGA", "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC", "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
)
_STANDARD = frozenset(STANDARD)
_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+")


def unknown(tx: Tx, names: Iterable[str]) -> list[str]:
    """Those of the names that are no resource class, sorted."""
    custom = set(names) - _STANDARD
    if not custom:
        return []
    known = tx.scalars(sa.select(resource_class.c.name).where(resource_class.c.name.in_(custom)))
    return sorted(custom - set(known))


def check(tx: Tx, names: Iterable[str]) -> None:
    """Raises BadRequest when one of the names is no resource class."""
    missing = unknown(tx, names)
    if missing:
        raise BadRequest(f"No such resource class {', '.join(missing)}.")


def add(tx: Tx, name: str, now: float) -> bool:
    """Make a custom class; False when it is there already."""
    try:
        with tx.savepoint():
            tx.execute(resource_class.insert().values(name=name, created=now))
    except sa.exc.IntegrityError:
        return False
    return True


def index(call: Call) -> Reply:
    """GET /resource_classes: 200."""
    custom = call.tx.scalars(sa.select(resource_class.c.name).order_by(resource_class.c.name))
    return fresh(call, {"resource_classes": [class_view(call, name) for name in (*STANDARD, *custom)]})


def show(call: Call) -> Reply:
    """GET /resource_classes/{name}: 200."""
    name = call.params["name"]
    _need(call.tx, name)
    return fresh(call, class_view(call, name))


def create(call: Call) -> Reply:
    """POST /resource_classes: 201, no body."""
    name = call.body.name
    if not add(call.tx, name, call.now):
        raise Conflict(f"Conflicting resource class already exists: {name}.")
    return Reply(None, headers=_location(call, name))


def ensure(call: Call) -> Reply:
    """PUT /resource_classes/{name} (from 1.7 on): 201, or 204 when it was there."""
    name = call.params["name"]
    if not _CUSTOM.fullmatch(name) or len(name) > 255:
        raise BadRequest(f"'{name}' is not the name of a custom resource class: CUSTOM_ and then A-Z, 0-9 or _.")
    made = add(call.tx, name, call.now)
    return Reply(None, status=201 if made else 204, headers=_location(call, name))


def rename(call: Call) -> dict[str, Any]:
    """PUT /resource_classes/{name} (up to 1.6): 200."""
    old, new = call.params["name"], call.body.name
    _need(call.tx, old)
    if old in _STANDARD:
        raise BadRequest(f"Cannot update standard resource class {old}.")
    if new != old:
        _refuse_in_use(call.tx, old)
        if not add(call.tx, new, call.now):
            raise Conflict(f"Resource class already exists: {new}.")
        call.tx.execute(resource_class.delete().where(resource_class.c.name == old))
    return class_view(call, new)


def delete(call: Call) -> None:
    """DELETE /resource_classes/{name}: 204."""
    name = call.params["name"]
    _need(call.tx, name)
    if name in _STANDARD:
        raise BadRequest(f"Error in delete resource class: cannot delete standard resource class {name}.")
    _refuse_in_use(call.tx, name)
    call.tx.execute(resource_class.delete().where(resource_class.c.name == name))


def _need(tx: Tx, name: str) -> None:
    if unknown(tx, [name]):
        raise NotFound(f"No such resource class {name}.")


def _refuse_in_use(tx: Tx, name: str) -> None:
    if tx.first(sa.select(inventory.c.provider_id).where(inventory.c.resource_class == name).limit(1)) is not None:
        raise Conflict(f"Error in delete resource class: {name} is in use in inventory; remove that first.")


def _location(call: Call, name: str) -> dict[str, str]:
    return {"Location": f"{call.url}/resource_classes/{name}"}
