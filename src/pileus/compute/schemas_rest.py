"""Request bodies and queries of everything in compute but servers."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.errors import BadRequest
from pileus.web.schemas import Body, Flag, Query, UuidText, since, until

BIGGEST = 0x7FFFFFFF
"""The largest number that the API takes."""

NameText = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$(?!\n)"),
]
"""Printable, without blanks at the ends."""

HostText = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-._]*$(?!\n)")]
ProjectText = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]*$(?!\n)")]
Amount = Annotated[int, Meta(ge=-1, le=BIGGEST)] | Annotated[str, Meta(pattern=r"^-?[0-9]{1,10}$(?!\n)")]
"""A number that may come as text; read it with `number`."""


def number(value: int | str, name: str, least: int = 0) -> int:
    """The meaning of an `Amount`. Raises BadRequest when it is below `least` or beyond what can be stored."""
    meant = int(value)
    if not least <= meant <= BIGGEST:
        raise BadRequest(f"Invalid input for field {name}: {meant} is not from {least} to {BIGGEST}.")
    return meant


_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def is_uuid(text: str) -> bool:
    """Whether a path's parameter can be the id of a service or hypervisor from 2.53 on."""
    return _UUID.fullmatch(text) is not None


class Paged(Query):
    """The parameters of lists that page."""

    limit: Annotated[int, Meta(ge=0)] | None = None
    marker: str | None = None


@functools.cache
def strict(query: type[Query]) -> type[Query]:
    """The same query with unknown parameters refused, as from 2.75 on."""
    made = msgspec.defstruct(
        f"{query.__name__}Strict", [], bases=(query,), kw_only=True, forbid_unknown_fields=True, module=__name__
    )
    return cast(type[Query], made)


class NoQuery(Query):
    """No parameters."""


# -- flavors


class FlavorQuery(Paged):
    is_public: str | None = None
    min_ram: Annotated[int, Meta(ge=-BIGGEST, le=BIGGEST)] | None = field(default=None, name="minRam")
    min_disk: Annotated[int, Meta(ge=-BIGGEST, le=BIGGEST)] | None = field(default=None, name="minDisk")
    sort_key: str = "flavorid"
    sort_dir: Literal["asc", "desc"] = "asc"


class FlavorNew(Body):
    name: NameText
    ram: Amount
    vcpus: Amount
    disk: Amount
    id: (
        Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^(?! )[a-zA-Z0-9. _-]+(?<! )$(?!\n)")]
        | int | float | None
    ) = None
    ephemeral: Amount = field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: Amount = 0
    rxtx_factor: float | Annotated[str, Meta(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)?$(?!\n)")] = 1.0
    is_public: Flag = field(default=True, name="os-flavor-access:is_public")
    description: Annotated[
        Annotated[str, Meta(max_length=65535)] | UnsetType | None, since(2, 55)
    ] = UNSET


class FlavorNewBody(Body):
    flavor: FlavorNew


class FlavorChange(Body):
    description: Annotated[str, Meta(max_length=65535)] | None


class FlavorChangeBody(Body):
    flavor: FlavorChange


SpecKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-_:. ]{1,255}$(?!\n)")]
SpecValue = Annotated[str, Meta(max_length=255)] | int | float
Specs = dict[SpecKey, SpecValue]


class SpecsBody(Body):
    extra_specs: Specs


class Tenant(Body):
    tenant: ProjectText


class FlavorAction(Body):
    """One of the two."""

    add: Tenant | UnsetType = field(default=UNSET, name="addTenantAccess")
    remove: Tenant | UnsetType = field(default=UNSET, name="removeTenantAccess")


# -- services, hypervisors, hosts

Reason = Annotated[str, Meta(min_length=1, max_length=255)]


class ServiceQuery(Query):
    host: str | None = None
    binary: str | None = None


class ServiceOldChange(Body):
    host: HostText
    binary: Annotated[str, Meta(min_length=1, max_length=255)]
    disabled_reason: Reason | UnsetType = UNSET
    forced_down: Annotated[Flag | UnsetType, since(2, 11)] = UNSET


class ServiceChange(Body):
    status: Literal["enabled", "disabled"] | UnsetType = UNSET
    disabled_reason: Reason | UnsetType = UNSET
    forced_down: Flag | UnsetType = UNSET


class HypervisorQuery(Paged):
    pattern: str | None = field(default=None, name="hypervisor_hostname_pattern")
    with_servers: Flag = False


class HypervisorOne(Query):
    with_servers: Flag = False


class HostQuery(Query):
    service: str | None = None
    zone: str | None = None


class HostChange(Body):
    status: Literal["enable", "disable"] | None = None
    maintenance_mode: Literal["enable", "disable"] | None = None


# -- aggregates

ZoneText = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=r"^[^\s:\x00-\x1f\x7f]([^:\x00-\x1f\x7f]*[^\s:\x00-\x1f\x7f])?$(?!\n)"),
]


class AggregateNew(Body):
    name: NameText
    availability_zone: ZoneText | None = None


class AggregateNewBody(Body):
    aggregate: AggregateNew


class AggregateChange(Body):
    name: NameText | UnsetType = UNSET
    availability_zone: ZoneText | UnsetType | None = UNSET


class AggregateChangeBody(Body):
    aggregate: AggregateChange


class HostRef(Body):
    host: HostText


class AggregateMetadata(Body):
    metadata: dict[SpecKey, Annotated[str, Meta(max_length=255)] | None]


class AggregateAction(Body):
    """One of the three."""

    add_host: HostRef | UnsetType = UNSET
    remove_host: HostRef | UnsetType = UNSET
    set_metadata: AggregateMetadata | UnsetType = UNSET


class ImageIdRef(Body):
    id: UuidText


class CacheBody(Body):
    cache: Annotated[list[ImageIdRef], Meta(min_length=1)]


# -- quotas and limits


class UserQuery(Query):
    user_id: str | None = None


class LimitsQuery(Query):
    tenant_id: str | None = None
    reserved: str | None = None  # meant something once


_NetworkQuota = Annotated[Amount | UnsetType, until(2, 35)]
_InjectedQuota = Annotated[Amount | UnsetType, until(2, 56)]


class _Quotas(Body):
    instances: Amount | UnsetType = UNSET
    cores: Amount | UnsetType = UNSET
    ram: Amount | UnsetType = UNSET
    metadata_items: Amount | UnsetType = UNSET
    key_pairs: Amount | UnsetType = UNSET
    injected_files: _InjectedQuota = UNSET
    injected_file_content_bytes: _InjectedQuota = UNSET
    injected_file_path_bytes: _InjectedQuota = UNSET


class QuotaChange(_Quotas):
    server_groups: Amount | UnsetType = UNSET
    server_group_members: Amount | UnsetType = UNSET
    floating_ips: _NetworkQuota = UNSET
    fixed_ips: _NetworkQuota = UNSET
    security_groups: _NetworkQuota = UNSET
    security_group_rules: _NetworkQuota = UNSET
    force: Flag = False


class QuotaChangeBody(Body):
    quota_set: QuotaChange


_ClassNetwork = Annotated[Amount | UnsetType, until(2, 49)]


class QuotaClassChange(_Quotas):
    server_groups: Annotated[Amount | UnsetType, since(2, 50)] = UNSET
    server_group_members: Annotated[Amount | UnsetType, since(2, 50)] = UNSET
    floating_ips: _ClassNetwork = UNSET
    fixed_ips: _ClassNetwork = UNSET
    security_groups: _ClassNetwork = UNSET
    security_group_rules: _ClassNetwork = UNSET


class QuotaClassChangeBody(Body):
    quota_class_set: QuotaClassChange


# -- key pairs


class KeypairUser(Query):
    user_id: str | None = None


class KeypairQuery(KeypairUser):
    limit: Annotated[int, Meta(ge=0)] | None = None
    marker: str | None = None


class KeypairNew(Body):
    name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[_\-@. a-zA-Z0-9]+$(?!\n)")]
    public_key: Annotated[str, Meta(max_length=65535)] | UnsetType = UNSET
    type: Annotated[Literal["ssh", "x509"] | UnsetType, since(2, 2)] = UNSET
    user_id: Annotated[ProjectText | UnsetType, since(2, 10)] = UNSET


class KeypairNewBody(Body):
    keypair: KeypairNew


# -- server groups

Policy = Literal["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]


class GroupRules(Body):
    max_server_per_host: Amount | UnsetType = UNSET


class GroupNew(Body):
    name: NameText
    policies: Annotated[Annotated[list[Policy], Meta(min_length=1, max_length=1)] | UnsetType, until(2, 63)] = UNSET
    policy: Annotated[Policy | UnsetType, since(2, 64)] = UNSET
    rules: Annotated[GroupRules | UnsetType, since(2, 64)] = UNSET


class GroupNewBody(Body):
    server_group: GroupNew


class GroupQuery(Query):
    all_projects: str | None = None
    limit: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0, le=2**62)] = 0


# -- usage, migrations, events


class UsageQuery(Paged):
    start: str | None = None
    end: str | None = None
    detailed: str = "0"


class MigrationQuery(Paged):
    hidden: str | None = None
    host: str | None = None
    instance_uuid: str | None = None
    migration_type: str | None = None
    source_compute: str | None = None
    status: str | None = None


class MigrationQuery59(MigrationQuery):
    changes_since: str | None = field(default=None, name="changes-since")


class MigrationQuery66(MigrationQuery59):
    changes_before: str | None = field(default=None, name="changes-before")


class MigrationQuery80(MigrationQuery66):
    user_id: str | None = None
    project_id: str | None = None


class ExternalEvent(Body):
    name: str
    server_uuid: UuidText
    status: Literal["failed", "completed", "in-progress"] = "completed"
    tag: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class ExternalEventsBody(Body):
    events: Annotated[list[ExternalEvent], Meta(min_length=1)]


# -- proxies


class Limited(Query):
    all_tenants: str | None = None
    limit: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    offset: Annotated[int, Meta(ge=0, le=10**9)] = 0


class SecurityGroupText(Body):
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    description: Annotated[str, Meta(max_length=255)] | None = ""


class SecurityGroupBody(Body):
    security_group: SecurityGroupText


class SecurityRuleNew(Body):
    parent_group_id: Annotated[str, Meta(max_length=255)]
    ip_protocol: Annotated[str, Meta(max_length=255)] | None = None
    from_port: Amount | None = None
    to_port: Amount | None = None
    cidr: Annotated[str, Meta(max_length=255)] | None = None
    group_id: Annotated[str, Meta(max_length=255)] | None = None


class SecurityRuleBody(Body):
    security_group_rule: SecurityRuleNew


class PoolBody(Body):
    pool: Annotated[str, Meta(max_length=255)] | None = None


class ImageQuery(Paged):
    changes_since: str | None = field(default=None, name="changes-since")
    name: str | None = None
    status: str | None = None
    server: str | None = None
    type: str | None = None
    min_disk: Annotated[int, Meta(ge=0, le=BIGGEST)] | None = field(default=None, name="minDisk")
    min_ram: Annotated[int, Meta(ge=0, le=BIGGEST)] | None = field(default=None, name="minRam")


MetaKey = Annotated[str, Meta(min_length=1, max_length=255)]
MetaValue = Annotated[str, Meta(max_length=255)]


class ImageMetadata(Body):
    metadata: dict[MetaKey, MetaValue]


class ImageMeta(Body):
    meta: dict[MetaKey, MetaValue]
