"""Request bodies and queries of groups, their types and snapshots, and of what is brought under management."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from pileus.volume.schemas_rest import Force, Metadata, Named, Short, Specs, StatusBody, Text
from pileus.web.schemas import Body, Flag, UuidText, since


class GroupTypeNew(Body):
    name: Named
    description: Short | None = None
    group_specs: Specs = {}
    is_public: Flag = True


class GroupTypeNewBody(Body):
    group_type: GroupTypeNew


class GroupTypeChange(Body):
    name: Short | UnsetType | None = UNSET
    description: Short | UnsetType | None = UNSET
    is_public: Flag | UnsetType = UNSET


class GroupTypeChangeBody(Body):
    group_type: GroupTypeChange


class GroupSpecsBody(Body):
    group_specs: Specs


class GroupNew(Body):
    group_type: Text
    volume_types: Annotated[list[Text], Meta(min_length=1)]
    name: Short | None = None
    description: Short | None = None
    availability_zone: Short | None = None


class GroupNewBody(Body):
    group: GroupNew


class GroupFrom(Body):
    name: Short | None = None
    description: Short | None = None
    group_snapshot_id: UuidText | None = None
    source_group_id: UuidText | None = None


class GroupFromBody(Body):
    source: GroupFrom = field(name="create-from-src")


class GroupChange(Body):
    name: Short | UnsetType | None = UNSET
    description: Short | UnsetType | None = UNSET
    add_volumes: str | UnsetType | None = UNSET
    remove_volumes: str | UnsetType | None = UNSET


class GroupChangeBody(Body):
    group: GroupChange


class GroupDelete(Body):
    volumes: Flag = field(name="delete-volumes", default=False)


class GroupAction(Body):
    delete: GroupDelete | UnsetType = UNSET
    reset_status: Annotated[StatusBody | UnsetType, since(3, 20)] = UNSET
    enable_replication: Annotated[Force | UnsetType | None, since(3, 38)] = UNSET
    disable_replication: Annotated[Force | UnsetType | None, since(3, 38)] = UNSET
    failover_replication: Annotated[Force | UnsetType | None, since(3, 38)] = UNSET
    list_replication_targets: Annotated[Force | UnsetType | None, since(3, 38)] = UNSET


class GroupSnapshotNew(Body):
    group_id: UuidText
    name: Short | None = None
    description: Short | None = None


class GroupSnapshotNewBody(Body):
    group_snapshot: GroupSnapshotNew


class GroupSnapshotAction(Body):
    reset_status: StatusBody


# -- manage


class ManageVolume(Body):
    ref: dict[str, Any]
    host: Text | None = None
    cluster: Annotated[Short | UnsetType | None, since(3, 16)] = UNSET
    name: Short | None = None
    description: Short | None = None
    volume_type: Short | None = None
    availability_zone: Short | None = None
    bootable: Flag = False
    metadata: Metadata | None = None


class ManageVolumeBody(Body):
    volume: ManageVolume


class ManageSnapshot(Body):
    volume_id: Text
    ref: dict[str, Any]
    name: Short | None = None
    description: Short | None = None
    metadata: Metadata | None = None


class ManageSnapshotBody(Body):
    snapshot: ManageSnapshot
