"""The attributes of an image: which there are, what they may be, who may set them; and the schema documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pileus.web.errors import BadRequest, Forbidden, TooLarge

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
VISIBILITIES = ("community", "public", "private", "shared")
STATUSES = ("queued", "saving", "active", "uploading", "importing", "deactivated")
MOST_TAGS = MOST_PROPERTIES = 128
_MOST = 2**31 - 1

_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

READ_ONLY = frozenset({
    "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema",
    "id", "os_hash_algo", "os_hash_value", "stores",
})
RESERVED = frozenset({"location", "deleted", "deleted_at"})
RESERVED_PREFIX = "os_glance_"


def _text(about: str, most: int = 255, *, null: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": ["null", "string"] if null else "string", "description": about, "maxLength": most, **more}


def _told(about: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": about, "readOnly": True, **more}


SCHEMA: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "description": "The image's id", "pattern": _UUID},
    "name": _text("The image's name"),
    "status": _told("Where the image is in its life", enum=list(STATUSES)),
    "visibility": {"type": "string", "description": "Who sees the image", "enum": list(VISIBILITIES)},
    "protected": {"type": "boolean", "description": "Whether the image cannot be deleted"},
    "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out unless asked for it"},
    "checksum": _told("MD5 of the content", ["null", "string"], maxLength=32),
    "os_hash_algo": _told("Algorithm of os_hash_value", ["null", "string"], maxLength=64),
    "os_hash_value": _told("Digest of the content", ["null", "string"], maxLength=128),
    "owner": _text("The project that owns the image"),
    "size": _told("Size of the content in bytes", ["null", "integer"]),
    "virtual_size": _told("Size of the disk inside, in bytes", ["null", "integer"]),
    "container_format": {
        "type": ["null", "string"], "description": "What is around the disk", "enum": [None, *CONTAINER_FORMATS],
    },
    "disk_format": {"type": ["null", "string"], "description": "The disk's format", "enum": [None, *DISK_FORMATS]},
    "created_at": _told("When the image was made"),
    "updated_at": _told("When the image was last changed"),
    "tags": {
        "type": "array", "description": "Words of the owner's own", "items": {"type": "string", "maxLength": 255},
    },
    "min_ram": {"type": "integer", "description": "Memory in MiB that a server needs to boot it"},
    "min_disk": {"type": "integer", "description": "Disk in GiB that a server needs to boot it"},
    "self": _told("URL of the image"),
    "file": _told("URL of the content"),
    "schema": _told("URL of the schema that describes an image"),
    "kernel_id": _text("Image of the kernel to boot with", pattern=_UUID),
    "ramdisk_id": _text("Image of the initial RAM disk to boot with", pattern=_UUID),
    "architecture": _text("Processor architecture", null=False),
    "instance_uuid": _text("Server that this is a snapshot of", null=False),
    "os_distro": _text("Operating system's distribution", null=False),
    "os_version": _text("Operating system's version", null=False),
}

COLUMNS = (
    "name", "visibility", "protected", "os_hidden", "owner", "container_format", "disk_format", "min_ram", "min_disk",
)
"""Attributes with a column of their own that callers may set."""

EXTRA_IN_SCHEMA = ("kernel_id", "ramdisk_id", "architecture", "instance_uuid", "os_distro", "os_version")
"""Properties like any other, but described."""


def check_settable(name: str) -> None:
    """Raises Forbidden for an attribute that callers may not set, BadRequest for a name that is too long."""
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise Forbidden(f"Attribute '{name}' is reserved.")
    if name == "locations":
        raise Forbidden("It's not allowed to set locations: this cloud keeps the images itself.")
    if not name or len(name) > 255:
        raise BadRequest("The name of a property has from 1 to 255 characters.")


def check_value(name: str, value: Any) -> None:
    """Raises BadRequest when an attribute cannot have this value."""
    schema = SCHEMA.get(name, {"type": "string"})
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        raise _bad(name, value, f"it is not of type {' or '.join(kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise _bad(name, value, f"it is not one of {', '.join(str(v) for v in schema['enum'] if v)}")
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", 65535):
            raise _bad(name, value, f"it is longer than {schema.get('maxLength', 65535)} characters")
        if "pattern" in schema and not re.match(schema["pattern"], value):
            raise _bad(name, value, "it is not a UUID")
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= _MOST:
        raise _bad(name, value, f"it is not from 0 to {_MOST}")
    if name == "tags":
        check_tags(value)


def check_tags(tags: list[Any]) -> None:
    """Raises BadRequest for a tag that is none, TooLarge for too many."""
    for tag in tags:
        if not isinstance(tag, str) or not tag or len(tag) > 255:
            raise BadRequest("Provided object does not match schema 'image': a tag has from 1 to 255 characters.")
    if len(set(tags)) > MOST_TAGS:
        raise TooLarge(f"The limit has been exceeded on the number of allowed image tags: {MOST_TAGS}.")


def check_count(properties: Mapping[str, Any]) -> None:
    """Raises TooLarge for too many properties."""
    if len(properties) > MOST_PROPERTIES:
        raise TooLarge(f"The limit has been exceeded on the number of allowed image properties: {MOST_PROPERTIES}.")


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "boolean": bool, "array": list}[kind])


def _bad(name: str, value: Any, why: str) -> BadRequest:
    return BadRequest(f"Provided object does not match schema 'image': {str(value)[:100]!r} of '{name}': {why}.")


# -- the schema documents


_MEMBER = {
    "created_at": {"type": "string", "description": "When the member was added"},
    "image_id": {"type": "string", "description": "The image's id", "pattern": _UUID},
    "member_id": {"type": "string", "description": "The project that the image is shared with"},
    "schema": {"type": "string", "readOnly": True},
    "status": {"type": "string", "description": "What the member said", "enum": ["pending", "accepted", "rejected"]},
    "updated_at": {"type": "string", "description": "When the member was last changed"},
}
_TASK = {
    name: {"type": "string" if name not in ("input", "result") else ["null", "object"]}
    for name in ("id", "type", "input", "result", "owner", "message", "expires_at", "created_at", "updated_at", "self",
                 "schema", "status", "image_id", "request_id", "user_id")
}


def image_schema() -> dict[str, Any]:
    """The schema of an image."""
    links = [
        {"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ]
    return {"name": "image", "properties": SCHEMA, "additionalProperties": {"type": "string"}, "links": links}


def member_schema() -> dict[str, Any]:
    """The schema of a member."""
    return {"name": "member", "properties": _MEMBER}


def task_schema() -> dict[str, Any]:
    """The schema of a task."""
    return {"name": "task", "properties": _TASK}


def collection_schema(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list."""
    links = [{"rel": "describedby", "href": "{schema}"}]
    properties: dict[str, Any] = {name: {"type": "array", "items": item}, "schema": {"type": "string"}}
    if name == "images":
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        links = [{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}, *links]
    return {"name": name, "properties": properties, "links": links}
