"""Request bodies and queries of servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.compute.schemas_volumes import BlockDevice, DeviceTag, OldBlockDevice
from pileus.web.schemas import Body, Count, Flag, OpenBody, Query, UuidText, since, until

PrintText = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^\S(.*\S)?$")]
"""A name: no blanks at its ends, no control characters (`servers.check_name`)."""

Description = Annotated[str, Meta(max_length=255)] | None
TagText = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/]*$")]
HostName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-._]*$")]
Password = Annotated[str, Meta(max_length=255)]
MetaKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]{1,255}$")]
Metadata = dict[MetaKey, Annotated[str, Meta(max_length=255)]]
DiskConfig = Literal["AUTO", "MANUAL"]
UserData = Annotated[str, Meta(max_length=65535)]
Personality = list[dict[str, str]]
Positive = Annotated[int, Meta(ge=1, le=10**6)] | Annotated[str, Meta(pattern=r"^0*[1-9][0-9]*$", max_length=8)]


# -- POST /servers


class NetworkWish(Body):
    uuid: Annotated[str, Meta(max_length=255)] | None = None
    port: UuidText | None = None
    fixed_ip: Annotated[str, Meta(max_length=45)] | None = None
    tag: Annotated[DeviceTag | UnsetType, since(2, 32)] = UNSET


class GroupName(Body):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class Hints(OpenBody):
    """Hints that the scheduler knows; it ignores others, as every scheduler of the API does."""

    group: UuidText | list[UuidText] | None = None
    same_host: UuidText | list[UuidText] | None = None
    different_host: UuidText | list[UuidText] | None = None
    build_near_host_ip: Annotated[str, Meta(max_length=45)] | None = None
    cidr: Annotated[str, Meta(pattern=r"^/[0-9a-fA-F.:]+$", max_length=45)] | None = None
    query: Annotated[str, Meta(max_length=4096)] | list[Any] | None = None


class NewServer(Body):
    name: PrintText
    flavor: Annotated[str, Meta(min_length=1, max_length=2048)] | Annotated[int, Meta(ge=0, le=2**31)] = field(
        name="flavorRef"
    )
    image: Annotated[str, Meta(max_length=2048)] = field(default="", name="imageRef")
    password: Password | UnsetType = field(default=UNSET, name="adminPass")
    metadata: Metadata = {}
    networks: list[NetworkWish] | Literal["auto", "none"] | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")
    access_ip_v4: str = field(default="", name="accessIPv4")
    access_ip_v6: str = field(default="", name="accessIPv6")
    personality: Annotated[Personality | UnsetType, until(2, 56)] = UNSET
    availability_zone: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    block_device_mapping: list[OldBlockDevice] = []
    block_device_mapping_v2: list[BlockDevice] = []
    config_drive: Flag | UnsetType = UNSET
    key_name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    min_count: Positive = 1
    max_count: Positive | UnsetType = UNSET
    return_reservation_id: Flag = False
    security_groups: list[GroupName] | UnsetType = UNSET
    user_data: UserData | None = None
    description: Annotated[Description | UnsetType, since(2, 19)] = UNSET
    tags: Annotated[Annotated[list[TagText], Meta(max_length=50)] | UnsetType, since(2, 52)] = UNSET
    trusted_certificates: Annotated[list[str] | UnsetType | None, since(2, 63)] = field(
        default=UNSET, name="trusted_image_certificates"
    )
    host: Annotated[HostName | UnsetType, since(2, 74)] = UNSET
    hypervisor_hostname: Annotated[HostName | UnsetType, since(2, 74)] = UNSET
    hostname: Annotated[HostName | UnsetType, since(2, 90)] = UNSET


class NewServerBody(Body):
    server: NewServer
    hints: Hints = field(default_factory=Hints, name="os:scheduler_hints")
    old_hints: Hints | UnsetType = field(default=UNSET, name="OS-SCH-HNT:scheduler_hints")


# -- PUT /servers/{id} and what hangs on a server


class ServerChange(Body):
    name: PrintText | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")
    access_ip_v4: str | UnsetType = field(default=UNSET, name="accessIPv4")
    access_ip_v6: str | UnsetType = field(default=UNSET, name="accessIPv6")
    description: Annotated[Description | UnsetType, since(2, 19)] = UNSET
    hostname: Annotated[HostName | UnsetType, since(2, 90)] = UNSET


class ServerChangeBody(Body):
    server: ServerChange


class MetadataBody(Body):
    metadata: Metadata


class MetaItemBody(Body):
    meta: Annotated[Metadata, Meta(min_length=1, max_length=1)]


class TagsBody(Body):
    tags: Annotated[list[TagText], Meta(max_length=50)]


class ActionsQuery(Query):
    limit: Annotated[int, Meta(ge=0)] | None = None
    marker: str | None = None
    changes_since: str | None = field(default=None, name="changes-since")
    changes_before: str | None = field(default=None, name="changes-before")


# -- POST /servers/{id}/action: the one value of the body's one key


class Reboot(Body):
    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class Rebuild(Body):
    image: Annotated[str, Meta(min_length=1, max_length=2048)] = field(name="imageRef")
    name: PrintText | UnsetType = UNSET
    password: Password | UnsetType = field(default=UNSET, name="adminPass")
    metadata: Metadata | UnsetType = UNSET
    preserve_ephemeral: Flag = False
    disk_config: DiskConfig | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")
    access_ip_v4: str | UnsetType = field(default=UNSET, name="accessIPv4")
    access_ip_v6: str | UnsetType = field(default=UNSET, name="accessIPv6")
    personality: Annotated[Personality | UnsetType, until(2, 56)] = UNSET
    description: Annotated[Description | UnsetType, since(2, 19)] = UNSET
    key_name: Annotated[Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None, since(2, 54)] = UNSET
    user_data: Annotated[UserData | UnsetType | None, since(2, 57)] = UNSET
    trusted_certificates: Annotated[list[str] | UnsetType | None, since(2, 63)] = field(
        default=UNSET, name="trusted_image_certificates"
    )
    hostname: Annotated[HostName | UnsetType, since(2, 90)] = UNSET


class Resize(Body):
    flavor: Annotated[str, Meta(min_length=1, max_length=2048)] | Annotated[int, Meta(ge=0, le=2**31)] = field(
        name="flavorRef"
    )
    disk_config: DiskConfig | UnsetType = field(default=UNSET, name="OS-DCF:diskConfig")


class CreateImage(Body):
    name: PrintText
    metadata: Metadata = {}


class CreateBackup(Body):
    name: PrintText
    backup_type: Annotated[str, Meta(max_length=255)]
    rotation: Count
    metadata: Metadata = {}


class ConsoleLog(Body):
    length: int | Annotated[str, Meta(pattern=r"^-?[0-9]+$", max_length=12)] | None = None


class OldConsole(Body):
    type: Annotated[str, Meta(max_length=255)]


class RemoteConsole(Body):
    protocol: Literal["vnc", "spice", "rdp", "serial", "mks"]
    type: Literal["novnc", "xvpvnc", "spice-html5", "rdp-html5", "serial", "webmks"]


class RemoteConsoleBody(Body):
    remote_console: RemoteConsole


class Lock(Body):
    locked_reason: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET


class Rescue(Body):
    password: Password | UnsetType = field(default=UNSET, name="adminPass")
    image: Annotated[str, Meta(min_length=1, max_length=2048)] | UnsetType = field(
        default=UNSET, name="rescue_image_ref"
    )


class Unshelve(Body):
    availability_zone: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None, since(2, 77)
    ] = UNSET
    host: Annotated[HostName | UnsetType, since(2, 91)] = UNSET


class ChangePassword(Body):
    password: Password = field(name="adminPass")


class ResetState(Body):
    state: Literal["active", "error"]


class SecurityGroupName(Body):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


class AddFixedIp(Body):
    network: Annotated[str, Meta(min_length=1, max_length=64)] | int = field(name="networkId")


class RemoveFixedIp(Body):
    address: Annotated[str, Meta(max_length=45)]


class AddFloatingIp(Body):
    address: Annotated[str, Meta(max_length=45)]
    fixed_address: Annotated[str, Meta(max_length=45)] | None = None


class ForceCompleteBody(Body):
    force_complete: None


class Migrate(Body):
    host: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class LiveMigrate(Body):
    host: HostName | None
    block_migration: Flag | Literal["auto"]
    disk_over_commit: Annotated[Flag | UnsetType, until(2, 24)] = UNSET
    force: Annotated[Flag | UnsetType, since(2, 30), until(2, 67)] = UNSET


class Evacuate(Body):
    host: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    on_shared_storage: Annotated[Flag | UnsetType, until(2, 13)] = field(default=UNSET, name="onSharedStorage")
    admin_pass: Annotated[str, Meta(max_length=255)] | UnsetType = field(default=UNSET, name="adminPass")
    force: Annotated[Flag | UnsetType, since(2, 29), until(2, 67)] = UNSET


# -- POST /servers/{id}/os-interface


class FixedIp(Body):
    ip_address: Annotated[str, Meta(max_length=45)]


class NewInterface(Body):
    net_id: UuidText | None = None
    port_id: UuidText | None = None
    fixed_ips: Annotated[list[FixedIp], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    tag: Annotated[DeviceTag | UnsetType, since(2, 49)] = UNSET


class NewInterfaceBody(Body):
    wish: NewInterface | None = field(default=None, name="interfaceAttachment")


# -- what rows hold as JSON


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What later actions need of the image that a server was made from, as it was then."""

    id: str
    disk_format: str
    size: int
    sha512: str
    virtual_size: int = 0
    min_disk: int = 0
    min_ram: int = 0
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    properties: dict[str, str] = {}
    volume: bool = False  # it is on the volume that the server boots from; then all may be empty but the properties


class FlavorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A flavor as it was when a server got it. RAM and swap in MiB, disks in GiB."""

    seq: int
    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    ephemeral: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    extra_specs: dict[str, str] = {}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a server is in error."""

    code: int
    message: str
    created: float
    details: str = ""
