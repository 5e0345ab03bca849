"""QoS specs: limits that administrators write down for volume types."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.volume import listing, volume_types
from pileus.volume.tables_rest import qos_spec, volume_type
from pileus.volume.views import links
from pileus.volume.views_rest import QOS
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

_CONSUMERS = ("front-end", "back-end", "both")
_KIND = listing.Kind(
    plural="qos_specs", table=qos_spec, unique="id",
    sort={"id": qos_spec.c.id, "name": qos_spec.c.name, "consumer": qos_spec.c.consumer,
          "created_at": qos_spec.c.created, "updated_at": qos_spec.c.updated},
    filters={"name": listing.text(qos_spec.c.name), "consumer": listing.text(qos_spec.c.consumer)}, alike={},
)


def index(call: Call) -> dict[str, Any]:
    """GET /qos-specs: 200."""
    found = listing.pages(call, _KIND, "/v3/qos-specs")
    return {"qos_specs": QOS.render_all(found.rows, call.version), **found.beside}


def show(call: Call) -> dict[str, Any]:
    """GET /qos-specs/{qos_id}: 200."""
    return _reply(call, _of(call))


def create(call: Call) -> dict[str, Any]:
    """POST /qos-specs: 200. Raises BadRequest without a name, Conflict for one that there is."""
    given = dict(call.body.qos_specs)
    name = given.pop("name", None)
    if not isinstance(name, str) or not name.strip() or len(name) > 255:
        raise BadRequest("Invalid input received: QoS specs need a name of 1 to 255 characters.")
    consumer = _consumer(given.pop("consumer", "back-end"))
    qos_id = call.cloud.world.uuid()
    try:
        with call.tx.savepoint():
            call.tx.execute(qos_spec.insert().values(
                id=qos_id, name=name.strip(), consumer=consumer, specs=_texts(given), created=call.now
            ))
    except sa.exc.IntegrityError:
        raise Conflict(f"QoS Specs {name} already exists.") from None
    return _reply(call, _find(call, qos_id))


def update(call: Call) -> dict[str, Any]:
    """PUT /qos-specs/{qos_id}: 200, what was given; the others stay."""
    found = _of(call)
    given = dict(call.body.qos_specs)
    values: dict[str, Any] = {}
    if "consumer" in given:
        values["consumer"] = _consumer(given.pop("consumer"))
    specs = _texts(given)
    call.tx.execute(qos_spec.update().where(qos_spec.c.id == found.id).values(
        specs={**found.specs, **specs}, updated=call.now, **values
    ))
    return {"qos_specs": {**specs, **values}}


def delete_keys(call: Call) -> None:
    """PUT /qos-specs/{qos_id}/delete_keys: 202."""
    found = _of(call)
    for key in call.body.keys:
        if key not in found.specs:
            raise NotFound(f"QoS specs {found.id} has no spec with key {key}.")
    left = {key: value for key, value in found.specs.items() if key not in call.body.keys}
    call.tx.execute(qos_spec.update().where(qos_spec.c.id == found.id).values(specs=left, updated=call.now))


def delete(call: Call) -> None:
    """DELETE /qos-specs/{qos_id}: 202. While types have it only with `force`, which takes it from them."""
    found = _of(call)
    if _types_of(call, found.id) and not listing.flag(call.query.force, "force"):
        raise BadRequest(f"QoS Specs {found.id} is still associated with entities. Disassociate it, or use force.")
    _take(call, volume_type.c.qos_id == found.id)
    call.tx.execute(qos_spec.delete().where(qos_spec.c.id == found.id))


def associations(call: Call) -> dict[str, Any]:
    """GET /qos-specs/{qos_id}/associations: 200, the volume types that have it."""
    return {"qos_associations": [
        {"association_type": "volume_type", "id": one.id, "name": one.name} for one in _types_of(call, _of(call).id)
    ]}


def associate(call: Call) -> None:
    """GET /qos-specs/{qos_id}/associate: 202. Raises BadRequest for a type that has another."""
    found, kind = _of(call), _type(call)
    if kind.qos_id not in (None, found.id):
        raise BadRequest(f"Invalid volume type: Type {kind.id} is already associated with another qos specs: "
                         f"{kind.qos_id}. Disassociate that first.")
    call.tx.execute(volume_type.update().where(volume_type.c.id == kind.id).values(qos_id=found.id))


def disassociate(call: Call) -> None:
    """GET /qos-specs/{qos_id}/disassociate: 202."""
    found, kind = _of(call), _type(call)
    _take(call, volume_type.c.id == kind.id, volume_type.c.qos_id == found.id)


def disassociate_all(call: Call) -> None:
    """GET /qos-specs/{qos_id}/disassociate_all: 202."""
    _take(call, volume_type.c.qos_id == _of(call).id)


def _take(call: Call, *where: sa.ColumnElement[bool]) -> None:
    call.tx.execute(volume_type.update().where(*where).values(qos_id=None))


def _types_of(call: Call, qos_id: str) -> list[Any]:
    return list(call.tx.all(
        sa.select(volume_type).where(volume_type.c.qos_id == qos_id).order_by(volume_type.c.name)
    ))


def _type(call: Call) -> Any:
    type_id = call.query.vol_type_id
    if not type_id:
        raise BadRequest("Volume Type id must not be None: name it as vol_type_id.")
    return volume_types.by_id(call, type_id)


def _of(call: Call) -> Any:
    return _find(call, call.params["qos_id"])


def _find(call: Call, qos_id: str) -> Any:
    found = call.tx.first(sa.select(qos_spec).where(qos_spec.c.id == qos_id))
    if found is None:
        raise NotFound(f"No such QoS spec {qos_id}.")
    return found


def _consumer(value: Any) -> str:
    if value not in _CONSUMERS:
        raise BadRequest(f"Valid consumer of QoS specs are: {', '.join(_CONSUMERS)}; not {value}.")
    return str(value)


def _texts(given: dict[str, Any]) -> dict[str, str]:
    found = {key: str(value) for key, value in given.items() if value is not None}
    for key, value in found.items():
        if len(value) > 255:
            raise BadRequest(f"Invalid input received: the value of {key} is longer than 255 characters.")
    return found


def _reply(call: Call, found: Any) -> dict[str, Any]:
    return {"qos_specs": QOS.render(found, call.version), "links": links(call, "qos_specs", found.id)}
