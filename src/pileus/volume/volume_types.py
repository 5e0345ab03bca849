"""Volume types: what kinds of volumes there are, who sees them, and which one counts where none is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import listing
from pileus.volume.schemas_rest import TypeChange, TypeNew
from pileus.volume.tables import volume
from pileus.volume.tables_rest import default_type, group, volume_type, volume_type_access
from pileus.volume.views_rest import TYPE, TYPE_CHANGED, TYPE_NEW, TYPE_SHORT
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.call import Call

DEFAULT = "__DEFAULT__"
"""The name of the type that a new cloud has, which volumes get for which none is asked."""

_VISIBLE_SPECS = ("RESKEY:availability_zones", "multiattach", "replication_enabled")
"""What of a type's extra specs those may read who may not read all."""


class TypeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A volume type as volumes need it."""

    id: str
    name: str
    extra_specs: dict[str, str] = {}
    encrypted: bool = False

    @property
    def multiattach(self) -> bool:
        """Whether its volumes can be attached to several servers."""
        return self.extra_specs.get("multiattach", "").lower() == "<is> true"

    @property
    def zones(self) -> frozenset[str]:
        """The zones that its volumes may be in; none is all."""
        text = self.extra_specs.get("RESKEY:availability_zones", "")
        return frozenset(zone for part in text.split(",") if (zone := part.strip()))


_BY_ID = sa.select(volume_type).where(volume_type.c.id == sa.bindparam("i"))
_BY_NAME = sa.select(volume_type).where(volume_type.c.name == sa.bindparam("n"))
_OWN_DEFAULT = (
    sa.select(volume_type)
    .where(volume_type.c.id == default_type.c.type_id, default_type.c.project_id == sa.bindparam("p"))
)
_ACCESS = sa.select(volume_type_access.c.type_id).where(
    volume_type_access.c.type_id == sa.bindparam("t"), volume_type_access.c.project_id == sa.bindparam("p")
)

# -- for other modules


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make the default type, at the very first start only: later it may have been deleted on purpose."""
    if tx.first(sa.select(volume_type.c.id).limit(1)) is None:
        tx.execute(volume_type.insert().values(
            id=cloud.world.uuid(), name=DEFAULT, description="Default Volume Type", is_public=True, extra_specs={},
            created=cloud.world.now(),
        ))


def find(tx: Tx, context: Context, name_or_id: str) -> TypeInfo:
    """The type by its id, or by its name, among those that the caller sees. Raises NotFound."""
    return _info(row(tx, context, name_or_id))


def default(tx: Tx, cloud: Cloud, context: Context) -> TypeInfo | None:
    """The type of volumes for which none is asked: the project's own default, or the cloud's; None when there is none.
    """
    found = tx.first(_OWN_DEFAULT, {"p": context.project_id or ""}) or tx.first(_BY_NAME, {"n": DEFAULT})
    return None if found is None else _info(found)


def info(tx: Tx, type_id: str) -> TypeInfo | None:
    """One type, whoever sees it; None when there is none."""
    found = tx.first(_BY_ID, {"i": type_id})
    return None if found is None else _info(found)


def names(tx: Tx, ids: Iterable[str] | None = None) -> dict[str, str]:
    """The names of types by id; of all types without `ids`."""
    statement = sa.select(volume_type.c.id, volume_type.c.name)
    if ids is not None:
        wanted = list(ids)
        if not wanted:
            return {}
        statement = statement.where(volume_type.c.id.in_(wanted))
    return {one.id: one.name for one in tx.all(statement)}


def sees(tx: Tx, project_id: str, type_id: str) -> bool:
    """Whether a project may have volumes of this type."""
    found = tx.first(_BY_ID, {"i": type_id})
    return found is not None and (found.is_public or tx.first(_ACCESS, {"t": type_id, "p": project_id}) is not None)


def row(tx: Tx, context: Context, name_or_id: str) -> Any:
    """The row of a type that the caller sees, by id or name. Raises NotFound."""
    found = tx.first(_BY_ID, {"i": name_or_id}) or tx.first(_BY_NAME, {"n": name_or_id})
    if found is None or not (context.is_admin or sees(tx, context.project_id or "", found.id)):
        raise NotFound(f"Volume type {name_or_id} could not be found.")
    return found


def by_id(call: Call, type_id: str) -> Any:
    """The row of a type that the caller sees, by id alone. Raises NotFound."""
    found = row(call.tx, call.context, type_id)
    if found.id != type_id:
        raise NotFound(f"Volume type {type_id} could not be found.")
    return found


def in_use(tx: Tx, type_id: str) -> bool:
    """Whether a volume is of this type."""
    return tx.first(sa.select(volume.c.id).where(volume.c.type_id == type_id).limit(1)) is not None


def _info(found: Any) -> TypeInfo:
    return TypeInfo(
        id=found.id, name=found.name, extra_specs=found.extra_specs, encrypted=found.encryption is not None
    )


# -- handlers

_KIND = listing.Kind(
    plural="volume_types", table=volume_type, unique="id", beside=frozenset({"is_public", "extra_specs"}),
    sort={"id": volume_type.c.id, "name": volume_type.c.name, "created_at": volume_type.c.created,
          "updated_at": volume_type.c.updated, "is_public": volume_type.c.is_public},
    filters={"name": listing.text(volume_type.c.name), "description": listing.text(volume_type.c.description)},
    alike={"name": volume_type.c.name},
)


def index(call: Call) -> dict[str, Any]:
    """GET /types: 200. Administrators see the private ones with is_public=None, or False for those alone."""
    asked = dict(call.query_pairs)
    found = listing.pages(call, _KIND, "/v3/types", *_seen(call, asked.get("is_public")))
    rows = found.rows
    if "extra_specs" in asked and (call.version or (3, 0)) >= (3, 52):
        wanted = listing.mapping(asked["extra_specs"])
        rows = [one for one in rows if wanted.items() <= _specs_of(call, one).items()]
    return {"volume_types": [_shown(call, one, TYPE) for one in rows], **found.beside}


def _seen(call: Call, is_public: str | None) -> list[sa.ColumnElement[bool]]:
    own = sa.select(volume_type_access.c.type_id).where(
        volume_type_access.c.project_id == (call.context.project_id or "")
    )
    public = sa.or_(volume_type.c.is_public.is_(True), volume_type.c.id.in_(own))
    if not call.context.is_admin or is_public is None:
        return [public]
    if is_public.lower() == "none":
        return []
    return [public] if listing.flag(is_public, "is_public") else [volume_type.c.is_public.is_(False)]


def _specs_of(call: Call, found: Any) -> dict[str, str]:
    """A type's extra specs, as far as the caller may read them."""
    whole: dict[str, str] = found.extra_specs
    if call.allows("volume_extension:access_types_extra_specs"):
        return whole
    return {key: value for key, value in whole.items() if key in _VISIBLE_SPECS}


def _shown(call: Call, found: Any, view: Any) -> dict[str, Any]:
    shown: dict[str, Any] = view.render(found, call.version)
    if "extra_specs" in shown:
        shown["extra_specs"] = _specs_of(call, found)
    if "qos_specs_id" in shown and not call.allows("volume_extension:access_types_qos_specs_id"):
        del shown["qos_specs_id"]
    return shown


def show(call: Call) -> dict[str, Any]:
    """GET /types/{type_id}: 200."""
    return {"volume_type": _shown(call, by_id(call, call.params["type_id"]), TYPE)}


def show_default(call: Call) -> dict[str, Any]:
    """GET /types/default: 200, what volumes of the caller's project get for which no type is asked."""
    found = default(call.tx, call.cloud, call.context)
    if found is None:
        raise NotFound("Default volume type can not be found.")
    return {"volume_type": _shown(call, call.tx.first(_BY_ID, {"i": found.id}), TYPE_SHORT)}


def create(call: Call) -> dict[str, Any]:
    """POST /types: 200. Raises Conflict for a name that there is."""
    body: TypeNew = call.body.volume_type
    type_id = call.cloud.world.uuid()
    _store(call, body.name.strip(), volume_type.insert().values(
        id=type_id, name=body.name.strip(), description=body.description, is_public=as_bool(body.is_public),
        extra_specs=body.extra_specs, created=call.now,
    ))
    return {"volume_type": TYPE_NEW.render(by_id(call, type_id), call.version)}


def update(call: Call) -> dict[str, Any]:
    """PUT /types/{type_id}: 200. Raises BadRequest when nothing is said, Conflict for a name that there is."""
    body: TypeChange = call.body.volume_type
    found = by_id(call, call.params["type_id"])
    values: dict[str, Any] = {}
    if body.name not in (UNSET, None):
        values["name"] = str(body.name).strip()
        if not values["name"]:
            raise BadRequest("Volume type name can not be empty.")
    if body.description not in (UNSET, None):
        values["description"] = body.description
    if body.is_public is not UNSET:
        values["is_public"] = as_bool(body.is_public)
    if not values:
        raise BadRequest("Specify volume type name, description, is_public or a combination thereof.")
    _store(call, values.get("name", found.name),
           volume_type.update().where(volume_type.c.id == found.id).values(updated=call.now, **values))
    return {"volume_type": TYPE_CHANGED.render(by_id(call, found.id), call.version)}


def _store(call: Call, name: str, statement: sa.Executable) -> None:
    try:
        with call.tx.savepoint():
            call.tx.execute(statement)
    except sa.exc.IntegrityError:
        raise Conflict(f"Volume type with name {name} already exists.") from None


def delete(call: Call) -> None:
    """DELETE /types/{type_id}: 202. Raises BadRequest while a volume or group is of it, and for a default type."""
    from pileus.volume import quotas

    found = by_id(call, call.params["type_id"])
    if found.name == DEFAULT:
        raise BadRequest(f"Invalid volume type: {found.id} is the default volume type and cannot be deleted.")
    if call.tx.first(sa.select(default_type.c.project_id).where(default_type.c.type_id == found.id)) is not None:
        raise BadRequest(f"Invalid volume type: {found.id} is the default type of a project; unset that first.")
    if in_use(call.tx, found.id) or any(
        found.id in one.volume_types for one in call.tx.all(sa.select(group.c.volume_types))
    ):
        raise BadRequest("Target volume type is still in use.")
    quotas.forget_type(call.tx, found.id)
    call.tx.execute(volume_type_access.delete().where(volume_type_access.c.type_id == found.id))
    call.tx.execute(volume_type.delete().where(volume_type.c.id == found.id))
