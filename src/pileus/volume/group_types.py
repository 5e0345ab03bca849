"""Group types: what kinds of groups of volumes there are, and their specs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.volume import listing
from pileus.volume.schemas_groups import GroupTypeChange, GroupTypeNew
from pileus.volume.tables_rest import group, group_type
from pileus.volume.views_rest import GROUP_TYPE
from pileus.web.errors import BadRequest, Conflict, NotFound
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.web.call import Call

CONSISTENT = "consistent_group_snapshot_enabled"
"""The spec that wants the snapshots of a group to be of one moment."""

_KIND = listing.Kind(
    plural="group_types", table=group_type, unique="id", beside=frozenset({"is_public"}),
    sort={"id": group_type.c.id, "name": group_type.c.name, "created_at": group_type.c.created,
          "updated_at": group_type.c.updated, "is_public": group_type.c.is_public},
    filters={"name": listing.text(group_type.c.name)}, alike={"name": group_type.c.name},
)

# -- for other modules


def find(call: Call, name_or_id: str) -> Any:
    """The row of a type that the caller sees, by id or name. Raises NotFound."""
    found = call.tx.first(sa.select(group_type).where(group_type.c.id == name_or_id))
    found = found or call.tx.first(sa.select(group_type).where(group_type.c.name == name_or_id))
    if found is None or not (found.is_public or call.context.is_admin):
        raise NotFound(f"Group type {name_or_id} could not be found.")
    return found


def is_consistent(found: Any) -> bool:
    """Whether groups of the type want snapshots of one moment."""
    return bool(found.specs.get(CONSISTENT, "").lower() == "<is> true")


# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /group_types: 200. Administrators see the private ones with is_public=None, or False for those alone."""
    asked = dict(call.query_pairs).get("is_public")
    where = [group_type.c.is_public.is_(True)]
    if call.context.is_admin and asked is not None:
        where = [] if asked.lower() == "none" else [group_type.c.is_public.is_(listing.flag(asked, "is_public"))]
    found = listing.pages(call, _KIND, "/v3/group_types", *where)
    return {"group_types": [_shown(call, one) for one in found.rows], **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /group_types/{type_id}: 200."""
    return {"group_type": _shown(call, find(call, call.params["type_id"]))}


def show_default(call: Call) -> dict[str, Any]:
    """GET /group_types/default. Raises NotFound: every group says of which type it is."""
    raise NotFound("There is no default group type: name one when you make a group.")


def create(call: Call) -> dict[str, Any]:
    """POST /group_types: 202. Raises Conflict for a name that there is."""
    body: GroupTypeNew = call.body.group_type
    type_id = call.cloud.world.uuid()
    _store(call, body.name.strip(), group_type.insert().values(
        id=type_id, name=body.name.strip(), description=body.description, is_public=as_bool(body.is_public),
        specs=body.group_specs, created=call.now,
    ))
    return {"group_type": _shown(call, find(call, type_id))}


def update(call: Call) -> dict[str, Any]:
    """PUT /group_types/{type_id}: 200. Raises BadRequest when nothing is said, Conflict for a name that there is."""
    body: GroupTypeChange = call.body.group_type
    found = find(call, call.params["type_id"])
    values: dict[str, Any] = {}
    if body.name not in (UNSET, None):
        values["name"] = str(body.name).strip()
        if not values["name"]:
            raise BadRequest("Group type name can not be empty.")
    if body.description not in (UNSET, None):
        values["description"] = body.description
    if body.is_public is not UNSET:
        values["is_public"] = as_bool(body.is_public)
    if not values:
        raise BadRequest("Specify group type name, description, is_public or a combination thereof.")
    _store(call, values.get("name", found.name),
           group_type.update().where(group_type.c.id == found.id).values(updated=call.now, **values))
    return {"group_type": _shown(call, find(call, found.id))}


def delete(call: Call) -> None:
    """DELETE /group_types/{type_id}: 202. Raises BadRequest while there is a group of it."""
    found = find(call, call.params["type_id"])
    if call.tx.first(sa.select(group.c.id).where(group.c.type_id == found.id).limit(1)) is not None:
        raise BadRequest(f"Group type {found.id} is still in use.")
    call.tx.execute(group_type.delete().where(group_type.c.id == found.id))


def _store(call: Call, name: str, statement: sa.Executable) -> None:
    try:
        with call.tx.savepoint():
            call.tx.execute(statement)
    except sa.exc.IntegrityError:
        raise Conflict(f"Group type with name {name} already exists.") from None


def _shown(call: Call, found: Any) -> dict[str, Any]:
    shown = GROUP_TYPE.render(found, call.version)
    if not call.allows("group:access_group_types_specs"):
        del shown["group_specs"]
    return shown


# -- handlers: specs


def specs(call: Call) -> dict[str, Any]:
    """GET /group_types/{type_id}/group_specs: 200."""
    return {"group_specs": find(call, call.params["type_id"]).specs}


def add_specs(call: Call) -> dict[str, Any]:
    """POST /group_types/{type_id}/group_specs: 202, what was given; the others stay."""
    _merge(call, call.body.group_specs)
    return {"group_specs": call.body.group_specs}


def show_spec(call: Call) -> dict[str, Any]:
    """GET /group_types/{type_id}/group_specs/{key}: 200."""
    found, key = _spec(call)
    return {key: found.specs[key]}


def put_spec(call: Call) -> dict[str, Any]:
    """PUT /group_types/{type_id}/group_specs/{key}: 200. The body has that one key."""
    if list(call.body) != [call.params["key"]]:
        raise BadRequest("Request body and URI mismatch: the body must hold the key of the URI, and no other.")
    _merge(call, call.body)
    return dict(call.body)


def delete_spec(call: Call) -> None:
    """DELETE /group_types/{type_id}/group_specs/{key}: 202."""
    found, key = _spec(call)
    _write(call, found.id, {name: value for name, value in found.specs.items() if name != key})


def _spec(call: Call) -> tuple[Any, str]:
    found, key = find(call, call.params["type_id"]), call.params["key"]
    if key not in found.specs:
        raise NotFound(f"Group Type {found.id} has no specs with key {key}.")
    return found, key


def _merge(call: Call, given: dict[str, str]) -> None:
    found = find(call, call.params["type_id"])
    _write(call, found.id, {**found.specs, **given})


def _write(call: Call, type_id: str, values: dict[str, str]) -> None:
    call.tx.execute(group_type.update().where(group_type.c.id == type_id).values(specs=values, updated=call.now))
