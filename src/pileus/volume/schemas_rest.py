"""Request bodies and queries of types, QoS specs, quotas, services, transfers, backups and messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.errors import BadRequest
from pileus.web.schemas import Body, Flag, OpenBody, Query, UuidText, since

MOST = 0x7FFFFFFF
"""The largest number that a quota can be."""

Short = Annotated[str, Meta(max_length=255)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
Named = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
"""A name: not only blanks."""

SpecKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]+$(?!\n)")]
Specs = dict[SpecKey, Short]
Metadata = dict[Annotated[str, Meta(min_length=1, max_length=255)], Short]
Amount = Annotated[int, Meta(ge=-1, le=MOST)] | Annotated[str, Meta(pattern=r"^-?[0-9]{1,10}$(?!\n)")]


def number(value: int | str, name: str, least: int = -1) -> int:
    """The meaning of an `Amount`. Raises BadRequest when it is below `least` or beyond what can be stored."""
    meant = int(value)
    if not least <= meant <= MOST:
        raise BadRequest(f"Invalid input for field/attribute {name}: {meant} is not from {least} to {MOST}.")
    return meant


class NoQuery(Query):
    """No parameters."""


# -- types


class TypeNew(Body):
    name: Named
    description: Short | None = None
    extra_specs: Specs = {}
    is_public: Flag = field(name="os-volume-type-access:is_public", default=True)


class TypeNewBody(Body):
    volume_type: TypeNew


class TypeChange(Body):
    name: Short | UnsetType | None = UNSET
    description: Short | UnsetType | None = UNSET
    is_public: Flag | UnsetType = UNSET


class TypeChangeBody(Body):
    volume_type: TypeChange


class SpecsBody(Body):
    extra_specs: Specs


class ProjectAccess(Body):
    project: Text


class TypeAction(Body):
    add: ProjectAccess | UnsetType = field(name="addProjectAccess", default=UNSET)
    remove: ProjectAccess | UnsetType = field(name="removeProjectAccess", default=UNSET)


KeySize = Annotated[int, Meta(ge=1, le=MOST)] | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}$(?!\n)")] | None
Control = Literal["front-end", "back-end"]


class EncryptionNew(OpenBody):
    provider: Text
    control_location: Control = "front-end"
    cipher: Short | None = None
    key_size: KeySize = None


class EncryptionNewBody(Body):
    encryption: EncryptionNew


class EncryptionChange(OpenBody):
    provider: Text | UnsetType = UNSET
    control_location: Control | UnsetType = UNSET
    cipher: Short | UnsetType | None = UNSET
    key_size: KeySize | UnsetType = UNSET


class EncryptionChangeBody(Body):
    encryption: EncryptionChange


class DefaultType(Body):
    volume_type: Text


class DefaultTypeBody(Body):
    default_type: DefaultType


# -- QoS specs


class QosBody(Body):
    qos_specs: dict[SpecKey, str | int | float | bool | None]


class QosKeys(Body):
    keys: Annotated[list[SpecKey], Meta(min_length=1)]


class QosDeleteQuery(Query):
    force: str = "false"


class QosTypeQuery(Query):
    vol_type_id: str | None = None


# -- quotas and limits


class QuotaBody(Body):
    quota_set: dict[str, Any]


class QuotaClassBody(Body):
    quota_class_set: dict[str, Any]


class QuotaQuery(Query):
    usage: str = "false"


class QuotaChangeQuery(Query):
    skip_validation: str = "true"


class LimitsQuery(Query):
    project_id: str | None = None


# -- the cloud's own parts


class ServiceQuery(Query):
    host: str | None = None
    binary: str | None = None
    service: str | None = None


class ServiceChange(OpenBody):
    host: Text | UnsetType = UNSET
    cluster: Short | None = None
    binary: str | UnsetType = UNSET
    service: str | UnsetType = UNSET
    disabled_reason: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None = UNSET


class GetLog(Body):
    binary: Literal["", "*", "cinder-api", "cinder-scheduler", "cinder-volume", "cinder-backup"] = ""
    server: Short | None = None
    prefix: Short | None = None


class SetLog(GetLog):
    level: str | None = None


class HostQuery(Query):
    zone: str | None = None


class PoolQuery(Query):
    detail: str = "false"
    name: str | None = None
    volume_type: str | None = None


class FiltersQuery(Query):
    resource: str | None = None


class ClusterChange(OpenBody):
    """There are no clusters."""


class Cleanup(Body):
    """Which services to clean up after: those that are down, unless more is said."""

    cluster_name: Short | UnsetType | None = UNSET
    service_id: Short | int | UnsetType | None = UNSET
    host: Short | UnsetType | None = UNSET
    binary: Literal["cinder-volume", "cinder-scheduler"] | UnsetType = UNSET
    disabled: Flag | UnsetType = UNSET
    is_up: Flag = False
    resource_id: UuidText | UnsetType | None = UNSET
    resource_type: str | UnsetType | None = UNSET


# -- transfers


class TransferNew(Body):
    volume_id: UuidText
    name: Short | None = None
    no_snapshots: Annotated[Flag | UnsetType, since(3, 55)] = UNSET


class TransferNewBody(Body):
    transfer: TransferNew


class Accept(Body):
    auth_key: Annotated[str, Meta(min_length=1, max_length=255)]


class AcceptBody(Body):
    accept: Accept


# -- backups


class BackupNew(Body):
    volume_id: UuidText
    name: Short | None = None
    description: Short | None = None
    container: Short | None = None
    snapshot_id: UuidText | None = None
    incremental: Flag | None = None
    force: Flag | None = None
    metadata: Annotated[Metadata | UnsetType | None, since(3, 43)] = UNSET
    availability_zone: Annotated[Short | UnsetType | None, since(3, 51)] = UNSET


class BackupNewBody(Body):
    backup: BackupNew


class BackupChange(Body):
    name: Short | UnsetType | None = UNSET
    description: Short | UnsetType | None = UNSET
    metadata: Annotated[Metadata | UnsetType | None, since(3, 43)] = UNSET


class BackupChangeBody(Body):
    backup: BackupChange


class Restore(Body):
    name: Short | None = None
    volume_id: UuidText | None = None


class RestoreBody(Body):
    restore: Restore


class StatusBody(Body):
    status: Text


class Force(OpenBody):
    """An action without arguments."""


class BackupAction(Body):
    reset_status: StatusBody | UnsetType = field(name="os-reset_status", default=UNSET)
    force_delete: Force | UnsetType | None = field(name="os-force_delete", default=UNSET)


class BackupRecord(Body):
    backup_service: Text
    backup_url: Annotated[str, Meta(min_length=1, max_length=65535)]


class BackupRecordBody(Body):
    record: BackupRecord = field(name="backup-record")
