"""Flavors: sizes of servers, their extra specs, and who may use the private ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.auth.context import Context
from pileus.compute.schemas_rest import FlavorNew, FlavorQuery, number
from pileus.compute.tables import flavor, flavor_access
from pileus.compute.views_rest import links, more, page_size
from pileus.db.locks import bump_revision, read_revision
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.pages import page, sort_keys
from pileus.web.schemas import as_bool
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


class Flavor(msgspec.Struct, frozen=True, kw_only=True):
    """A size. `ram` and `swap` in MiB, disks in GiB. Servers keep a copy of theirs as it was."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    ephemeral: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = {}
    seq: int = 0  # a number of its own, which migrations show


_ID = re.compile(r"(?! )[a-zA-Z0-9. _-]{1,255}(?<! )")

_BY_ID = sa.select(flavor).where(flavor.c.id == sa.bindparam("id"))
_HAS_ACCESS = sa.select(flavor_access.c.project_id).where(
    flavor_access.c.flavor_id == sa.bindparam("id"), flavor_access.c.project_id == sa.bindparam("project")
)

# -- for other modules


def find(tx: Tx, context: Context, flavor_id: str) -> Flavor:
    """The flavor of this id, if the caller may use it. Raises NotFound."""
    row = tx.first(_BY_ID, {"id": flavor_id})
    if row is not None and not row.is_public and not context.is_admin and (
        tx.first(_HAS_ACCESS, {"id": flavor_id, "project": context.project_id}) is None
    ):
        row = None
    if row is None:
        raise NotFound(f"Flavor {flavor_id} could not be found.")
    return _flavor(row)


def of_caller(call: Call) -> list[Flavor]:
    """The flavors that the caller may use, by name."""
    found = call.tx.all(sa.select(flavor).where(*_wanted(call, FlavorQuery())).order_by(flavor.c.name))
    return [_flavor(row) for row in found]


def _flavor(row: sa.Row[Any]) -> Flavor:
    return Flavor(
        id=row.id, name=row.name, vcpus=row.vcpus, ram=row.ram, disk=row.disk, ephemeral=row.ephemeral,
        swap=row.swap, rxtx_factor=row.rxtx_factor, is_public=row.is_public, disabled=row.disabled,
        description=row.description, extra_specs=row.extra_specs, seq=row.seq,
    )


_MADE = "compute:first-flavors"
_FIRST = (("1", "m1.tiny", 1, 512, 1), ("2", "m1.small", 1, 2048, 20), ("3", "m1.medium", 2, 4096, 40),
          ("4", "m1.large", 4, 8192, 80), ("5", "m1.xlarge", 8, 16384, 160))


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make the five flavors that OpenStack's guides use, at the first start; deleted ones do not come back."""
    if read_revision(tx, _MADE) or tx.first(sa.select(flavor.c.seq).limit(1)) is not None:
        return
    bump_revision(tx, _MADE)
    for key, name, vcpus, ram, disk in _FIRST:
        tx.execute(flavor.insert().values(
            id=key, name=name, vcpus=vcpus, ram=ram, disk=disk, extra_specs={}, created=cloud.world.now(),
        ))


# -- views

_BRIEF = View("id", "name", Field("description", since=(2, 55)))

_WHOLE = View(
    "id", "name", "ram", "disk", "vcpus", "rxtx_factor",
    Field("swap", lambda row: row.swap or "", until=(2, 74)), Field("swap", since=(2, 75)),
    Field("OS-FLV-EXT-DATA:ephemeral", "ephemeral"), Field("OS-FLV-DISABLED:disabled", "disabled"),
    Field("os-flavor-access:is_public", "is_public"), Field("description", since=(2, 55)),
    Field("extra_specs", since=(2, 61)),
)


def _render(call: Call, view: View, rows: list[Any]) -> list[dict[str, Any]]:
    found = view.render_all(rows, call.version)
    specs = call.allows("os_compute_api:os-flavor-extra-specs:index", project_id=call.context.project_id)
    for item in found:
        item["links"] = links(call, "flavors", item["id"])
        if not specs:
            item.pop("extra_specs", None)
    return found


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /flavors: 200."""
    return _list(call, _BRIEF)


def detail(call: Call) -> dict[str, Any]:
    """GET /flavors/detail: 200."""
    return _list(call, _WHOLE)


_SORT: dict[str, sa.ColumnElement[Any]] = {
    "flavorid": flavor.c.id, "id": flavor.c.seq, "name": flavor.c.name, "memory_mb": flavor.c.ram,
    "root_gb": flavor.c.disk, "ephemeral_gb": flavor.c.ephemeral, "swap": flavor.c.swap, "vcpus": flavor.c.vcpus,
    "rxtx_factor": flavor.c.rxtx_factor, "is_public": flavor.c.is_public, "disabled": flavor.c.disabled,
    "description": flavor.c.description, "created_at": flavor.c.created, "updated_at": flavor.c.updated,
    "vcpu_weight": flavor.c.seq,
}


def _list(call: Call, view: View) -> dict[str, Any]:
    query: FlavorQuery = call.query
    statement = sa.select(flavor).where(*_wanted(call, query))
    keys = sort_keys(_SORT, [query.sort_key], [query.sort_dir], [])
    marker = None
    if query.marker is not None:
        marker = call.tx.first(_BY_ID, {"id": query.marker})
        if marker is None:
            raise BadRequest(f"marker [{query.marker}] not found")
    size = page_size(query.limit)
    rows = page(call.tx, statement, keys, flavor.c.seq, size, marker)
    return {
        "flavors": _render(call, view, rows),
        **more(call, "flavors", len(rows), size, rows[-1].id if rows else ""),
    }


def _wanted(call: Call, query: FlavorQuery) -> list[sa.ColumnElement[bool]]:
    admin = call.context.is_admin
    wanted: list[sa.ColumnElement[bool]] = []
    public = _public_filter(query.is_public) if admin else True
    if public is True:
        granted = sa.exists().where(
            flavor_access.c.flavor_id == flavor.c.id, flavor_access.c.project_id == call.context.project_id
        )
        wanted.append(sa.or_(flavor.c.is_public.is_(True), granted))
    elif public is False:
        wanted.append(flavor.c.is_public.is_(False))
    if not admin:
        wanted.append(flavor.c.disabled.is_(False))
    if query.min_ram is not None:
        wanted.append(flavor.c.ram >= query.min_ram)
    if query.min_disk is not None:
        wanted.append(flavor.c.disk >= query.min_disk)
    return wanted


def _public_filter(text: str | None) -> bool | None:
    """True: public ones and those granted to the caller's project; False: private ones; None: all."""
    if text is None:
        return True
    lower = text.strip().lower()
    if lower == "none":
        return None
    if lower in ("1", "t", "true", "on", "y", "yes"):
        return True
    if lower in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(f"Invalid is_public filter [{text}]: use true, false or none.")


def show(call: Call) -> dict[str, Any]:
    """GET /flavors/{flavor_id}: 200."""
    return {"flavor": _render(call, _WHOLE, [find(call.tx, call.context, call.params["flavor_id"])])[0]}


def create(call: Call) -> dict[str, Any]:
    """POST /flavors: 200."""
    new: FlavorNew = call.body.flavor
    world = call.cloud.world
    flavor_id = world.uuid() if new.id is None else flavor_id_text(new.id)
    _check_free(call.tx, flavor_id, new.name)
    call.tx.execute(flavor.insert().values(
        id=flavor_id, name=new.name, vcpus=number(new.vcpus, "vcpus", 1), ram=number(new.ram, "ram", 1),
        disk=number(new.disk, "disk"), ephemeral=number(new.ephemeral, "OS-FLV-EXT-DATA:ephemeral"),
        swap=number(new.swap, "swap"), rxtx_factor=_factor(new.rxtx_factor), is_public=as_bool(new.is_public),
        disabled=False, description=None if new.description is UNSET else new.description, extra_specs={},
        created=call.now,
    ))
    return {"flavor": _render(call, _WHOLE, [find(call.tx, call.context, flavor_id)])[0]}


def flavor_id_text(value: str | float) -> str:
    """A flavor's id as text; numbers are taken too. Raises BadRequest for one that is no id as text."""
    text = str(value)
    if not _ID.fullmatch(text):
        raise BadRequest(f"Invalid input: '{text[:64]}' cannot be a flavor's id.")
    return text


def _check_free(tx: Tx, flavor_id: str, name: str) -> None:
    if tx.first(sa.select(flavor.c.seq).where(flavor.c.name == name)) is not None:
        raise Conflict(f"Flavor with name {name} already exists.")
    if tx.first(_BY_ID, {"id": flavor_id}) is not None:
        raise Conflict(f"Flavor with ID {flavor_id} already exists.")


def _factor(value: float | str) -> float:
    factor = float(value)
    if not 0 < factor <= 3.40282e38:
        raise BadRequest(f"Invalid input: rxtx_factor {value} is not a positive number.")
    return factor


def update(call: Call) -> dict[str, Any]:
    """PUT /flavors/{flavor_id}: 200. Only the description can change (2.55)."""
    found = find(call.tx, call.context, call.params["flavor_id"])
    description = call.body.flavor.description
    call.tx.execute(
        flavor.update().where(flavor.c.id == found.id).values(description=description, updated=call.now)
    )
    return {"flavor": _render(call, _WHOLE, [msgspec.structs.replace(found, description=description)])[0]}


def delete(call: Call) -> None:
    """DELETE /flavors/{flavor_id}: 202. Servers keep the copy that they were made with."""
    found = find(call.tx, call.context, call.params["flavor_id"])
    call.tx.execute(flavor.delete().where(flavor.c.id == found.id))
