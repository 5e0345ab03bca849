"""What image's resources look like on the wire."""

from __future__ import annotations

from typing import Any

from pileus.image.images import ImageInfo
from pileus.web.views import Field, View
from pileus.world import iso_z

IMAGE = View(
    "id", "name", "status", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format",
    "min_disk", "min_ram", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value",
    Field("created_at", lambda info: iso_z(info.created)), Field("updated_at", lambda info: iso_z(info.updated)),
    Field("tags", lambda info: list(info.tags)),
    Field("self", lambda info: f"/v2/images/{info.id}"),
    Field("file", lambda info: f"/v2/images/{info.id}/file"),
    Field("schema", lambda info: "/v2/schemas/image"),
)

MEMBER = View(
    "member_id", "image_id", "status",
    Field("created_at", lambda row: iso_z(row.created_at)), Field("updated_at", lambda row: iso_z(row.updated_at)),
    Field("schema", lambda row: "/v2/schemas/member"),
)

TASK = View(
    "id", "image_id", "owner", "user_id", "request_id", "status", "input", "message",
    Field("type", lambda row: "api_image_import"), Field("result", lambda row: None),
    Field("created_at", lambda row: iso_z(row.created_at)), Field("updated_at", lambda row: iso_z(row.updated_at)),
    Field("expires_at", lambda row: None),
    Field("self", lambda row: f"/v2/tasks/{row.id}"), Field("schema", lambda row: "/v2/schemas/task"),
)


def image_view(info: ImageInfo) -> dict[str, Any]:
    """One image: its properties stand beside its attributes."""
    return {**info.properties, **IMAGE.render(info)}
