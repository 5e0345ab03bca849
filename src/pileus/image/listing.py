"""GET /v2/images: filters, sorting, pages."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from pileus.image.images import ImageInfo, describe, target
from pileus.image.tables import image, image_member, image_property, image_tag
from pileus.image.views import image_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.pages import SortKey, page, sort_keys
from pileus.world import parse_iso

DEFAULT_LIMIT, MOST = 25, 1000

_SORT = {
    "name": image.c.name, "status": image.c.status, "container_format": image.c.container_format,
    "disk_format": image.c.disk_format, "size": image.c.size, "id": image.c.id, "created_at": image.c.created_at,
    "updated_at": image.c.updated_at,
}
_MANY = ("id", "name", "status", "container_format", "disk_format")
_TEXT = (*_MANY, "owner", "checksum", "os_hash_algo", "os_hash_value")
_NUMBERS = ("size", "min_disk", "min_ram", "virtual_size")
# Times are shown in whole seconds, so that is what is compared: the second that begins with `t`.
_OPERATORS: dict[str, Callable[[Any, float], sa.ColumnElement[bool]]] = {
    "gt": lambda column, t: column >= t + 1, "gte": lambda column, t: column >= t,
    "lt": lambda column, t: column < t, "lte": lambda column, t: column < t + 1,
    "eq": lambda column, t: sa.and_(column >= t, column < t + 1),
    "neq": lambda column, t: sa.or_(column < t, column >= t + 1),
}
_NO_FILTER = ("limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "tag", "visibility")


def index(call: Call) -> dict[str, Any]:
    """GET /v2/images: 200."""
    if call.path.endswith("/"):
        raise NotFound("Failed to find an image: the id is empty.")
    call.enforce("get_images", project_id=call.context.project_id)
    given: dict[str, list[str]] = {}
    for name, value in call.query_pairs:
        given.setdefault(name, []).append(value)
    statement = sa.select(image).where(_visible(call, given), *_filters(given))
    limit = min(_limit(given), MOST)
    keys = _sorting(given)
    rows = page(call.tx, statement, keys, image.c.id, limit, _marker(call, given))
    found = [info for info in describe(call.tx, rows) if _may_see(call, info)]
    here = [(k, v) for k, v in call.query_pairs if k != "marker"]
    body: dict[str, Any] = {
        "images": [image_view(info) for info in found],
        "first": "/v2/images" + (f"?{urlencode(here)}" if here else ""), "schema": "/v2/schemas/images",
    }
    if rows and len(rows) == limit:
        body["next"] = f"/v2/images?{urlencode([*here, ('marker', rows[-1].id)])}"
    return body


def of_caller(call: Call, ids: Sequence[str] | None = None) -> list[ImageInfo]:
    """The images that the caller sees in a list, for other rooms; of `ids` only, where given, community ones too."""
    call.enforce("get_images", project_id=call.context.project_id)
    asked = {} if ids is None else {"visibility": ["all"], "member_status": ["all"]}
    statement = sa.select(image).where(_visible(call, asked))
    statement = statement.where(image.c.os_hidden.is_(False) if ids is None else image.c.id.in_(ids))
    return [info for info in describe(call.tx, call.tx.all(statement.order_by(image.c.id))) if _may_see(call, info)]


def _may_see(call: Call, info: Any) -> bool:
    return call.allows("get_image", **target(info, call.context.project_id))


def _visible(call: Call, given: dict[str, list[str]]) -> sa.ColumnElement[bool]:
    """Which images exist for the caller, and of those, which visibility he asks for.

    Community images of others are left out unless they are asked for, by visibility or by owner."""
    asked = given.get("visibility", [""])[-1]
    if asked not in ("", "all", "community", "public", "private", "shared"):
        raise BadRequest(f"Invalid visibility value: {asked}")
    status = given.get("member_status", ["accepted"])[-1]
    if status not in ("pending", "accepted", "rejected", "all"):
        raise BadRequest(f"Invalid status: {status}")
    project = call.context.project_id
    own = image.c.owner == project if project is not None else sa.false()
    member = [image_member.c.image_id == image.c.id, image_member.c.member_id == (project or "")]
    if status != "all":
        member.append(image_member.c.status == status)
    shared = sa.and_(image.c.visibility == "shared", sa.exists().where(*member))
    if call.context.is_admin:
        reach: sa.ColumnElement[bool] = sa.true()
    else:
        reach = sa.or_(own, image.c.visibility.in_(("public", "community")), shared)
    if asked in ("community", "public", "private", "shared"):
        return sa.and_(reach, image.c.visibility == asked)
    if asked == "all" or "owner" in given:
        return reach
    return sa.and_(reach, sa.or_(own, image.c.visibility != "community"))


def _filters(given: dict[str, list[str]]) -> list[sa.ColumnElement[bool]]:
    found = [_hidden(given)]
    for tag in given.get("tag", []):
        found.append(sa.exists().where(image_tag.c.image_id == image.c.id, image_tag.c.value == tag.strip()))
    for name, values in given.items():
        if name in _NO_FILTER or name == "os_hidden":
            continue
        found.extend(_filter(name, value) for value in values)
    return found


def _hidden(given: dict[str, list[str]]) -> sa.ColumnElement[bool]:
    return image.c.os_hidden.is_(_flag("os_hidden", given.get("os_hidden", ["false"])[-1]))


def _filter(name: str, value: str) -> sa.ColumnElement[bool]:
    if name == "changes-since":
        raise BadRequest('The "changes-since" filter is no longer available on v2.')
    if name in _MANY and value.startswith("in:"):
        return image.c[name].in_(_listed(value[3:]))
    if name in _TEXT:
        return image.c[name] == value
    if name in ("size_min", "size_max"):
        number = _number(name, value)
        return image.c.size >= number if name == "size_min" else image.c.size <= number
    if name in _NUMBERS:
        return image.c[name] == _number(name, value)
    if name == "protected":
        return image.c.protected.is_(_flag(name, value))
    if name in ("created_at", "updated_at"):
        return _when(name, value)
    return sa.exists().where(
        image_property.c.image_id == image.c.id, image_property.c.name == name, image_property.c.value == value
    )


def _listed(text: str) -> list[str]:
    """`a,"b,c"`: quoted values may hold commas."""
    if text.count('"') % 2:
        raise BadRequest(f"Invalid filter value {text}. The quote is not closed.")
    return next(csv.reader([text]), [])


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 18:
        raise BadRequest(f"Invalid value '{value}' for '{name}': it is not a number from 0 on.")
    return int(value)


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return value.lower() == "true"


def _when(name: str, value: str) -> sa.ColumnElement[bool]:
    operator, colon, rest = value.partition(":")
    if not colon or operator not in _OPERATORS:
        operator, rest = "eq", value
    try:
        moment = parse_iso(rest)
    except ValueError:
        raise BadRequest(
            f"Invalid value '{value}' for '{name}': give [gt|gte|lt|lte|eq|neq:]TIME in ISO 8601."
        ) from None
    return _OPERATORS[operator](image.c[name], moment)


def _limit(given: dict[str, list[str]]) -> int:
    text = given.get("limit", [str(DEFAULT_LIMIT)])[-1]
    try:
        limit = int(text)
    except ValueError:
        raise BadRequest("limit param must be an integer") from None
    if not 0 <= limit < 2**31:
        raise BadRequest("limit param must be positive")
    return limit


def _sorting(given: dict[str, list[str]]) -> list[SortKey]:
    keys = [key.strip() for key in given.get("sort_key", [])]
    directions = [way.strip() for way in given.get("sort_dir", [])]
    if "sort" in given:
        if keys or directions:
            raise BadRequest("Old and new sorting syntax cannot be combined")
        pairs = [part.partition(":") for part in given["sort"][-1].split(",")]
        keys = [key.strip() for key, _, _ in pairs]
        directions = [way.strip() or "desc" for _, _, way in pairs]
    keys = keys or ["created_at"]
    if len(directions) > 1 and len(directions) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    if len(directions) < len(keys):
        directions = (directions or ["desc"]) * len(keys)
    return sort_keys(_SORT, keys, directions, [], "desc")


def _marker(call: Call, given: dict[str, list[str]]) -> Any:
    if "marker" not in given:
        return None
    wanted = given["marker"][-1]
    row = call.tx.first(sa.select(image).where(image.c.id == wanted, _visible(call, {"visibility": ["all"]})))
    if row is None:
        raise BadRequest(f"Invalid marker: no image {wanted} is there.")
    return row
