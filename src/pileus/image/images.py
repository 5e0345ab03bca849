"""Images: what other modules and rooms ask of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.image import copies
from pileus.image.tables import image, image_member, image_property, image_tag
from pileus.node.contract import ImageRef
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.auth.context import Context
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_LOG = logging.getLogger("pileus.image")
_BOOTABLE = {"qcow2": "qcow2", "raw": "raw", "iso": "raw", "luks": "raw"}


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An image with its properties and tags. Sizes in bytes, `min_disk` in GiB, `min_ram` in MiB."""

    id: str
    name: str | None
    status: str
    owner: str | None
    visibility: str
    protected: bool
    os_hidden: bool
    disk_format: str | None
    container_format: str | None
    found_format: str | None  # what the bytes are
    min_disk: int
    min_ram: int
    size: int | None
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    created: float
    updated: float
    transfer: str = ""
    properties: dict[str, str] = {}
    tags: tuple[str, ...] = ()

    def ref(self) -> ImageRef:
        """The image as a node needs it. Raises Conflict when it has no content, BadRequest when no node boots it."""
        if self.status != "active" or self.size is None or self.os_hash_value is None:
            raise Conflict(f"Image {self.id} is {self.status}, not active.")
        form = _BOOTABLE.get(self.found_format or "")
        if form is None:
            raise BadRequest(
                f"Image {self.id} is {self.found_format}; servers boot from qcow2 and raw. Convert it with "
                "qemu-img convert -O qcow2."
            )
        return ImageRef(
            id=self.id, disk_format=form, size=self.size, sha512=self.os_hash_value,
            virtual_size=self.virtual_size or 0, kernel_id=self.properties.get("kernel_id") or None,
            ramdisk_id=self.properties.get("ramdisk_id") or None,
        )


_BY_ID = sa.select(image).where(image.c.id == sa.bindparam("i"))
_PROPERTIES = sa.select(image_property).where(image_property.c.image_id.in_(sa.bindparam("ids", expanding=True)))
_TAGS = (
    sa.select(image_tag).where(image_tag.c.image_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(image_tag.c.value)
)
_MEMBER = sa.select(image_member.c.status).where(
    image_member.c.image_id == sa.bindparam("i"), image_member.c.member_id == sa.bindparam("m")
)


# -- for other modules and rooms


def info(tx: Tx, image_id: str) -> ImageInfo | None:
    """One image, whoever owns it; None when there is none."""
    row = tx.first(_BY_ID, {"i": image_id})
    return None if row is None else describe(tx, [row])[0]


def get_visible(tx: Tx, context: Context, image_id: str) -> ImageInfo:
    """One image that exists for the caller. Raises NotFound."""
    found = info(tx, image_id)
    if found is None or not _sees(tx, context, found):
        raise NotFound(f"Failed to find image {image_id}: no image with this id is yours or shared with you.")
    return found


def create_for_snapshot(
    tx: Tx, cloud: Cloud, context: Context, *, name: str, properties: Mapping[str, str], disk_format: str = "qcow2",
    min_disk: int, min_ram: int, container_format: str = "bare", visibility: str = "private", protected: bool = False,
) -> str:
    """An image of the caller's project that waits for `data.store_file`; its id."""
    new = new_row(cloud, owner=context.project_id, name=name[:255], visibility=visibility, disk_format=disk_format,
                  container_format=container_format, min_disk=min_disk, min_ram=min_ram, protected=protected)
    tx.execute(image.insert(), new)
    set_properties(tx, new["id"], properties)
    return str(new["id"])


def create_without_content(
    tx: Tx, cloud: Cloud, context: Context, *, name: str, properties: Mapping[str, str], min_disk: int, min_ram: int
) -> str:
    """A private image of the caller's project that is active and has no bytes: its properties say all; its id."""
    new = new_row(
        cloud, owner=context.project_id, name=name[:255], visibility="private", disk_format="raw",
        container_format="bare", min_disk=min_disk, min_ram=min_ram, status="active", size=0,
    )
    tx.execute(image.insert(), new)
    set_properties(tx, new["id"], properties)
    return str(new["id"])


def fail(tx: Tx, cloud: Cloud, image_id: str, reason: str) -> None:
    """Give up an image that never got its content: it goes away, as compute's users know it. `reason` is logged."""
    waiting = sa.and_(image.c.id == image_id, image.c.status.in_(("queued", "saving")))
    if tx.execute(image.delete().where(waiting)).rowcount:
        _LOG.warning("image %s is given up: %s", image_id, reason)
        copies.forget(tx, cloud, image_id)


def drop(tx: Tx, cloud: Cloud, image_id: str) -> None:
    """Delete an image that compute made for itself, as of a shelved server. An unknown one is fine."""
    if tx.execute(image.delete().where(image.c.id == image_id)).rowcount:
        copies.forget(tx, cloud, image_id)


def existing(tx: Tx, ids: Iterable[str]) -> set[str]:
    """Which of these are ids of images."""
    return set(tx.scalars(sa.select(image.c.id).where(image.c.id.in_(list(ids)))))


def with_properties(tx: Tx, properties: Mapping[str, str]) -> list[str]:
    """The ids of the active images that have all of these properties, the newest first."""
    has = [
        sa.exists().where(
            image_property.c.image_id == image.c.id, image_property.c.name == name, image_property.c.value == value
        )
        for name, value in properties.items()
    ]
    found = sa.select(image.c.id).where(image.c.status == "active", *has)
    return tx.scalars(found.order_by(image.c.created_at.desc(), image.c.id))


# -- for this room


def new_row(cloud: Cloud, **values: Any) -> dict[str, Any]:
    """The columns of a new image."""
    now = cloud.world.now()
    return {
        "id": cloud.world.uuid(), "name": None, "status": "queued", "visibility": "shared", "owner": None,
        "protected": False, "os_hidden": False, "disk_format": None, "container_format": None, "min_disk": 0,
        "min_ram": 0, "created_at": now, "updated_at": now, **values,
    }


def describe(tx: Tx, rows: Iterable[Any]) -> list[ImageInfo]:
    """Rows with their properties and tags, in two statements for all of them."""
    rows = list(rows)
    ids = [row.id for row in rows]
    properties: dict[str, dict[str, str]] = {i: {} for i in ids}
    tags: dict[str, list[str]] = {i: [] for i in ids}
    if ids:
        for found in tx.all(_PROPERTIES, {"ids": ids}):
            properties[found.image_id][found.name] = found.value
        for found in tx.all(_TAGS, {"ids": ids}):
            tags[found.image_id].append(found.value)
    return [
        ImageInfo(
            id=row.id, name=row.name, status=row.status, owner=row.owner, visibility=row.visibility,
            protected=row.protected, os_hidden=row.os_hidden, disk_format=row.disk_format,
            container_format=row.container_format, found_format=row.found_format, min_disk=row.min_disk,
            min_ram=row.min_ram, size=row.size, virtual_size=row.virtual_size, checksum=row.checksum,
            os_hash_algo=row.os_hash_algo, os_hash_value=row.os_hash_value, created=row.created_at,
            updated=row.updated_at, transfer=row.transfer, properties=properties[row.id], tags=tuple(tags[row.id]),
        )
        for row in rows
    ]


def _sees(tx: Tx, context: Context, found: ImageInfo) -> bool:
    if context.is_admin or found.visibility in ("public", "community"):
        return True
    if context.project_id is None:
        return False
    if found.owner == context.project_id:
        return True
    return found.visibility == "shared" and is_member(tx, found.id, context.project_id)


def is_member(tx: Tx, image_id: str, project_id: str | None) -> bool:
    """Whether an image is shared with a project, whatever the project said to it."""
    return project_id is not None and tx.first(_MEMBER, {"i": image_id, "m": project_id}) is not None


def target(found: ImageInfo, member_id: str | None = None) -> dict[str, Any]:
    """What policy rules may ask about an image."""
    return {
        "project_id": found.owner, "owner": found.owner, "visibility": found.visibility, "status": found.status,
        "member_id": member_id,
    }


def set_properties(tx: Tx, image_id: str, properties: Mapping[str, str | None]) -> None:
    """Replace all properties of an image."""
    tx.execute(image_property.delete().where(image_property.c.image_id == image_id))
    if properties:
        tx.execute(image_property.insert(), [
            {"image_id": image_id, "name": name, "value": value} for name, value in properties.items()
        ])


def set_tags(tx: Tx, image_id: str, tags: Iterable[str]) -> None:
    """Replace all tags of an image."""
    tx.execute(image_tag.delete().where(image_tag.c.image_id == image_id))
    rows = [{"image_id": image_id, "value": tag} for tag in dict.fromkeys(tags)]
    if rows:
        tx.execute(image_tag.insert(), rows)
