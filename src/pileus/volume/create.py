"""How a volume comes to be: what it is made from, quota, place, row and task, in one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.image import images
from pileus.image.images import ImageInfo
from pileus.node.contract import ImageRef
from pileus.volume import groups, messages, orders, placing, snapshots, states, usage, volume_types, volumes
from pileus.volume.tables import volume
from pileus.volume.type_encryption import refuse
from pileus.volume.volume_types import TypeInfo
from pileus.web.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from pileus.compute.actors import Actor

_LOG = logging.getLogger("pileus.volume")
_GIB = 1 << 30
_SOURCE_READY = (states.AVAILABLE, states.IN_USE)


class Wish(msgspec.Struct, kw_only=True):
    """What is asked of a new volume. Sizes in GiB; 0: as large as what it is made from."""

    name: str | None = None
    description: str | None = None
    size: int = 0
    image_id: str | None = None
    snapshot_id: str | None = None
    source_id: str | None = None
    backup_id: str | None = None
    volume_type: str | None = None  # name or id
    zone: str | None = None
    metadata: dict[str, str] = {}
    same_host: tuple[str, ...] = ()  # volumes
    different_host: tuple[str, ...] = ()
    group_id: str | None = None
    place_later: bool = False  # a volume that no node can keep is made all the same, in error


class Source(msgspec.Struct, kw_only=True):
    """What a volume is made from: its bytes, and what it takes over."""

    size: int = 0  # GiB: not less than this
    nodes: frozenset[str] | None = None  # where it must be; None: anywhere
    type_id: str | None = None
    bootable: bool = False
    image_metadata: dict[str, str] | None = None
    task: dict[str, Any] = {}  # fields of VolumeTask
    copied: bool = False  # its bytes are copied, which takes a while


def make(by: Actor, wish: Wish) -> str:
    """A new volume, whose node is told to make it; its id. Raises OverLimit, BadRequest, NotFound, NoPlace."""
    source = _source(by, wish)
    size = _size(wish, source)
    kind = _type(by, wish, source)
    refuse(kind)
    if wish.group_id is not None:
        groups.admit(by.tx, by.context, wish.group_id, kind.id if kind else None)
    if wish.zone is not None and not placing.zone_exists(by.tx, by.cloud, wish.zone):
        raise BadRequest(f"Invalid input received: Availability zone '{wish.zone}' is invalid.")
    project_id = by.context.project_id
    if project_id is None:
        raise BadRequest("Invalid input received: a volume belongs to a project: use a token that is scoped to one.")
    usage.size(by.tx, by.cloud, project_id, size)
    usage.room(by.tx, by.cloud, project_id, kind.id if kind else None, volumes=1, gigabytes=size)
    volume_id = by.cloud.world.uuid()
    backend, why = _place(by, wish, source, size, kind)
    by.tx.execute(volume.insert().values(
        id=volume_id, project_id=project_id, user_id=by.context.user_id, name=wish.name, description=wish.description,
        size=size, status=states.ERROR if why else states.CREATING, node=backend.node if backend else None,
        backend=backend.backend if backend else "", zone=wish.zone or _zone(by, backend), type_id=kind.id if kind else
        None, group_id=wish.group_id, bootable=source.bootable, multiattach=bool(kind and kind.multiattach),
        encrypted=bool(kind and kind.encrypted), metadata=wish.metadata, image_metadata=source.image_metadata,
        snapshot_id=wish.snapshot_id, source_id=wish.source_id, image_id=wish.image_id, backup_id=wish.backup_id,
        export_key="", drop_wanted=False, created=by.now, changed=by.now, error=why or None,
    ))
    if why:
        messages.record(
            by.tx, by.cloud, project_id=project_id, request_id=by.request_id, resource_type="VOLUME",
            resource_id=volume_id, action="schedule allocate volume", detail=why,
        )
        return volume_id
    orders.send(
        by.tx, by.cloud, backend.node, "create", volume_id, request_id=by.request_id, size_gib=size,
        timeout=orders.patience(by.cloud, size) if source.copied else None, **source.task,
    )
    return volume_id


def image_metadata(found: ImageInfo) -> dict[str, str]:
    """What a volume remembers of the image that it was made from."""
    return {
        "image_id": found.id, "image_name": found.name or "", "checksum": found.checksum or "",
        "container_format": found.container_format or "", "disk_format": found.disk_format or "",
        "min_disk": str(found.min_disk), "min_ram": str(found.min_ram), "size": str(found.size or 0),
        **found.properties,
    }


def from_snapshot_of_image(by: Actor, wish: Wish) -> Wish:
    """An image of a server that boots from a volume has no bytes: it names a snapshot, and the volume is made of that.

    Whatever cannot be read there is left to what follows, which refuses the image."""
    found = images.info(by.tx, wish.image_id or "")
    if found is None or found.size:
        return wish
    try:
        devices = msgspec.json.decode(found.properties.get("block_device_mapping", ""), type=list[_Device])
    except msgspec.DecodeError:
        return wish
    boot = next((one for one in devices if one.boot_index == 0 and one.snapshot_id), None)
    return wish if boot is None else msgspec.structs.replace(wish, image_id=None, snapshot_id=boot.snapshot_id)


class _Device(msgspec.Struct):
    boot_index: int | str | None = None
    snapshot_id: str | None = None


def _place(by: Actor, wish: Wish, source: Source, size: int, kind: TypeInfo | None) -> tuple[Any, str]:
    """The backend, or why there is none where that is told by the volume's status."""
    only, but = _hinted(by, wish, source)
    try:
        return placing.choose(
            by.tx, by.cloud, size, zone=wish.zone, of_zones=kind.zones if kind else (), only=only, but=but,
            extra_specs=kind.extra_specs if kind else None,
        ), ""
    except placing.NoPlace as problem:
        if not wish.place_later:
            raise
        _LOG.warning("%s", problem)
        return None, str(problem)


def _hinted(by: Actor, wish: Wish, source: Source) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The nodes that alone can do, None for any, and those that cannot."""
    known = volumes.infos(by.tx, (*wish.same_host, *wish.different_host))
    only = source.nodes
    if wish.same_host:
        same = frozenset(node for i in wish.same_host if i in known and (node := known[i].node))
        only = same if only is None else only & same
    return only, frozenset(node for i in wish.different_host if i in known and (node := known[i].node))


def _zone(by: Actor, backend: Any) -> str:
    default: str = by.cloud.settings.availability_zone
    return default if backend is None else placing.by_node(by.tx).get(backend.node, default)


def _type(by: Actor, wish: Wish, source: Source) -> TypeInfo | None:
    """The volume's type: the one asked for, that of its source, or the default."""
    if wish.volume_type:
        return volume_types.find(by.tx, by.context, wish.volume_type)
    if source.type_id is not None:
        return volume_types.info(by.tx, source.type_id)
    return volume_types.default(by.tx, by.cloud, by.context)


def _size(wish: Wish, source: Source) -> int:
    size = wish.size or source.size
    if size < 1:
        raise BadRequest("Invalid input received: a volume needs a size in GiB, or something that it is made from.")
    if size < source.size:
        raise BadRequest(
            f"Invalid input received: Volume size '{size}'GB cannot be smaller than what it is made from, which has "
            f"{source.size}GB. They must be >= original size."
        )
    return size


def _source(by: Actor, wish: Wish) -> Source:
    given = [one for one in (wish.image_id, wish.snapshot_id, wish.source_id, wish.backup_id) if one]
    if len(given) > 1:
        raise BadRequest(
            "Invalid input received: a volume is made from one of an image, a snapshot, a volume or a backup."
        )
    if wish.image_id:
        return _of_image(by, wish.image_id)
    if wish.snapshot_id:
        return _of_snapshot(by, wish.snapshot_id)
    if wish.source_id:
        return _of_volume(by, wish.source_id)
    if wish.backup_id:
        return _of_backup(by, wish.backup_id)
    return Source()


def _of_image(by: Actor, image_id: str) -> Source:
    try:
        found = images.get_visible(by.tx, by.context, image_id)
    except NotFound:
        raise BadRequest(f"Invalid image identifier or unable to access requested image: {image_id}.") from None
    if found.status != "active":
        raise BadRequest(f"Invalid input received: Image {image_id} is not active.")
    if not found.size:
        raise BadRequest(f"Invalid input received: Image {image_id} has no content.")
    ref: ImageRef = found.ref()
    need = max(found.min_disk, -(-(found.virtual_size or found.size or 0) // _GIB))
    return Source(
        size=need, bootable=True, image_metadata=image_metadata(found), task={"image": ref}, copied=True
    )


def _of_snapshot(by: Actor, snapshot_id: str) -> Source:
    found = snapshots.get_visible(by.tx, by.context, snapshot_id)
    if found.status != states.AVAILABLE:
        raise BadRequest(
            f"Invalid snapshot: Originating snapshot status must be one of available values, not {found.status}."
        )
    of = volumes.held(by.tx, found.volume_id)
    if of is None:
        raise volumes.missing(found.volume_id)
    node = orders.check_up(by.tx, by.cloud, of)
    return Source(
        size=found.size_gib, nodes=frozenset([node]), type_id=of.type_id, bootable=of.bootable,
        image_metadata=of.image_metadata, task={"snapshot_id": snapshot_id, "snapshot_of": of.id}, copied=True,
    )


def _of_volume(by: Actor, volume_id: str) -> Source:
    found = volumes.get_visible(by.tx, by.context, volume_id)
    of = volumes.held(by.tx, found.id)
    assert of is not None
    if of.status not in _SOURCE_READY:
        raise BadRequest(f"Invalid volume: Source volume {volume_id} is {of.status}; it must be available or in-use.")
    node = orders.check_up(by.tx, by.cloud, of)
    return Source(
        size=of.size, nodes=frozenset([node]), type_id=of.type_id, bootable=of.bootable,
        image_metadata=of.image_metadata, task={"source_volume_id": of.id}, copied=True,
    )


def _of_backup(by: Actor, backup_id: str) -> Source:
    from pileus.volume import backups

    found = backups.get_visible(by.tx, by.context, backup_id)
    if found.status != states.AVAILABLE:
        raise BadRequest(f"Invalid backup: Backup status must be available, but current status is: {found.status}.")
    return Source(
        size=found.size_gib, nodes=frozenset([found.node]), bootable=found.origin.bootable,
        image_metadata=found.origin.image_metadata, task={"backup_id": found.stored_as}, copied=True,
    )

