"""Request bodies about the volumes of servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.schemas import Body, Flag, Query, UuidText, since

DeviceTag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]
DeviceName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._/-]*$")]
AnyId = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._-]*$")]
Short = Annotated[str, Meta(max_length=255)]
Gib = Annotated[int, Meta(ge=0, le=2**31 - 1)] | Annotated[str, Meta(pattern=r"^[0-9]*$", max_length=10)]
"""A size that may come as text; "" is none."""

BootIndex = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=8)]


# -- POST /servers


class OldBlockDevice(Body):
    """One of `block_device_mapping`, as EC2 had it."""

    device_name: DeviceName | None = None
    virtual_name: Short | None = None
    volume_id: AnyId | None = None
    snapshot_id: AnyId | None = None
    volume_size: Gib | None = None
    delete_on_termination: Flag | None = None
    no_device: Any = None
    connection_info: Short | None = None


class BlockDevice(OldBlockDevice):
    """One of `block_device_mapping_v2`."""

    source_type: Literal["volume", "image", "snapshot", "blank"] | None = None
    destination_type: Literal["local", "volume"] | None = None
    uuid: AnyId | None = None
    image_id: UuidText | None = None
    guest_format: Short | None = None
    device_type: Short | None = None
    disk_bus: Short | None = None
    boot_index: BootIndex | None = None
    tag: Annotated[DeviceTag | UnsetType, since(2, 32)] = UNSET
    volume_type: Annotated[Short | UnsetType | None, since(2, 67)] = UNSET


class ImageDevice(msgspec.Struct, kw_only=True):
    """One of the property `block_device_mapping` of an image that was made of a server which boots from volumes."""

    source_type: str = ""
    destination_type: str = "volume"
    snapshot_id: str | None = None
    volume_id: str | None = None
    volume_size: int | None = None
    volume_type: str | None = None
    device_name: str | None = None
    boot_index: int | None = None
    delete_on_termination: bool = False
    guest_format: str | None = None
    no_device: Any = None
    tag: str | None = None


# -- /servers/{id}/os-volume_attachments


class NewAttachment(Body):
    volume: UuidText = field(name="volumeId")
    device: DeviceName | None = None
    tag: Annotated[DeviceTag | UnsetType, since(2, 49)] = UNSET
    delete_on_termination: Annotated[Flag | UnsetType, since(2, 79)] = UNSET


class NewAttachmentBody(Body):
    attachment: NewAttachment = field(name="volumeAttachment")


class AttachmentChange(Body):
    volume: UuidText = field(name="volumeId")
    id: Annotated[UuidText | UnsetType, since(2, 85)] = UNSET
    server: Annotated[UuidText | UnsetType, since(2, 85)] = field(default=UNSET, name="serverId")
    device: Annotated[DeviceName | UnsetType | None, since(2, 85)] = UNSET
    tag: Annotated[DeviceTag | UnsetType | None, since(2, 85)] = UNSET
    delete_on_termination: Annotated[Flag | UnsetType, since(2, 85)] = UNSET


class AttachmentChangeBody(Body):
    attachment: AttachmentChange = field(name="volumeAttachment")


class AttachmentQuery(Query):
    limit: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0)] | None = None


# -- /os-volumes and /os-snapshots, up to 2.35


class OldVolume(Body):
    size: Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^0*[1-9][0-9]*$", max_length=10)]
    display_name: Short | None = None
    display_description: str | None = None
    volume_type: Short | None = None
    metadata: dict[str, str] | None = None
    snapshot_id: Short | None = None
    availability_zone: Short | None = None


class OldVolumeBody(Body):
    volume: OldVolume


class OldSnapshot(Body):
    volume_id: Short
    force: Flag = False
    display_name: Short | None = None
    display_description: str | None = None


class OldSnapshotBody(Body):
    snapshot: OldSnapshot
