"""Images as compute showed them up to 2.35 (their metadata up to 2.38): the image service's."""

from __future__ import annotations

import re
from typing import Any

from pileus.compute import quotas
from pileus.compute.proxy import ask
from pileus.compute.schemas_rest import ImageQuery
from pileus.compute.views_rest import links, more, page_size
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound, OverQuota
from pileus.world import parse_iso

_PATCH = "application/openstack-images-v2.1-json-patch"

_OWN = frozenset((
    "id", "name", "status", "visibility", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "owner",
    "protected", "min_disk", "min_ram", "container_format", "disk_format", "tags", "created_at", "updated_at", "self",
    "file", "schema", "direct_url", "locations", "stores", "os_hidden",
))
"""What is an image's own; all else in the image service's reply is metadata here."""

_STATUS = {
    "active": "ACTIVE", "queued": "SAVING", "saving": "SAVING", "uploading": "SAVING", "importing": "SAVING",
    "deleted": "DELETED", "pending_delete": "DELETED", "killed": "ERROR",
}
_ASKED = {"ACTIVE": "active", "SAVING": "saving", "QUEUED": "queued", "DELETED": "deleted", "ERROR": "killed"}
_PROGRESS = {"active": 100, "saving": 50, "uploading": 50, "importing": 50, "queued": 25}

# -- views


def _links(call: Call, image_id: str) -> list[dict[str, str]]:
    other = {
        "rel": "alternate", "type": "application/vnd.openstack.image",
        "href": f"{call.base}/image/v2/images/{image_id}",
    }
    return [*links(call, "images", image_id), other]


def _metadata(image: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in image.items() if key not in _OWN and isinstance(value, str)}


def _whole(call: Call, image: dict[str, Any]) -> dict[str, Any]:
    metadata = _metadata(image)
    shown = {
        "id": image["id"], "name": image["name"], "status": _STATUS.get(image["status"], "UNKNOWN"),
        "progress": _PROGRESS.get(image["status"], 0), "minDisk": image["min_disk"], "minRam": image["min_ram"],
        "created": image["created_at"], "updated": image["updated_at"], "metadata": metadata,
        "OS-EXT-IMG-SIZE:size": image["size"], "links": _links(call, image["id"]),
    }
    disk_config = metadata.get("auto_disk_config")
    if disk_config is not None:
        shown["OS-DCF:diskConfig"] = "AUTO" if disk_config.lower() in ("true", "1", "yes", "on") else "MANUAL"
    server_id = metadata.get("instance_uuid")
    if server_id:
        shown["server"] = {"id": server_id, "links": links(call, "servers", server_id)}
    return shown


def _brief(call: Call, image: dict[str, Any]) -> dict[str, Any]:
    return {"id": image["id"], "name": image["name"], "links": _links(call, image["id"])}


# -- handlers: images


async def index(call: Call) -> dict[str, Any]:
    """GET /images: 200."""
    return await _list(call, _brief)


async def detail(call: Call) -> dict[str, Any]:
    """GET /images/detail: 200."""
    return await _list(call, _whole)


async def _list(call: Call, view: Any) -> dict[str, Any]:
    query: ImageQuery = call.query
    size = page_size(query.limit)
    if size == 0:
        return {"images": []}
    pairs = [*_filters(call, query), ("limit", str(size))]
    if query.marker is not None:
        pairs.append(("marker", query.marker))
    try:
        found = (await ask(call, "image", "GET", "/v2/images", query=pairs))["images"]
    except NotFound:
        if query.marker is None:
            raise
        raise BadRequest(f"marker [{query.marker}] not found") from None
    shown = [view(call, image) for image in found]
    return {"images": shown, **more(call, "images", len(found), size, found[-1]["id"] if found else "")}


def _filters(call: Call, query: ImageQuery) -> list[tuple[str, str]]:
    """The same filters in the image service's words."""
    pairs: list[tuple[str, str]] = []
    if query.changes_since is not None:
        pairs.append(("updated_at", f"gte:{_moment(query.changes_since)}"))
    if query.status is not None:
        pairs.append(("status", _ASKED.get(query.status.upper(), query.status.lower())))
    if query.server is not None:
        pairs.append(("instance_uuid", query.server.rstrip("/").rsplit("/", 1)[-1]))
    for name, value in (("name", query.name), ("image_type", query.type), ("min_disk", query.min_disk),
                        ("min_ram", query.min_ram)):
        if value is not None:
            pairs.append((name, str(value)))
    pairs += [
        (name.removeprefix("property-"), value) for name, value in call.query_pairs if name.startswith("property-")
    ]
    return pairs


def _moment(text: str) -> str:
    try:
        parse_iso(text)
    except (ValueError, OverflowError):
        raise BadRequest(f"Invalid changes-since: {text} is not an ISO 8601 time.") from None
    return text


async def _image(call: Call) -> dict[str, Any]:
    image_id = call.params["image_id"]
    try:
        found: dict[str, Any] = await ask(call, "image", "GET", f"/v2/images/{image_id}")
    except (NotFound, BadRequest):
        raise NotFound(f"Image {image_id} could not be found.") from None
    return found


async def show(call: Call) -> dict[str, Any]:
    """GET /images/{image_id}: 200."""
    return {"image": _whole(call, await _image(call))}


async def delete(call: Call) -> None:
    """DELETE /images/{image_id}: 204."""
    found = await _image(call)
    await ask(call, "image", "DELETE", f"/v2/images/{found['id']}")


# -- handlers: metadata


async def metadata(call: Call) -> dict[str, Any]:
    """GET /images/{image_id}/metadata: 200."""
    return {"metadata": _metadata(await _image(call))}


async def merge_metadata(call: Call) -> dict[str, Any]:
    """POST /images/{image_id}/metadata: 200, with what is given added."""
    image = await _image(call)
    return {"metadata": await _write(call, image, {**_metadata(image), **call.body.metadata})}


async def replace_metadata(call: Call) -> dict[str, Any]:
    """PUT /images/{image_id}/metadata: 200, with what is given instead."""
    return {"metadata": await _write(call, await _image(call), call.body.metadata)}


async def meta(call: Call) -> dict[str, Any]:
    """GET /images/{image_id}/metadata/{key}: 200."""
    key = call.params["key"]
    return {"meta": {key: _value(_metadata(await _image(call)), key)}}


async def put_meta(call: Call) -> dict[str, Any]:
    """PUT /images/{image_id}/metadata/{key}: 200."""
    given: dict[str, str] = call.body.meta
    if list(given) != [call.params["key"]]:
        raise BadRequest("Request body and URI mismatch: the body must hold the key of the URI and no other.")
    image = await _image(call)
    await _write(call, image, {**_metadata(image), **given})
    return {"meta": given}


async def delete_meta(call: Call) -> None:
    """DELETE /images/{image_id}/metadata/{key}: 204."""
    image = await _image(call)
    held = _metadata(image)
    _value(held, call.params["key"])
    await _write(call, image, {key: value for key, value in held.items() if key != call.params["key"]})


def _value(held: dict[str, str], key: str) -> str:
    if key not in held:
        raise NotFound(f"The image has no metadata '{key}'.")
    return held[key]


async def _write(call: Call, image: dict[str, Any], wanted: dict[str, str]) -> dict[str, str]:
    """Bring an image's metadata to `wanted`, by the image service's own patches; what it is then."""
    for key in wanted:
        if key in _OWN or not re.fullmatch(r"[\w\-.: ]{1,255}", key):
            raise BadRequest(f"'{key}' cannot be the name of an image's metadata.")
    most = await call.db.run(
        lambda tx: quotas.limits(tx, call.cloud, call.context.project_id or "")["metadata_items"], write=False
    )
    if 0 <= most < len(wanted):
        raise OverQuota("Image metadata limit exceeded.")
    held = _metadata(image)
    patch: list[dict[str, str]] = [{"op": "remove", "path": _pointer(key)} for key in held if key not in wanted]
    for key, value in wanted.items():
        if held.get(key) != value:
            patch.append({"op": "replace" if key in held else "add", "path": _pointer(key), "value": value})
    if not patch:
        return held
    return _metadata(await ask(call, "image", "PATCH", f"/v2/images/{image['id']}", patch, media=_PATCH))


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")
