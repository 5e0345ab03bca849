"""Request bodies and queries of volumes, snapshots and attachments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.schemas import Body, Flag, OpenBody, Query, UuidText, since

Text255 = Annotated[str, Meta(max_length=255)]
MetaKey = Annotated[str, Meta(min_length=1, max_length=255)]
Metadata = dict[MetaKey, Text255]
GiB = (
    Annotated[int, Meta(ge=1, le=2**31 - 1)]
    | Annotated[str, Meta(pattern=r"^0*[1-9][0-9]*$", max_length=10)]
)
"""A size, which may come as text: read it with `gib`."""
Host = Annotated[str, Meta(min_length=1, max_length=255)]


def gib(value: int | str) -> int:
    """The meaning of a `GiB`."""
    return int(value)


# -- volumes


class Hints(OpenBody):
    """Hints that placing knows; it ignores others, as every scheduler of the API does."""

    same_host: UuidText | list[UuidText] | None = None
    different_host: UuidText | list[UuidText] | None = None


class NewVolume(OpenBody):
    size: GiB | None = None
    name: Text255 | None = None
    description: Text255 | None = None
    display_name: Text255 | None = None
    display_description: Text255 | None = None
    availability_zone: Text255 | None = None
    volume_type: Text255 | None = None
    snapshot_id: UuidText | None = None
    source_volid: UuidText | None = None
    image_ref: Text255 | None = field(default=None, name="imageRef")
    image_id: Text255 | None = None
    backup_id: Annotated[UuidText | UnsetType | None, since(3, 47)] = UNSET
    group_id: Annotated[UuidText | UnsetType | None, since(3, 13)] = UNSET
    consistencygroup_id: UuidText | None = None
    metadata: Metadata | None = None
    multiattach: Flag | None = None


class StrictNewVolume(NewVolume, forbid_unknown_fields=True):
    """From 3.53 on."""


class NewVolumeBody(Body):
    volume: NewVolume
    hints: Hints | None = field(default=None, name="OS-SCH-HNT:scheduler_hints")


class StrictNewVolumeBody(NewVolumeBody):
    volume: StrictNewVolume


class VolumeChange(Body):
    name: Text255 | UnsetType | None = UNSET
    description: Text255 | UnsetType | None = UNSET
    display_name: Text255 | UnsetType | None = UNSET
    display_description: Text255 | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET


class VolumeChangeBody(Body):
    volume: VolumeChange


class DeleteQuery(Query):
    cascade: str | None = None
    force: str | None = None


class ListQuery(Query):
    """Filters are as many as there are attributes: `listing` reads them."""

    limit: str | None = None
    marker: str | None = None
    offset: str | None = None
    sort: str | None = None
    sort_key: str | None = None
    sort_dir: str | None = None
    all_tenants: str | None = None
    with_count: str | None = None
    name: str | None = None
    status: str | None = None
    metadata: str | None = None


class MetadataBody(Body):
    metadata: Metadata


class MetaItemBody(Body):
    meta: Metadata


# -- actions of volumes


class Extend(Body):
    new_size: GiB


class ExtendCompletion(Body):
    error: Flag = False


class ResetStatus(Body):
    status: Text255 | UnsetType | None = UNSET
    attach_status: Literal["attached", "detached"] | UnsetType | None = UNSET
    migration_status: Text255 | UnsetType | None = UNSET


class ForceDetach(Body):
    attachment_id: UuidText | None = None
    connector: dict[str, Any] | None = None


class Attach(Body):
    mountpoint: Annotated[str, Meta(min_length=1, max_length=255)]
    instance_uuid: UuidText | None = None
    host_name: Text255 | None = None
    mode: Literal["rw", "ro"] | None = None


class Detach(Body):
    attachment_id: UuidText | None = None


class Connector(Body):
    connector: dict[str, Any]


class Bootable(Body):
    bootable: Flag


class ReadOnly(Body):
    readonly: Flag


class Upload(Body):
    image_name: Annotated[str, Meta(max_length=255)]
    force: Flag = False
    disk_format: Literal["raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "ploop"] | None = None
    container_format: Text255 | None = None
    visibility: Annotated[
        Literal["community", "public", "private", "shared"] | UnsetType, since(3, 1)
    ] = UNSET
    protected: Annotated[Flag | UnsetType, since(3, 1)] = UNSET


class Revert(Body):
    snapshot_id: UuidText


class ImageMetadata(Body):
    metadata: Metadata


class ImageKey(Body):
    key: MetaKey


class NoDetails(OpenBody):
    """The value of an action that says all by its name."""


# -- snapshots


class NewSnapshot(OpenBody):
    volume_id: UuidText | None
    name: Text255 | None = None
    description: Text255 | None = None
    display_name: Text255 | None = None
    display_description: Text255 | None = None
    force: Flag | None = None
    metadata: Metadata | None = None


class NewSnapshotBody(Body):
    snapshot: NewSnapshot


class SnapshotChange(OpenBody):
    name: Text255 | UnsetType | None = UNSET
    description: Text255 | UnsetType | None = UNSET
    display_name: Text255 | UnsetType | None = UNSET
    display_description: Text255 | UnsetType | None = UNSET


class SnapshotChangeBody(Body):
    snapshot: SnapshotChange


class SnapshotStatus(OpenBody):
    status: Text255
    progress: Annotated[str, Meta(pattern=r"^[0-9]{1,3}%$")] | None = None


# -- attachments


class NewAttachment(Body):
    volume_uuid: UuidText
    instance_uuid: UuidText | None = None
    connector: dict[str, Any] | None = None
    mode: Annotated[Literal["rw", "ro"] | UnsetType, since(3, 54)] = UNSET


class NewAttachmentBody(Body):
    attachment: NewAttachment


class AttachmentChange(Body):
    connector: dict[str, Any]


class AttachmentChangeBody(Body):
    attachment: AttachmentChange


AttachmentAction = dict[Literal["os-complete"], Any]


def pick(*values: Any) -> Any:
    """The first value that was given, also if it is null; UNSET when none was."""
    return next((value for value in values if value is not UNSET), UNSET)

