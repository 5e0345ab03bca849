"""The handlers of images: made, shown, changed, deleted, deactivated."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.image import attributes, copies
from pileus.image.attributes import COLUMNS, check_count, check_settable, check_value
from pileus.image.images import (
    ImageInfo,
    describe,
    get_visible,
    is_member,
    new_row,
    set_properties,
    set_tags,
    target,
)
from pileus.image.tables import image
from pileus.image.views import image_view
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound, UnsupportedMediaType

METHODS = ("glance-direct", "web-download")
PATCH_TYPES = {
    "application/openstack-images-v2.0-json-patch": 4,
    "application/openstack-images-v2.1-json-patch": 10,
}
_OPERATIONS = ("add", "remove", "replace")


class Change(msgspec.Struct, frozen=True):
    """One operation of a JSON patch."""

    operation: str
    name: str
    value: Any = None
    strict: bool = False  # the old form, in which "add" refuses what is there


def allowed(call: Call, image_id: str, rule: str) -> ImageInfo:
    """An image that exists for the caller and for which he passes the rule. Raises NotFound, Forbidden."""
    found = get_visible(call.tx, call.context, image_id)
    project = call.context.project_id
    lent = found.visibility == "shared" and found.owner != project
    member = project if lent and is_member(call.tx, image_id, project) else None
    call.enforce(rule, **target(found, member))
    return found


# -- POST, GET, DELETE


def create(call: Call) -> Reply:
    """POST /v2/images: 201."""
    body: dict[str, Any] = dict(call.body)
    tags = body.pop("tags", [])
    wanted_id = body.pop("id", None)
    check_value("tags", tags)
    for name, value in body.items():
        check_settable(name)
        check_value(name, value)
    columns = {name: body.pop(name) for name in COLUMNS if name in body}
    check_count(body)
    columns.setdefault("owner", call.context.project_id)
    if columns["owner"] != call.context.project_id and not call.context.is_admin:
        raise Forbidden("You are not permitted to create images owned by another project.")
    call.enforce("add_image", project_id=call.context.project_id, owner=columns["owner"])
    if wanted_id is not None:
        check_value("id", wanted_id)
        columns["id"] = wanted_id.lower()
    new = new_row(call.cloud, **columns)
    _check_visibility(call, new["visibility"], new["owner"])
    try:
        with call.tx.savepoint():
            call.tx.execute(image.insert(), new)
    except sa.exc.IntegrityError:
        raise Conflict(f"Image ID {new['id']} already exists!") from None
    set_properties(call.tx, new["id"], body)
    set_tags(call.tx, new["id"], tags)
    found = get_visible(call.tx, call.context, new["id"])
    headers = {
        "Location": f"{call.url}/v2/images/{found.id}", "OpenStack-image-import-methods": ",".join(METHODS),
    }
    return Reply(image_view(found), headers=headers)


def show(call: Call) -> dict[str, Any]:
    """GET /v2/images/{image_id}: 200."""
    return image_view(allowed(call, call.params["image_id"], "get_image"))


def delete(call: Call) -> None:
    """DELETE /v2/images/{image_id}: 204. The content goes once the deletion is durable."""
    found = allowed(call, call.params["image_id"], "delete_image")
    if found.protected:
        raise Forbidden(f"Image {found.id} is protected and cannot be deleted.")
    call.tx.execute(image.delete().where(image.c.id == found.id))
    copies.forget(call.tx, call.cloud, found.id)


def delete_nothing(call: Call) -> None:
    """DELETE /v2/images/: 404, for a client whose image id was empty."""
    raise NotFound("Failed to find an image: the id is empty.")


def deactivate(call: Call) -> None:
    """POST /v2/images/{image_id}/actions/deactivate: 204. Its content can be had by administrators only."""
    _turn(call, "deactivate", "active", "deactivated")


def reactivate(call: Call) -> None:
    """POST /v2/images/{image_id}/actions/reactivate: 204."""
    _turn(call, "reactivate", "deactivated", "active")


def _turn(call: Call, rule: str, before: str, after: str) -> None:
    found = allowed(call, call.params["image_id"], rule)
    if found.status == after:
        return
    if found.status != before:
        raise Forbidden(f"Not allowed to {rule} image in status '{found.status}'.")
    call.tx.execute(
        image.update().where(image.c.id == found.id, image.c.status == before)
        .values(status=after, updated_at=call.now)
    )


def _check_visibility(call: Call, visibility: str, owner: str | None) -> None:
    if visibility == "public":
        call.enforce("publicize_image", project_id=owner)
    elif visibility == "community":
        call.enforce("communitize_image", project_id=owner)


# -- PATCH


def update(call: Call) -> dict[str, Any]:
    """PATCH /v2/images/{image_id}: 200. All operations or none."""
    changes = read_patch(call.body, call.headers.get("content-type", ""))
    found = allowed(call, call.params["image_id"], "modify_image")
    columns: dict[str, Any] = {}
    properties: dict[str, Any] = dict(found.properties)
    tags: list[str] | None = None
    for change in changes:
        if change.name == "tags" and change.operation != "remove":
            tags = change.value
        elif change.name in COLUMNS or change.name == "tags":
            columns |= _column_change(call, found, change)
        else:
            _change_property(properties, change)
    check_count(properties)
    if "visibility" in columns:
        _check_visibility(call, columns["visibility"], found.owner)
    if changes:
        call.tx.execute(image.update().where(image.c.id == found.id).values(**columns, updated_at=call.now))
    if properties != found.properties:
        set_properties(call.tx, found.id, properties)
    if tags is not None:
        set_tags(call.tx, found.id, tags)
    row = call.tx.first(sa.select(image).where(image.c.id == found.id))
    return image_view(describe(call.tx, [row])[0])


def _column_change(call: Call, found: ImageInfo, change: Change) -> dict[str, Any]:
    name = change.name
    if change.operation == "remove":
        raise Forbidden(f"Property {name} may not be removed.")
    if change.strict and change.operation == "add" and getattr(found, name) is not None:
        raise Conflict(f"Property {name} already present.")
    if name == "owner" and change.value != found.owner and not call.context.is_admin:
        raise Forbidden("Owner can't be updated by non admin.")
    fixed = name in ("disk_format", "container_format") and found.status not in ("queued", "uploading")
    if fixed and change.value != getattr(found, name):
        raise Forbidden(f"Attribute {name} can be only replaced for a queued image.")
    return {name: change.value}


def _change_property(properties: dict[str, Any], change: Change) -> None:
    name = change.name
    if change.operation != "add" and name not in properties:
        raise Conflict(f"Property {name} does not exist.")
    if change.operation == "add" and change.strict and name in properties:
        raise Conflict(f"Property {name} already present.")
    if change.operation == "remove":
        del properties[name]
    else:
        properties[name] = change.value


def read_patch(body: Any, content_type: str) -> list[Change]:
    """The operations of a patch, in either of the two forms. Raises UnsupportedMediaType, BadRequest, Forbidden."""
    draft = PATCH_TYPES.get(content_type.split(";")[0].strip().lower())
    if draft is None:
        names = ", ".join(sorted(PATCH_TYPES))
        raise UnsupportedMediaType(f"Image PATCH expects Content-Type one of: {names}", headers={"Accept-Patch": names})
    if not isinstance(body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    return [_read_change(raw, draft) for raw in body]


def _read_change(raw: Any, draft: int) -> Change:
    if not isinstance(raw, dict):
        raise BadRequest("Operations must be JSON objects.")
    named = [raw.get("op")] if draft == 10 else [key for key in _OPERATIONS if key in raw]
    if len(named) != 1 or named[0] not in _OPERATIONS:
        raise BadRequest(f"Invalid operation: `{str(raw)[:100]}`. It must be one of: {', '.join(_OPERATIONS)}.")
    operation = str(named[0])
    name = _read_pointer(raw.get("path") if draft == 10 else raw[operation])
    check_settable(name)
    if operation == "remove":
        return Change(operation, name, strict=draft == 4)
    if "value" not in raw:
        raise BadRequest(f'Operation "{operation}" requires a member named "value".')
    check_value(name, raw["value"])
    return Change(operation, name, raw["value"], strict=draft == 4)


def _read_pointer(pointer: Any) -> str:
    """The one name in a JSON pointer (RFC 6901)."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise BadRequest(f'Pointer `{str(pointer)[:100]}` does not start with "/".')
    if re.search("~(?![01])", pointer):
        raise BadRequest(f'Pointer `{pointer[:100]}` contains "~" not part of a recognized escape sequence.')
    parts = [part.replace("~1", "/").replace("~0", "~").strip() for part in pointer[1:].split("/")]
    if len(parts) == 2 and parts[0] == "locations":
        attributes.check_settable("locations")
    if len(parts) != 1 or not parts[0]:
        raise BadRequest(f"Invalid JSON pointer for this resource: '{pointer[:100]}'")
    return parts[0]
